"""Folders of recordings, written here, as spectrograms."""

import logging as std_logging

import numpy as np
import pytest
from scipy import signal
from scipy.io import wavfile

import dcjax.config
from dcjax import data
from dcjax.common.errors import UserError
from dcjax.data import speech

RATE = speech.RATE
HERTZ = RATE / speech.WINDOW  # from one frequency of the transform to the next


def tone(hertz, seconds=1.0, rate=RATE, amplitude=0.5):
  return amplitude * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def as_pcm(samples, bits=16):
  """Whole numbers as scipy takes them; 8 bits have no sign."""
  whole = np.round(samples * (2 ** (bits - 1) - 1)).astype(np.int64)
  return (whole + 128).astype(np.uint8) if bits == 8 else whole.astype(f"int{bits}")


def write(file, samples, rate=RATE):
  file.parent.mkdir(parents=True, exist_ok=True)
  wavfile.write(file, rate, samples)
  return file


def write_24_bits(file, samples):
  """A WAV file of 24 bits by its bytes, with a chunk that no reader knows."""
  whole = np.round(samples * (2**23 - 1)).astype("<i4")
  data = whole.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
  form = np.array([1, 1], "<u2").tobytes() + np.array([RATE, 3 * RATE], "<u4").tobytes()
  form += np.array([3, 24], "<u2").tobytes()
  chunks = b"".join(
    name + np.array([len(content)], "<u4").tobytes() + content
    for name, content in ((b"fmt ", form), (b"odd ", b"abcd"), (b"data", data))
  )
  file.write_bytes(b"RIFF" + np.array([4 + len(chunks)], "<u4").tobytes() + b"WAVE" + chunks)
  return file


def decibels(levels):
  low, high = speech.DECIBELS
  return low + (high - low) * levels / 255


@pytest.fixture
def root(tmp_path):
  """Two words, high and low, of nine recordings each; each recording has its own loudness."""
  for word, hertz in (("high", 3000), ("low", 300)):
    for k in range(9):
      samples = as_pcm(tone(hertz, amplitude=0.9 ** (k + 1)))
      write(tmp_path / "words" / word / f"{k}.wav", samples)
  return tmp_path / "words"


def error_of(root, **arguments):
  with pytest.raises(UserError) as caught:
    speech.load(root, **arguments)
  assert "\n" not in str(caught.value)
  return str(caught.value)


# --- Spectrograms --------------------------------------------------------------------------


@pytest.mark.parametrize("frequency", [3, 20, 64, 120])
def test_a_tone_lies_in_its_row_with_low_ones_at_the_bottom(frequency):
  found = speech.magnitudes(tone(frequency * HERTZ, amplitude=1.0))
  row = speech.SIDE - 1 - frequency // 2
  assert (found[:, 2:-2].argmax(0) == row).all()
  # The window sums to 127.5, of which a tone has half; its neighbours have half of that.
  expected = (63.75 + 31.875) / 2
  np.testing.assert_allclose(found[row, 2:-2], expected, rtol=0.01)


def test_magnitudes_are_those_of_another_transform():
  waveform = np.random.default_rng(0).uniform(-1, 1, RATE)
  _, times, whole = signal.stft(waveform, nperseg=255, noverlap=127, padded=False)
  assert whole.shape == (128, 125) and times[1] == 128
  padded = np.pad(np.abs(whole) * 127.5, ((0, 0), (1, 2)))
  pairs = (padded[:, ::2] + padded[:, 1::2]) / 2
  expected = ((pairs[::2] + pairs[1::2]) / 2)[::-1]
  np.testing.assert_allclose(speech.magnitudes(waveform), expected, rtol=1e-9)


def test_a_click_lies_in_its_column():
  waveform = np.zeros(RATE)
  waveform[128 * 41] = 1  # the middle of frame 41, which the zeros move to 42
  found = speech.magnitudes(waveform)
  np.testing.assert_allclose(found[:, 21], 0.5, rtol=0.01)
  assert found[:, :20].max() == found[:, 23:].max() == 0


