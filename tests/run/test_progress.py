"""How a run shows where it is: TensorBoard's events."""

import errno
import shutil
import struct
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog

from dcjax.run import writers
from dcjax.run.progress import Progress


def events(folder):
  """The events of a run's last start."""
  data, found = max(folder.glob("events.out.tfevents*")).read_bytes(), []
  while data:
    size = struct.unpack("Q", data[:8])[0]  # then 4 bytes of a checksum, and 4 behind the event
    found.append(Event.FromString(data[12 : 12 + size]))
    data = data[16 + size :]
  return found


def points(folder):
  return [
    (value.tag, event.step, round(value.simple_value, 3))
    for event in events(folder)
    for value in event.summary.value
  ]


def started(folder, iterations=2000, done=0):
  shown = Progress(folder, iterations, done)
  shown.say("compiling")
  return shown


def test_events_are_points_of_curves(tmp_path):
  shown = started(tmp_path)
  shown.loss(1, 0.5, seconds=0.1)
  shown.loss(2, 0.25, seconds=0.1)
  record = {"set": "synthetic", "network": "convnet", "last_mean": 0.75, "last_std": 0.0}
  shown.evaluation(2, record)
  shown.close()
  accuracy = ("accuracy/synthetic/convnet", 2, 0.75)
  assert points(tmp_path) == [("loss", 1, 0.5), ("loss", 2, 0.25), accuracy]


def test_the_set_is_a_picture(tmp_path):
  Image.new("RGB", (3, 2)).save(tmp_path / "set.png")
  shown = started(tmp_path)
  shown.picture(tmp_path / "set.png", 2)
  shown.picture(tmp_path / "none.png", 3)
  shown.close()
  found = [(value, event.step) for event in events(tmp_path) for value in event.summary.value]
  ((value, step),) = found
  assert (value.tag, step, value.image.width, value.image.height) == ("set", 2, 3, 2)


def test_a_start_drops_the_events_after_its_checkpoint(tmp_path):
  started(tmp_path, 9, 4).close()
  starts = [event.step for event in events(tmp_path) if event.session_log.status]
  assert starts == [5] and SessionLog.START == 1


def test_events_can_be_read_while_the_run_goes_on(tmp_path, monkeypatch):
  monkeypatch.setattr(writers, "FLUSH_SECONDS", 0.05)
  shown = started(tmp_path)
  shown.loss(1, 0.5, seconds=0.1)
  wait_for(lambda: points(tmp_path))
  shown.close()


def wait_for(condition):
  deadline = time.monotonic() + 20
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.02)


def many(shown):
  """More events than a pipe or a buffer of the writer holds."""
  for iteration in range(1, 2001):
    shown.loss(iteration, 0.5, seconds=0.1)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_folder_that_goes_away_does_not_end_a_run(tmp_path):
  folder, threads = tmp_path / "run", threading.active_count()
  folder.mkdir()
  shown = started(folder)
  shutil.rmtree(folder)
  many(shown)
  shown.close()
  started(folder).close()  # and there is none when it starts
  assert not folder.exists()
  wait_for(lambda: threading.active_count() <= threads)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_does_not_end_a_run(tmp_path, monkeypatch):
  full = Path("/dev/full")
  if not full.exists():
    pytest.skip("no /dev/full")
  threads, opening = threading.active_count(), Path.open

  def on_a_full_disk(path, *arguments):
    return opening(full if path.name.startswith("events") else path, *arguments)

  with pytest.raises(OSError, match="No space") as error, full.open("w") as stream:
    stream.write("x")
  assert error.value.errno == errno.ENOSPC
  monkeypatch.setattr(Path, "open", on_a_full_disk)
  shown = started(tmp_path)
  many(shown)
  shown.close()
  wait_for(lambda: threading.active_count() <= threads)
