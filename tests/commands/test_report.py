"""`dcjax report`: the command, a real run from start to end, and the live page."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from dcjax.launch import main

from dcjax import UserError
from dcjax.commands.condense import condense
from dcjax.commands.report import Follower, live, report
from dcjax.pages import gather
from tests.pages.made import make, record
from tests.runs import tiny


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """Two runs in one folder."""
  folder = tmp_path_factory.mktemp("runs")
  make(folder / "a")
  make(folder / "b", ipc=2)
  return folder


def test_a_real_run_has_all_that_the_page_shows(tmp_path):
  config = tiny("dm", iterations=2, evaluation__networks=2)
  summary = condense(config, tmp_path / "run")
  of_set, random = summary["evaluations"]
  counts = gather.confusion(of_set)
  accuracy = np.trace(counts) / counts.sum()
  assert accuracy == pytest.approx(of_set["last_mean"], abs=1e-6)
  assert gather.confusion(random).sum() == counts.sum()
  text = report([tmp_path / "run"], tmp_path / "page.html").read_text()
  assert "DM on digits" in text and "dcjax condense --config=configs/method.py:dm,smoke" in text
  assert "confusion-0" in text and "2 of 2" in text


def test_the_command_writes_a_page(made, tmp_path, capsys):
  file = tmp_path / "report.html"
  main.run(["report", str(made / "a"), "--output", str(file), str(made / "b")])
  assert capsys.readouterr().out == f"Wrote {file}\n"
  text = file.read_text()
  assert str(made / "a") in text and str(made / "b") in text


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ([], "report: no workdir"),
    (["--output=x.html"], "report: no workdir"),
    (["a"], "--output: give it or --serve"),
    (["a", "--serve", "--output=x.html"], "--output: give it or --serve"),
    (["none", "--output=x.html"], "report: no folder none"),
    (["empty", "--output=x.html"], "report: empty is no workdir"),
    (["a", "--output=a"], "--output: a is there already"),
    (["a", "--output=none/x.html"], "--output: no folder none"),
    (["a", "--serve", "--port=99999"], "port"),
    (["broken", "--output=x.html"], "report: broken/config.json is damaged"),
  ],
)
def test_mistakes_are_named(made, monkeypatch, words, message):
  monkeypatch.chdir(made)
  (made / "empty").mkdir(exist_ok=True)
  (made / "broken").mkdir(exist_ok=True)
  for name in ("config.json", "metrics.jsonl"):
    (made / "broken" / name).write_text("{")
  with pytest.raises(UserError, match=message):
    main.run(["report", *words])
  assert not Path("x.html").exists()


def test_one_of_several_that_cannot_be_read_is_named_on_the_page(made, tmp_path):
  broken = tmp_path / "broken"
  make(broken)
  (broken / "config.json").write_text("{")
  text = report([made / "a", broken], tmp_path / "x.html").read_text()
  assert "Left out:" in text and "config.json is damaged" in text


# --- Live ----------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path):
  """A live page of an unfinished run, and its folder."""
  run = make(tmp_path / "run", finished=False)
  with live([run], port=0) as made:
    thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made.server_port, run
    made.shutdown()
    thread.join()


def ask(port, path="/", method="GET", host=None):
  """The answer of a server: its status, its headers, and what it says."""
  connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
  connection.request(method, path, headers={"Host": host or f"127.0.0.1:{port}"})
  answer = connection.getresponse()
  found = answer.status, dict(answer.getheaders()), answer.read()
  connection.close()
  return found


def test_the_live_page_asks_its_own_server_alone(server):
  status, headers, body = ask(server[0])
  assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
  assert b"connect-src 'self'" in body and int(headers["Content-Length"]) == len(body)
  assert ask(server[0], method="HEAD")[::2] == (200, b"")
  assert ask(server[0], host=f"localhost:{server[0]}")[0] == 200


def test_the_state_follows_the_run(server):
  port, run = server
  before = json.loads(ask(port, "/state")[2])
  assert "galleries" not in before and "10 of 10" in before["parts"]["overview"]
  lines = (run / "metrics.jsonl").read_text()
  more = {"iteration": 10, "evaluation": record(3, 10, name="whole")}
  (run / "metrics.jsonl").write_text(lines + json.dumps(more) + "\n")
  after = json.loads(ask(port, "/state")[2])
  assert "all images" in after["parts"]["numbers"] and after["images"] == before["images"]
  (run / "images" / "000000.npz").unlink()
  last = json.loads(ask(port, "/state?images")[2])
  assert last["images"] != before["images"] and last["galleries"][0]["iterations"] == [5, 10]


@pytest.mark.parametrize(
  "host", ["example.org", "127.0.0.1", "127.0.0.1:1", "[::1]:80", "localhost"]
)
def test_other_hosts_are_refused(server, host):
  assert ask(server[0], host=host)[0] == 403
  assert ask(server[0], "/state", host=host)[0] == 403


@pytest.mark.parametrize(
  "path", ["/config.json", "/../config.json", "//etc/passwd", "/state/", "/x"]
)
def test_no_files_are_served(server, path):
  assert ask(server[0], path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_only_reads(server, method):
  before = {file: file.stat().st_mtime_ns for file in server[1].rglob("*")}
  assert ask(server[0], method=method)[0] == 501
  ask(server[0], "/state")
  assert {file: file.stat().st_mtime_ns for file in server[1].rglob("*")} == before


def test_a_run_that_goes_away_is_said(server):
  (server[1] / "config.json").unlink()
  status, _, body = ask(server[0], "/state")
  assert status == 503 and b"is no workdir" in body


def test_a_port_that_is_taken_is_an_error(server):
  with pytest.raises(UserError, match=f"--port: {server[0]}: .*in use; give another"):
    live([server[1]], server[0])


def test_what_takes_long_is_done_once(server, monkeypatch):
  follower = Follower([server[1]])
  calls = []
  repeated = gather.repeated
  monkeypatch.setattr(gather, "repeated", lambda fields: calls.append(1) or repeated(fields))
  follower.state(True)
  follower.state(False)
  assert len(calls) == 1


def test_ctrl_c_ends_it_quietly(made):
  program = [sys.executable, "-m", "dcjax", "report", str(made / "a"), "--serve", "--port=0"]
  environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
  process = subprocess.Popen(
    program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
  )
  line = process.stdout.readline()
  assert line.startswith("http://127.0.0.1:")
  assert ask(int(line.split("/")[2].partition(":")[2]))[0] == 200
  process.send_signal(signal.SIGINT)
  _, errors = process.communicate(timeout=20)
  assert process.returncode == 130
  assert errors.splitlines()[-1] == "dcjax: stopped by SIGINT" and "Traceback" not in errors