def test_levels_are_decibels_of_which_rounding_takes_less_than_a_fifth():
  values = np.geomspace(1e-6, 99, 10_000)
  exact = 20 * np.log10(values + 1e-3)
  assert 0.19 < np.abs(decibels(speech.levels(values)) - exact).max() < 0.2
  np.testing.assert_array_equal(
    speech.levels(np.array([0.0, 0.009, 99.999, 127.0])), [0, 51, 255, 255]
  )


# --- Files ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Chunk")
def test_numbers_of_all_kinds_agree(tmp_path):
  samples = tone(1000) * np.hanning(RATE)
  expected = decibels(speech.levels(speech.magnitudes(samples)))
  files = [write(tmp_path / "float64.wav", samples), write_24_bits(tmp_path / "24.wav", samples)]
  files.append(write(tmp_path / "float32.wav", samples.astype(np.float32)))
  files += [write(tmp_path / f"{bits}.wav", as_pcm(samples, bits)) for bits in (8, 16, 32)]
  for file in files:
    found = decibels(speech.spectrogram(file)[..., 0].astype(float))
    loud = expected > (0 if file.name == "8.wav" else -40)  # well above the noise of rounding
    assert loud.sum() > 60
    np.testing.assert_allclose(found[loud], expected[loud], atol=0.8, err_msg=file.name)


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 48_000])
def test_resampled_and_original_agree(tmp_path, rate):
  """Within the first and last frames, where a filter sees the ends."""
  expected = speech.spectrogram(write(tmp_path / "a.wav", as_pcm(tone(1000))))
  found = speech.spectrogram(write(tmp_path / "b.wav", as_pcm(tone(1000, rate=rate)), rate))
  inner = slice(3, -3)
  row = speech.SIDE - 1 - round(1000 / HERTZ) // 2
  assert (found[:, inner, 0].argmax(0) == row).all()
  np.testing.assert_allclose(
    decibels(found[row, inner, 0]), decibels(expected[row, inner, 0]), atol=0.4
  )


def test_stereo_equals_mono(tmp_path):
  one, two = as_pcm(tone(500)), as_pcm(tone(2500))
  stereo = speech.spectrogram(write(tmp_path / "a.wav", np.stack([one, two], 1)))
  mixed = ((one.astype(np.float64) + two) / 2 / 2**15).astype(np.float32)
  np.testing.assert_array_equal(stereo, speech.spectrogram(write(tmp_path / "b.wav", mixed)))


def test_short_ones_are_followed_by_silence_and_long_ones_cut(tmp_path):
  short = speech.spectrogram(write(tmp_path / "a.wav", as_pcm(tone(1000, seconds=0.5))))
  assert (short[:, 33:] == 0).all() and short[:, 10:30].max(0).min() > 200
  long = write(tmp_path / "b.wav", as_pcm(np.concatenate([tone(1000), tone(3000)])))
  whole = speech.spectrogram(write(tmp_path / "c.wav", as_pcm(tone(1000))))
  np.testing.assert_array_equal(speech.spectrogram(long), whole)


# --- Folders -------------------------------------------------------------------------------


def test_the_first_of_every_eight_is_for_testing(root):
  dataset = speech.load(str(root))
  assert dataset.name == "words" and dataset.class_names == ("high", "low")
  assert dataset.images.shape == (14, 64, 64, 1) and dataset.images.dtype == np.uint8
  np.testing.assert_array_equal(dataset.labels, np.repeat([0, 1], 7))
  np.testing.assert_array_equal(dataset.test_labels, [0, 0, 1, 1])
  expected = [
    speech.spectrogram(root / word / f"{k}.wav") for word in ("high", "low") for k in (0, 8)
  ]
  np.testing.assert_array_equal(dataset.test_images, expected)
  np.testing.assert_array_equal(dataset.images[0], speech.spectrogram(root / "high" / "1.wav"))


def test_chosen_words_are_labelled_in_the_order_given(root):
  assert speech.load(root, classes=("low", "high")).class_names == ("low", "high")
  assert "did you mean 'low'?" in error_of(root, classes=("high", "lew"))


