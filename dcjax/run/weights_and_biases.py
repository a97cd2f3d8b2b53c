"""A run in Weights & Biases, beside TensorBoard, for those who name a project.

It is no part of the config: a run is the same with and without it.
"""

import importlib.util
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dcjax.common.activity import logger, working
from dcjax.common.errors import UserError, gist
from dcjax.common.json_files import holds, is_text, read_json
from dcjax.devices import processes
from dcjax.run.workdir import write_json
from dcjax.run.writers import PICTURE, Writer

FILE = "wandb.json"  # in the folder of a run: which run it is there
IDENTITY = holds({"project": is_text, "id": is_text})
SECONDS = 30  # that the run waits at its start and at its end, at most
FORBIDDEN = frozenset("/\\#?%:")  # in the name of a project
WITHOUT_ACCOUNT = ("offline", "dryrun", "disabled")  # values of WANDB_MODE


def check(project: str) -> None:
  """Raises `UserError` for a name that no project can have, or without the package.

  Args:
    project: the name; empty where nobody has asked for one.
  """
  if project and FORBIDDEN & set(project):
    raise UserError(f"wandb: '{project}' names no project; leave out {' '.join(sorted(FORBIDDEN))}")
  if project and importlib.util.find_spec("wandb") is None:
    raise UserError(
      f"wandb: '{project}' needs the package wandb; pip install 'dcjax[wandb]', or leave this out"
    )


def writers(project: str, folder: Path, config: Mapping[str, Any]) -> list[Writer]:
  """The writer of a run into a project; none without a project, and in all processes but one."""
  if not project or not processes.is_first():
    return []
  return [WeightsAndBiases(project, folder, config)]


class WeightsAndBiases:
  """A run there. At the first failure, one line says so, and nothing more is sent."""

  def __init__(self, project: str, folder: Path, config: Mapping[str, Any]):
    """Begins the run of a workdir there, or goes on with it.

    Args:
      project: the name of one, made if need be.
      folder: the workdir, which keeps what the run is called there.
      config: all its fields.
    """
    self._run: Any = None
    with working(f"starting Weights & Biases, project {project}"), self._left_out():
      self._run = _start(project, folder, config)

  def scalar(self, name: str, value: float, iteration: int) -> None:
    """Sends a point of the curve `name`."""
    self._do(lambda run: _log(run, {name: value}, iteration))

  def picture(self, file: Path, iteration: int) -> None:
    """Sends the set, of which `file` is a PNG."""
    self._do(lambda run: _log(run, {PICTURE: _image(file)}, iteration))

  def close(self, summary: Mapping[str, Any] | None) -> None:
    """Sends the summary, and waits until all is sent, though not for long."""
    if summary is not None:
      self._do(lambda run: run.summary.update(summary))
    self._do(lambda run: run.finish(exit_code=int(summary is None)))

  def _do(self, act: Callable[[Any], object]) -> None:
    """Does something with the run there, as long as nothing has failed."""
    if self._run is not None:
      with self._left_out():
        act(self._run)

  @contextmanager
  def _left_out(self) -> Iterator[None]:
    """Makes a failure a line, and the last thing that is tried."""
    try:
      yield
    except Exception as error:  # of many kinds: no network, no account, no room on the disk
      logger.warning("wandb: %s; the run goes on without it", gist(error))
      self._run = None


def _start(project: str, folder: Path, config: Mapping[str, Any]) -> Any:
  import wandb

  folder = folder.resolve()
  settings = wandb.setup(wandb.Settings(silent=True)).settings
  if settings.mode not in WITHOUT_ACCOUNT and not wandb.login(prompt=False):
    raise ConnectionError("not logged in (wandb login, or WANDB_MODE=offline)")
  run = wandb.init(
    project=project,
    id=_identity(project, folder),
    resume="allow",
    name=folder.name,
    dir=folder,
    settings=wandb.Settings(
      console="off",  # dcjax' own lines and bars stay as they are
      silent=True,
      init_timeout=SECONDS,
      finish_timeout=SECONDS,
      finish_timeout_raises=True,
    ),
  )
  run.config.update(config, allow_val_change=True)  # a run may have become longer
  run.define_metric("*", step_metric="iteration")
  logger.info("Weights & Biases: %s", run.url or f"{Path(run.dir).parent}, for wandb sync")
  return run


def _identity(project: str, folder: Path) -> str:
  """What the run of a workdir is called in a project; kept, so that it goes on there."""
  file = folder / FILE
  if file.exists():
    found = read_json(file, IDENTITY)
    if found["project"] == project:
      return found["id"]
  identity = uuid.uuid4().hex
  write_json(file, {"project": project, "id": identity})
  return identity


def _log(run: Any, values: dict[str, Any], iteration: int) -> None:
  # The iteration is a value as others are. W&B drops what has a step that it has passed, as an
  # evaluation has that was stopped and is done again.
  run.log(values | {"iteration": iteration})


def _image(file: Path) -> Any:
  import wandb

  return wandb.Image(str(file))
