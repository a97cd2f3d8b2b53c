"""Recordings on their whole way: read, condensed by the preset, drawn and decoded."""

import json

import numpy as np
import pytest
from dcjax.configs import speech
from dcjax.launch import main
from scipy.io import wavfile

from dcjax import SyntheticSet, data

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A run of IDC on two words, of which each recording is a tone of its own."""
  folder = tmp_path_factory.mktemp("speech")
  for word, lowest in (("high", 4000), ("low", 300)):
    (folder / "words" / word).mkdir(parents=True)
    for k in range(9):
      waves = np.sin(2 * np.pi * (lowest + 40 * k) * np.arange(RATE) / RATE)
      wavfile.write(folder / "words" / word / f"{k}.wav", RATE, (20_000 * waves).astype(np.int16))
  fields = {"dataset.data_dir": folder / "words", "network.depth": 1, "network.width": 2}
  fields |= {"evaluation.networks": 0, "compute.mesh": "1x1"}
  given = [f"--config.{name}={value}" for name, value in fields.items()]
  preset = "--config=configs/speech.py:idc,ipc=2,smoke"
  main.run(["condense", preset, f"--workdir={folder / 'run'}", *given])
  return folder


def test_spectrograms_are_halved_in_time_alone(folder):
  summary = json.loads((folder / "run" / "summary.json").read_text())
  assert (summary["dataset"], summary["ipc"], summary["decoded_ipc"]) == ("words", 2, 4)
  synthetic = SyntheticSet.load(folder / "run" / "synthetic.npz")
  assert synthetic.images.shape == (2, 2, 64, 64, 1)
  assert synthetic.metadata["range"] == "normalised"
  assert synthetic.metadata["formation"]["name"] == "time"
  assert synthetic.decoded().shape == (2, 4, 64, 64, 1)


def test_pictures_have_low_frequencies_at_the_bottom(folder):
  assert (folder / "run" / "images" / "000002.png").exists()
  pixels = SyntheticSet.load(folder / "run" / "synthetic.npz").pixels()
  loudest = pixels.mean((1, 3, 4)).argmax(1)  # rows of 125 Hz: near 4000 Hz of 8000, near 300
  np.testing.assert_allclose(loudest, [63 - 31, 63 - 2], atol=2)


def test_a_tile_is_half_of_a_stored_spectrogram_along_time(folder):
  before = SyntheticSet.load(folder / "run" / "images" / "000000.npz")
  config = speech.get_config()
  config.dataset.data_dir = str(folder / "words")
  dataset = data.load(config.dataset)
  columns = np.asarray(dataset.normalise(dataset.images))[:, :, ::2, 0]  # every second one
  halves = before.images.reshape(2, 2, 64, 2, 32).swapaxes(2, 3)
  for label in range(2):
    of_class = columns[np.asarray(dataset.labels) == label]
    for half in halves[label].reshape(-1, 64, 32):
      assert np.abs(of_class - half).max((1, 2)).min() < 1e-5