def test_what_is_no_word_is_passed_over(root):
  write(root / "_background_noise_" / "hum.wav", as_pcm(tone(50, seconds=2)))
  (root / "high" / "LICENSE.txt").write_text("")
  (root / "high" / ".hidden.wav").write_text("")
  (root / "low" / "8.wav").rename(root / "low" / "8.WAV")
  dataset = speech.load(root)
  assert dataset.class_names == ("high", "low") and len(dataset.test_labels) == 4


def test_one_broken_file_is_named_and_skipped(root, caplog):
  broken = root / "low" / "3.wav"
  broken.write_bytes(broken.read_bytes()[:-1])
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    dataset = speech.load(root)
  (message,) = caplog.messages
  assert message.endswith(f"skipped 1 of 18 files, which are no readable WAV files: {broken}")
  # The others stay in the split that they would be in.
  np.testing.assert_array_equal(np.bincount(dataset.labels), [7, 6])
  np.testing.assert_array_equal(dataset.test_labels, [0, 0, 1, 1])


@pytest.mark.parametrize("content", [b"", b"no sound", b"RIFF\x04\x00\x00\x00WAVE"])
def test_many_broken_files_are_an_error(root, content):
  for k in range(2, 8):
    (root / "low" / f"{k}.wav").write_bytes(content)
  message = error_of(root)
  assert message.startswith("dataset.data_dir: 6 of 18 files in ") and "2.wav" in message


def test_the_recordings_of_a_word_for_testing_must_not_all_be_broken(root):
  for name in ("0.wav", "8.wav"):
    (root / "low" / name).write_bytes(b"")
  assert error_of(root).startswith("dataset.data_dir: 2 of 18 files in ")


@pytest.mark.parametrize("samples", [np.zeros(0, np.int16), np.full(9, np.nan, np.float32)])
def test_nothing_to_hear_is_broken(root, samples, caplog):
  write(root / "low" / "3.wav", samples)
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    speech.load(root)
  assert "skipped 1 of 18 files" in caplog.text


def test_silence_alone_is_an_error_and_that_of_a_word_a_warning(root, caplog):
  config = dcjax.config.default().dataset
  config.name, config.data_dir = "speech", str(root)
  for k in range(9):
    write(root / "low" / f"{k}.wav", as_pcm(np.zeros(RATE)))
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    data.load(config)
  assert "all pixels of all training images are the same in low ([0])" in caplog.text
  for k in range(9):
    write(root / "high" / f"{k}.wav", as_pcm(np.zeros(RATE)))
  with pytest.raises(UserError, match=r"all pixels of all training images of words are \[0\]"):
    data.load(config)


def test_a_word_of_too_few(root):
  write(root / "zero" / "0.wav", as_pcm(tone(100)))
  message = error_of(root)
  assert "zero holds 1 WAV file" in message and "the first of every 8 is for testing" in message
  (root / "zero" / "0.wav").unlink()
  assert "zero holds no WAV files" in error_of(root)
  assert speech.load(root, classes=("high", "low")).num_classes == 2


def test_a_folder_without_words(tmp_path):
  assert error_of(tmp_path / "gone").startswith("dataset.data_dir: no folder ")
  write(tmp_path / "recordings" / "0.wav", as_pcm(tone(100)))
  write(tmp_path / "recordings" / "_background_noise_" / "hum.wav", as_pcm(tone(50)))
  message = error_of(tmp_path / "recordings")
  assert "holds no class folders; give the folder that holds <word>/*.wav" in message


@pytest.mark.data
def test_mini_speech_commands(shared):
  dataset = speech.load(shared / "data" / "mini_speech_commands", classes=("yes", "no"))
  assert dataset.images.shape == (140, 64, 64, 1) and len(dataset.test_images) == 20
  # Speech is loudest below 4 kHz, the lower half of the rows.
  upper, lower = np.split(np.asarray(dataset.images, np.float64).mean((0, 2, 3)), 2)
  assert lower.min() > upper.mean()
  np.testing.assert_allclose(np.asarray(dataset.normalise(dataset.images)).mean(), 0, atol=1e-3)
