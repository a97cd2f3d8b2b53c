"""Downloads published files, by pooch: each whole and as it was published, or not at all.

A download that was cut short goes on where it ended, also after a kill.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dcjax.common import quantities
from dcjax.common.activity import logger, make_bar, working
from dcjax.common.errors import UserError
from dcjax.data.originals.catalogue import File

if TYPE_CHECKING:
  import requests

STAGING = ".download"  # the folder, beside the files, in which they grow
CONNECT_SECONDS, READ_SECONDS = 10, 60  # to wait for a host, and for its next bytes
_CHUNK = 2**14  # bytes; of what came last before a cut, less than this is lost


def fetch(name: str, files: Sequence[File], folder: Path, mirror: str = "") -> None:
  """Downloads those of the files that a folder lacks.

  Args:
    name: of the data set, for errors.
    files: what it was published as.
    folder: where they are kept; made if need be. Two processes do not do the same work twice.
    mirror: the address of a folder on another host that has them, or of that host; empty: the
      addresses at which they were published.

  Raises:
    UserError: they cannot be had. The message names the files, their size and where to put them.
  """
  _check_mirror(mirror)
  paths = [(folder / file.name, file) for file in files]
  if not os.access(folder, os.W_OK) and all(p.exists() and is_published(p, f) for p, f in paths):
    return
  try:
    staging = folder / STAGING
    staging.mkdir(parents=True, exist_ok=True)
    with _alone(staging, name):
      for file in files:
        if not _is_there(folder / file.name, file):
          _check_room(staging, file)
          _fetch_one(file, staging, mirror)
          os.replace(staging / file.name, folder / file.name)
      shutil.rmtree(staging, ignore_errors=True)
  except (OSError, ValueError) as error:  # of the disk, of the network, of a digest
    raise _cannot(name, files, folder, mirror, error) from None


def _check_mirror(mirror: str) -> None:
  """Raises `UserError` for what is no address, or has a password, which logs would show."""
  try:
    parts = urlsplit(mirror)
    usable = not mirror or bool(parts.scheme in ("http", "https") and parts.hostname)
    usable = usable and mirror.isprintable() and parts.username is None and parts.port != 0
  except ValueError:
    usable = False
  if not usable:
    shown = mirror.rpartition("@")[2] if mirror.isprintable() else repr(mirror)
    raise UserError(f"dataset.mirror: '{shown}' is no address; write http://HOST/FOLDER")


def is_published(path: Path, file: File) -> bool:
  """Whether a file is, byte for byte, what was published."""
  import pooch

  algorithm, _, digest = file.hash.partition(":")
  return pooch.file_hash(str(path), algorithm) == digest


def _is_there(path: Path, file: File) -> bool:
  """Whether a file need not be downloaded; a warning if it must be anew."""
  if not path.exists():
    return False
  if is_published(path, file):
    return True
  aside = path.with_name(f"{path.name}.other")
  logger.warning(
    "%s: is not the published file any more; downloading it again, and keeping this as %s",
    path, aside.name,
  )  # fmt: skip
  os.replace(path, aside)
  return False


@contextmanager
def _alone(staging: Path, name: str) -> Iterator[None]:
  """Waits until no other process downloads into the folder."""
  flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
  descriptor = os.open(staging.with_name(f"{STAGING}.lock"), flags, 0o600)
  try:
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      logger.info("%s: another process downloads it; waiting", name)
      fcntl.flock(descriptor, fcntl.LOCK_EX)
    staging.mkdir(exist_ok=True)  # which the other process has removed
    yield
  finally:
    os.close(descriptor)


def _check_room(staging: Path, file: File) -> None:
  """Raises `OSError` before a download that does not fit on the disk."""
  grown = _partial(staging, file)
  left = file.size - (grown.stat().st_size if grown.exists() else 0)
  free = shutil.disk_usage(staging).free
  if free < left:
    raise OSError(
      None, f"{quantities.size(left)} are needed on the disk, {quantities.size(free)} are free"
    )


def _partial(staging: Path, file: File) -> Path:
  """What of a file has come so far."""
  return staging / f"{file.name}.partial"


def _fetch_one(file: File, staging: Path, mirror: str) -> None:
  """Downloads a file from the first of its addresses that has it."""
  import pooch
  import requests

  pooch.get_logger().setLevel("WARNING")
  addresses = _addresses(file, mirror)
  for number, url in enumerate(addresses, 1):
    grown = _Growing(_partial(staging, file), file.size)
    try:
      with working(f"downloading {url} ({quantities.size(file.size)}) into {staging.parent}"):
        pooch.retrieve(url, file.hash, fname=file.name, path=staging, downloader=grown)
      return
    except (requests.HTTPError, ValueError):  # it is not there, or something else is
      if number == len(addresses):
        raise


def _addresses(file: File, mirror: str) -> list[str]:
  """Where a file may be: at its own address, or in a folder of a mirror, or at the same path."""
  if not mirror:
    return [file.url]
  base = mirror.rstrip("/")
  return [f"{base}/{file.name}", f"{base}{urlsplit(file.url).path}"]


class _Growing:
  """Downloads for pooch into a file that is kept when the connection is cut, and goes on."""

  def __init__(self, partial: Path, size: int):
    self._partial, self._size = partial, size

  def __call__(self, url: str, output_file: str, pooch: object) -> None:
    """Leaves the whole content in `output_file`, which pooch compares with the digest."""
    import requests

    cut = requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError
    for attempt in (1, 2, 3, 4):
      try:
        self._receive(url)
        break
      except cut:
        # Without a byte there is no network; otherwise the connection was cut.
        if not self._done() or attempt == 4:
          raise
        logger.info("the connection was cut at %s; going on", quantities.size(self._done()))
    os.replace(self._partial, output_file)

  def _done(self) -> int:
    return self._partial.stat().st_size if self._partial.exists() else 0

  def _receive(self, url: str) -> None:
    import requests

    done = self._done()
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    timeout = CONNECT_SECONDS, READ_SECONDS
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
      if done and response.status_code == requests.codes.requested_range_not_satisfiable:
        self._partial.unlink()  # another file than the one that was begun
        return self._receive(url)
      response.raise_for_status()
      goes_on = response.status_code == requests.codes.partial_content
      self._write(response, done if goes_on else 0)

  def _write(self, response: "requests.Response", done: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (0 if done else os.O_TRUNC)
    with (
      os.fdopen(os.open(self._partial, flags, 0o644), "wb") as file,
      make_bar(total=self._size, initial=done, unit="B", unit_scale=True, leave=False) as bar,
    ):
      file.seek(done)
      for chunk in response.iter_content(_CHUNK):
        file.write(chunk)
        bar.update(len(chunk))
        if file.tell() > self._size:
          raise ValueError("more comes than was published")


def _cannot(
  name: str, files: Sequence[File], folder: Path, mirror: str, error: Exception
) -> UserError:
  """Says why a data set cannot be had, and how it can be had all the same."""
  names = ", ".join(file.name for file in files)
  base = mirror or files[0].url.rpartition("/")[0]
  size = quantities.size(sum(file.size for file in files))
  return UserError(
    f"dataset.name: {name} cannot be downloaded ({_reason(error)}); put {names} "
    f"({size}, from {base}) into {folder}, or give a folder with "
    f"{'them' if len(files) > 1 else 'it'} in dataset.data_dir, or another host in dataset.mirror"
  )


def _reason(error: Exception) -> str:
  """The gist of an error in a few words."""
  import requests

  if isinstance(error, requests.HTTPError) and error.response is not None:
    return f"{error.response.url} answers {error.response.status_code}"
  if isinstance(error, requests.Timeout):
    return "the host does not answer"
  if isinstance(error, requests.exceptions.ChunkedEncodingError):
    return "the connection was cut, again and again"
  if isinstance(error, requests.ConnectionError) and error.request is not None:
    return f"no connection to {urlsplit(str(error.request.url)).hostname!s}"
  if isinstance(error, requests.ConnectionError):
    return "the host fell silent"
  if isinstance(error, requests.RequestException):
    return f"the address cannot be used: {type(error).__name__}"
  if isinstance(error, ValueError):
    return "what came is not the published file: its digest is another"
  return getattr(error, "strerror", None) or str(error)
