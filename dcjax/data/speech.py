"""Spoken words in folders of WAV files, one folder a word, as spectrograms (IDC, Appendix B).

A spectrogram is kept as images are, in uint8: level 0 is -60 dB, which is silence, and level 255
is 40 dB, which no tone reaches. Rounding moves it by less than 0.2 dB (0.11 dB in the mean square,
where real words deviate by 17 dB), and all that is made for images works as it is: draws,
statistics, normalisation, files and pictures.
"""

import os
import warnings
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from scipy import signal
from scipy.io import wavfile

from dcjax.common.errors import UserError
from dcjax.common.files import expand
from dcjax.data import class_folders, originals
from dcjax.data.dataset import Dataset, from_arrays
from dcjax.data.on_disk import Memory
from dcjax.data.source import Source

RATE = 16_000  # samples of a second, which is what a spectrogram shows
WINDOW, HOP = 255, 128  # samples; they make 128 x 125 of a second, as in the paper
SIDE = 64  # of a spectrogram
FLOOR = 1e-3  # added to magnitudes, whose logarithm is taken (authors' code)
DECIBELS = (-60.0, 40.0)  # of levels 0 and 255
TEST_EVERY = 8  # of each word (Appendix B: 7 of 8 for training)


def load(path: str | os.PathLike[str], *, classes: Sequence[str] = ()) -> Dataset:
  """Loads `<word>/*.wav` as spectrograms, uint8 `[64, 64, 1]`.

  Of the files of each word, sorted by name, the first of every eight is for testing (authors'
  code; the paper splits by chance). Files that cannot be read are skipped with a warning, and do
  not move the others from one split to the other. Folders whose names begin with an underscore
  are passed over: Speech Commands keeps noise there.

  Args:
    path: the folder of the words.
    classes: which words to load, in the order of their labels; by default all, sorted by name.

  Returns:
    The data set, named as the folder is; mean and deviation are those of the training split.

  Raises:
    UserError: a folder or a word missing, a word of fewer than two WAV files, or too many broken
      ones (`class_folders.report_broken`).
  """
  path = expand("dataset.data_dir", path)
  hidden = (*class_folders.HIDDEN, "_")
  names = class_folders.class_names([path], classes, "<word>/*.wav", hidden)
  files, labels = class_folders.list_files(path, names, "WAV", class_folders.is_recording)
  counts = np.bincount(labels)
  _check_counts(path, names, counts)
  images, good = _decode_all(files)
  test = np.concatenate([np.arange(count) for count in counts]) % TEST_EVERY == 0
  class_folders.report_broken(path, files, 2 * labels + test, good, "WAV")
  train, test = good & ~test, good & test
  try:
    return from_arrays(
      images[train],
      labels[train],
      images[test],
      labels[test],
      name=path.resolve().name,
      class_names=names,
    )
  except UserError as error:
    raise UserError(f"dataset.data_dir: {path}: {error}") from error


def _check_counts(path: Path, names: Sequence[str], counts: np.ndarray) -> None:
  """Raises `UserError` for a word of which no recording would be left for training."""
  for name, count in zip(names, counts, strict=True):
    if count < 2:
      raise UserError(
        f"dataset.data_dir: {path / name} holds {count} WAV file, and the first of every"
        f" {TEST_EVERY} is for testing; add some, or leave the class out of dataset.classes"
      )


def _decode_all(files: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
  """The spectrograms of all files, uint8 `[N, 64, 64, 1]`, and which could be read, bool `[N]`."""
  with warnings.catch_warnings():
    # scipy warns of chunks that hold no samples, and also of a file that was cut short.
    warnings.simplefilter("ignore", wavfile.WavFileWarning)
    warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
    return class_folders.decode(files, spectrogram, (SIDE, SIDE, 1))


def spectrogram(file: Path) -> np.ndarray:
  """Reads a WAV file as a spectrogram, uint8 `[64, 64, 1]`.

  Channels are averaged, other rates are resampled, and what is longer or shorter than a second is
  cut or followed by silence.

  Args:
    file: of whole numbers of any width, or of float numbers.

  Raises:
    Exception: it cannot be read.
  """
  rate, samples = wavfile.read(file)
  waveform = _as_float(samples).reshape(len(samples), -1).mean(1)
  if not waveform.size or not np.isfinite(waveform).all():
    raise ValueError("holds no samples, or some that are no numbers")
  if rate != RATE:
    ratio = Fraction(RATE, rate)
    waveform = signal.resample_poly(waveform, ratio.numerator, ratio.denominator)
  waveform = waveform[:RATE]
  return levels(magnitudes(np.pad(waveform, (0, RATE - len(waveform)))))[..., None]


def _as_float(samples: np.ndarray) -> np.ndarray:
  """Samples as float64 in [-1, 1]; scipy shifts those of odd widths to the top of wider ones."""
  if samples.dtype.kind == "f":
    return samples.astype(np.float64)
  middle = 128 if samples.dtype.kind == "u" else 0  # 8 bits have no sign
  return (samples.astype(np.float64) - middle) / 2.0 ** (8 * samples.dtype.itemsize - 1)


def magnitudes(waveform: np.ndarray) -> np.ndarray:
  """The magnitude spectrogram of a second, at 64 x 64 (Appendix B).

  Hann windows are centred at every 128th sample from the first on, which makes 128 frequencies at
  125 times. A column of zeros before these and two behind make 128 x 128, of which each two by two
  are averaged: a bilinear reduction by two (authors' code).

  Args:
    waveform: float `[16000]`, in [-1, 1].

  Returns:
    float `[64, 64]`: a row for each 125 Hz, a column for each 16 ms. The highest frequency is
    first, so that it is at the top of a picture. A tone of amplitude 1 has at most 64.
  """
  padded = np.pad(waveform, WINDOW // 2)
  frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
  spectrum = np.abs(np.fft.rfft(frames * signal.get_window("hann", WINDOW)))
  whole = np.pad(spectrum.T[::-1], ((0, 0), (1, 2)))
  return whole.reshape(SIDE, 2, SIDE, 2).mean((1, 3))


def levels(values: np.ndarray) -> np.ndarray:
  """Magnitudes as uint8: their decibels, 0 at `DECIBELS[0]` or below, 255 at `DECIBELS[1]`."""
  low, high = DECIBELS
  decibels = 20 * np.log10(values + FLOOR)
  return np.round(255 * np.clip((decibels - low) / (high - low), 0, 1)).astype(np.uint8)


def _load(fields: Any, _: Memory) -> Dataset:
  folder = originals.speech_folder(
    data_dir=fields.data_dir, cache_dir=fields.cache_dir, mirror=fields.mirror
  )
  return load(folder, classes=fields.classes)


SOURCE = Source(_load, classes=True)
