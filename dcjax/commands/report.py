"""The driver of `dcjax report`: a page of runs, as a file or live; the runs are only read."""

import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from dcjax.commands import status
from dcjax.common.errors import UserError
from dcjax.common.files import check_new, expand, writing
from dcjax.pages import gather, page, serve
from dcjax.pages.gather import Run

Workdirs = Sequence[str | os.PathLike[str]]


def report(workdirs: Workdirs, output: str | os.PathLike[str]) -> Path:
  """Writes a page of runs and selections, finished or not.

  Args:
    workdirs: their folders, or folders of such folders.
    output: an HTML file, which must not be there yet.

  Returns:
    The file.

  Raises:
    UserError: there is no run in one of the folders, or none can be read, or the file cannot be
      written.
  """
  file = expand("--output", output)
  check_new("--output", file)
  runs, left_out = Follower(workdirs).look()
  text = page.render(runs, page.images(runs), left_out)
  try:
    with writing(file, "wb") as stream:
      stream.write(text.encode("utf-8", "replace"))
  except OSError as error:
    raise UserError(f"--output: cannot write {file} ({error.strerror}); give another") from None
  return file


def live(workdirs: Workdirs, port: int = serve.PORT) -> ThreadingHTTPServer:
  """A server of a page that follows runs; its `serve_forever` begins to answer.

  Args:
    workdirs: as of `report`.
    port: of 127.0.0.1; 0: any that is free.

  Raises:
    UserError: there is no run in one of the folders, or the port is taken.
  """
  follower = Follower(workdirs)
  follower.look()
  return serve.bound(port, follower.html, follower.state)


class Follower:
  """Reads runs, again and again where they go on; keeps what takes long and stays the same."""

  def __init__(self, workdirs: Workdirs):
    """Reads nothing yet."""
    if not workdirs:
      raise UserError("report: no workdir; write dcjax report W --output report.html")
    self._workdirs = workdirs
    self._kept: dict[Any, Any] = {}
    self._shown: tuple[str, page.Images] | None = None

  def look(self) -> tuple[list[Run], list[str]]:
    """The runs as they are now, and what is said of those that cannot be read.

    Raises:
      UserError: there is none.
    """
    runs, problems = [], []
    for given in self._workdirs:
      root = expand("report", given)
      for found in status.find(root, "report"):
        if isinstance(found, status.Unknown):
          problems.append(found.problem.removeprefix("report: "))
        else:
          name = os.path.join(os.fspath(given), found.path.relative_to(root))
          runs.append(self._run(name.removesuffix("/."), found))
    if not runs:
      raise UserError(f"report: {problems[0]}")
    return runs, problems

  def html(self) -> str:
    """The live page."""
    runs, left_out = self.look()
    return page.render(runs, self._images(runs), left_out, live=True)

  def state(self, with_images: bool) -> dict[str, Any]:
    """What the live page asks for."""
    runs, _ = self.look()
    return page.state(runs, self._images(runs), with_images=with_images)

  def _images(self, runs: Sequence[Run]) -> page.Images:
    """Those of the last look, as long as no set has been written since."""
    version = page.version(runs)
    if self._shown is None or self._shown[0] != version:
      self._shown = version, page.images(runs)
    return self._shown[1]

  def _run(self, name: str, found: status.Run) -> Run:
    fields = gather.flat(found.config)
    key = repr(fields)
    command, paper, notes = self._once(key, lambda: gather.repeated(found.config))
    sets, final = gather.sets(found.path)
    damaged = [f"{text}; what it says is left out." for text in found.damaged]
    if not found.summary:
      damaged.append("There is no summary yet: the same command as before goes on with the run.")
    return Run(
      name=name,
      state=_state(found),
      finished=found.state == status.FINISHED,
      iteration=found.iteration,
      fields=fields,
      losses=found.losses,
      evaluations=found.history,
      summary=found.summary,
      sets=sets,
      final=final,
      command=command,
      paper=lambda *of: self._once((key, *of), lambda: paper(*of)),
      notes=(*damaged, *notes),
    )

  def _once(self, key: Any, make: Callable[[], Any]) -> Any:
    """What is made when it is first asked for."""
    if key not in self._kept:
      self._kept[key] = make()
    return self._kept[key]


def _state(run: status.Run) -> str:
  """What a run does, and when something was last written."""
  last = datetime.fromtimestamp(time.time() - run.quiet, UTC)
  return f"{run.state}; last change {last:%d %B %Y, %H:%M UTC}"
