"""A framework in a process of its own, so that its memory is its own, called over a pipe."""

import importlib
import multiprocessing
import os
import resource
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

NONE: Mapping[str, str] = MappingProxyType({})
_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss


class Process:
  """Runs the class `Worker` of a module in a fresh process."""

  def __init__(self, module: str, *arguments: Any, environment: Mapping[str, str] = NONE):
    """Starts the process, with some more environment, and makes `Worker(*arguments)` in it."""
    context = multiprocessing.get_context("spawn")
    self._pipe, other = context.Pipe()
    self._process = context.Process(target=_serve, args=(other, module, arguments), daemon=True)
    with _environment(environment):
      self._process.start()
    other.close()
    self._receive()

  def call(self, method: str, *arguments: Any) -> Any:
    """Calls a method of the worker and waits for its result."""
    self._pipe.send((method, arguments))
    return self._receive()

  def cpu_seconds(self) -> float:
    """Seconds of processor time that the worker has taken; 0 where the system does not tell."""
    try:
      with open(f"/proc/{self._process.pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    except OSError:
      return 0.0
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

  def close(self) -> None:
    """Ends the process."""
    self._pipe.close()
    self._process.join()

  def _receive(self) -> Any:
    try:
      result, error = self._pipe.recv()
    except EOFError:
      self._process.join()
      code = self._process.exitcode
      raise RuntimeError(f"a worker died with exit code {code}; out of memory?") from None
    if error:
      raise RuntimeError(f"in a worker:\n{error}")
    return result


@contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
  """While entered, processes that begin have these variables, too."""
  before = dict(os.environ)
  os.environ.update(more)
  try:
    yield
  finally:
    os.environ.clear()
    os.environ.update(before)


def _serve(pipe: Any, module: str, arguments: tuple[Any, ...]) -> None:
  """The process: makes the worker, then answers calls until the pipe closes."""
  # On a GPU the other framework's worker needs room beside this one.
  os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
  worker = None
  try:
    worker = importlib.import_module(module).Worker(*arguments)
    pipe.send((None, None))
    while True:
      method, arguments = pipe.recv()
      pipe.send((getattr(worker, method)(*arguments), None))
  except (EOFError, KeyboardInterrupt):
    return
  except Exception:
    pipe.send((None, traceback.format_exc()))


def machine_cpu_seconds() -> float:
  """Seconds of processor time that all processes, and other machines on this host, have taken."""
  try:
    with open("/proc/stat") as file:
      user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
  except OSError:  # not Linux
    return 0.0
  return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def resident() -> int:
  """Bytes of this process' resident memory; starts the count of `peak` anew where it can."""
  try:
    with open("/proc/self/clear_refs", "w") as file:
      file.write("5")
    with open("/proc/self/statm") as file:
      return int(file.read().split()[1]) * resource.getpagesize()
  except OSError:  # not Linux, or forbidden: then what came before counts, too
    return peak()


def peak() -> int:
  """Bytes of this process' largest resident memory, since `resident` was called."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
