"""Signs of life: what the program is doing, said at once and again while it lasts.

Nothing here needs jax, so that the command line can speak before it is loaded.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from dcjax.common.quantities import duration

logger = logging.getLogger("dcjax")
logger.setLevel(logging.INFO)  # a level that a user sets later holds

LOG_SECONDS = 5.0  # between two lines that say what goes on
REFRESH_SECONDS = 1.0  # between two looks of a thread at a bar
_FALLBACK_SIZE = {"ncols": 79, "nrows": 24}  # of a terminal that says it is 0 columns wide


class Lines(logging.StreamHandler):
  """Writes log lines to stderr, above the bars that are there."""

  def __init__(self) -> None:
    """Begins each line with the time of day."""
    super().__init__()
    self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))

  def emit(self, record: logging.LogRecord) -> None:
    """Writes one to where stderr is now; notebooks replace that, and paint it red, so to stdout."""
    from tqdm import tqdm

    stream = sys.stdout if in_notebook() else sys.stderr
    try:
      tqdm.write(self.format(record), file=stream)
      stream.flush()
    except Exception:  # as logging's own handlers do: a log that ends does not end the run
      self.handleError(record)


def in_notebook() -> bool:
  """Whether this process is the kernel of a notebook."""
  return "ipykernel" in sys.modules


class _Unconfigured(Lines):
  """Speaks where the user has not said what to do with log lines."""

  def filter(self, record: logging.LogRecord) -> bool:
    """Whether nobody else listens."""
    return not logging.root.handlers and bool(super().filter(record))


logger.addHandler(_Unconfigured())
if in_notebook():  # before absl does it, in a format of its own, at the first line that it logs
  logging.basicConfig(handlers=[Lines()])


@contextmanager
def ticking(tick: Callable[[], None], seconds: float) -> Iterator[None]:
  """While entered, a thread calls a function every so many seconds."""
  over = threading.Event()

  def run() -> None:
    while not over.wait(seconds):
      tick()

  thread = threading.Thread(target=run, daemon=True)
  thread.start()
  try:
    yield
  finally:
    over.set()
    thread.join()


@contextmanager
def working(text: str) -> Iterator[Callable[[str], None]]:
  """Logs what a `with` block does, at once, and every five seconds that it still does.

  Args:
    text: what that is at first.

  Yields:
    `say(text)`, which logs what it does from now on.
  """
  doing, since = text, 0.0

  def say(text: str) -> None:
    nonlocal doing, since
    doing, since = text, time.monotonic()
    logger.info(text)

  say(text)
  with ticking(lambda: log_still(doing, time.monotonic() - since), LOG_SECONDS):
    yield say


def log_still(text: str, seconds: float) -> None:
  """Logs what has been going on for so many seconds."""
  logger.info("still %s, %.0f s", text, seconds)


class Pieces:
  """A work of equal pieces: how far it is, and how long the rest takes by those done so far."""

  def __init__(self, total: int, name: str = "", done: int = 0):
    """Begins now.

    Args:
      total: pieces in all.
      name: what they are called, such as 'networks'.
      done: by earlier starts, whose time is not known.
    """
    self._total, self._name, self._first = total, name, done
    self._start = time.monotonic()

  def far(self, done: int, *more: str) -> str:
    """Such as '3 of 20 networks, accuracy 0.2831, 4 min left'; `more` is what stands between."""
    parts = [f"{done} of {self._total} {self._name}".rstrip(), *more]
    if self._first < done < self._total:
      each = (time.monotonic() - self._start) / (done - self._first)
      parts.append(f"{duration(each * (self._total - done))} left")
    return ", ".join(parts)


def make_bar(**options: Any) -> Any:
  """A bar of tqdm with its options: on a terminal and in a notebook; elsewhere it shows nothing."""
  from tqdm.auto import tqdm

  size = {"dynamic_ncols": True} if _columns() else _FALLBACK_SIZE
  return tqdm(**({"disable": not shows_bars()} | size | options))


def shows_bars() -> bool:
  """Whether stderr is a terminal, or a notebook with widgets."""
  from tqdm.auto import tqdm
  from tqdm.notebook import tqdm_notebook

  return sys.stderr.isatty() or issubclass(tqdm, tqdm_notebook)


def _columns() -> int:
  """How wide the terminal says that it is."""
  try:
    return os.get_terminal_size(sys.stderr.fileno()).columns
  except (OSError, ValueError, AttributeError):  # no terminal; in a notebook, no such number
    return 0


def counted(items: Iterable[Any], text: str, total: int) -> Iterator[Any]:
  """Yields items, and shows how many were taken: by a bar, or by a log line now and then.

  Args:
    items: any.
    text: what is done with them.
    total: how many there are.
  """
  number, pieces = 0, Pieces(total)
  if shows_bars():
    with make_bar(total=total, desc=text) as bar, ticking(bar.refresh, REFRESH_SECONDS):
      for item in items:
        yield item
        bar.update()
    return
  logger.info("%s: %d", text, total)
  with ticking(lambda: logger.info("%s: %s", text, pieces.far(number)), LOG_SECONDS):
    for item in items:
      yield item
      number += 1
