"""Signs of life: said at once, said again, and seen wherever a user may look."""

import fcntl
import logging
import os
import pty
import struct
import subprocess
import sys
import termios
import time

import numpy as np
import pytest
from dcjax.launch import main

from dcjax import data
from dcjax.common import activity
from dcjax.common.activity import counted, working
from dcjax.data import class_folders
from dcjax.run import progress
from tests.runs import tiny

SLOW = 0.25  # seconds: some ticks


@pytest.fixture
def impatient(monkeypatch, caplog):
  """Whoever says what goes on every ten seconds does so often; the lines that were logged."""
  for module in (activity, progress):
    monkeypatch.setattr(module, "LOG_SECONDS", 0.05)
    monkeypatch.setattr(module, "REFRESH_SECONDS", 0.05)
  caplog.set_level("INFO")
  return lambda: [record.message for record in caplog.records]


def test_work_is_said_at_once_and_while_it_lasts(impatient):
  with working("compiling"):
    assert impatient() == ["compiling"]
    time.sleep(SLOW)
  lines = impatient()
  assert "still compiling, 0 s" in lines
  time.sleep(SLOW)
  assert impatient() == lines


def test_work_that_fails_is_said_no_more(impatient):
  with pytest.raises(KeyError), working("failing"):
    raise KeyError
  time.sleep(SLOW)
  assert impatient() == ["failing"]


def test_what_is_counted_is_said_without_a_terminal(impatient):
  def slow():
    for number in range(3):
      time.sleep(0.1)
      yield number

  assert list(counted(slow(), "decoding", 3)) == [0, 1, 2]
  assert impatient()[0] == "decoding: 3" and "decoding: 1 of 3, 0 s left" in impatient()


def test_what_is_left_is_told_by_what_this_start_has_done(monkeypatch):
  now = 100.0
  monkeypatch.setattr(activity.time, "monotonic", lambda: now)
  networks = activity.Pieces(20, "networks", done=2)
  assert networks.far(2) == "2 of 20 networks"
  now += 60
  assert networks.far(5, "accuracy 0.2831") == "5 of 20 networks, accuracy 0.2831, 5 min left"
  assert networks.far(20) == "20 of 20 networks"


def test_what_work_says_anew_is_what_goes_on(impatient):
  with working("training") as say:
    say("1 of 2 networks")
    time.sleep(SLOW)
  lines = impatient()
  assert lines[:2] == ["training", "1 of 2 networks"] and "still 1 of 2 networks, 0 s" in lines


def test_a_run_says_that_it_goes_on(impatient, tmp_path):
  shown = progress.Progress(tmp_path, 5, 0)
  shown.say("compiling", force=True)
  time.sleep(SLOW)
  shown.loss(2, 1.0, seconds=0.1)
  time.sleep(SLOW)
  shown.close()
  lines = impatient()
  assert "still compiling, 0 s" in lines and "still at iteration 3 of 5, 0 s" in lines


def test_reading_and_decoding_are_said(impatient, tmp_path):
  data.load(tiny().dataset)
  file = tmp_path / "x"
  class_folders.decode([file, file], lambda _: np.zeros((2, 2, 1), np.uint8), (2, 2, 1))
  lines = [line for line in impatient() if not line.startswith("still ")]
  assert lines == ["reading digits", "decoding: 2"]


def test_loading_modules_is_said_first(monkeypatch, impatient):
  monkeypatch.delitem(sys.modules, "dcjax.launch.status", raising=False)
  main.main_of("status")
  assert impatient() == ["loading jax and the rest"]


# --- Where it is seen ----------------------------------------------------------------------


def stderr_of(program):
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
  return done.stderr.splitlines()


def test_a_session_that_has_not_set_up_logging_sees_it():
  program = "from dcjax.common.activity import working\nwith working('compiling'): pass"
  (line,) = stderr_of(program)
  assert line.endswith(" compiling")
  assert stderr_of(f"import logging; logging.basicConfig()\n{program}") == ["INFO:dcjax:compiling"]
  silent = "import logging; logging.getLogger('dcjax').setLevel('WARNING')"
  assert not stderr_of(f"import dcjax.common.activity\n{silent}\n{program}")


def test_a_notebook_shows_plain_lines_also_where_absl_speaks_first():
  program = (
    "import sys, types; sys.modules['ipykernel'] = types.ModuleType('ipykernel')\n"
    "from dcjax.common.activity import logger\n"
    "from absl import logging; logging.warning('careful'); logger.info('compiling')"
  )
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
  lines = done.stdout.splitlines()
  assert [line.split(" ", 1)[1] for line in lines] == ["careful", "compiling"] and not done.stderr


def test_lines_go_where_stderr_is_now(monkeypatch, capsys):
  record = logging.LogRecord("dcjax", 20, "", 0, "hello %s", ("you",), None)
  activity.Lines().emit(record)
  assert capsys.readouterr().err.endswith(" hello you\n")


@pytest.mark.parametrize("columns", [0, 80])
def test_bars_on_a_terminal_of_any_width(columns):
  program = (
    "import time; from dcjax.common.activity import counted, working\n"
    "with working('reading'):\n"
    "  for _ in counted(range(3), 'decoding', 3): time.sleep(0.15)"
  )
  master, slave = pty.openpty()
  fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", columns and 24, columns, 0, 0))
  with subprocess.Popen([sys.executable, "-c", program], stderr=slave) as process:
    os.close(slave)
    shown = b""
    try:
      while part := os.read(master, 4096):
        shown += part
    except OSError:  # how Linux says that nobody writes any more
      pass
  os.close(master)
  assert process.returncode == 0
  text = shown.decode()
  assert "reading" in text and "decoding:  67%|" in text and "3/3" in text
