"""Sets of other programs: each layout is read, wrong words about it are refused, and back again."""

import json
import logging
import os
import pickle
import re
import sys
from pathlib import Path

import dcjax.configs
import numpy as np
import pytest
from dcjax.launch import main
from PIL import Image

import dcjax.config
from dcjax import SyntheticSet, UserError, data
from dcjax.commands.evaluate import evaluate
from dcjax.commands.exchange import exports, readers
from dcjax.commands.exchange.adopt import adopt
from dcjax.commands.exchange.importing import import_set
from dcjax.commands.exchange.meaning import Meaning, settle
from dcjax.commands.exchange.readers import Found
from dcjax.config.datasets import class_names
from dcjax.data import zca
from dcjax.data.dataset import from_arrays
from tests.runs import tiny

SHAPE = (3, 5, 3)
NAMES = ["ant", "bee"]


def torch():
  return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture(scope="module")
def toy():
  """Two classes of small colour images: dark ones and bright ones."""
  rng = np.random.default_rng(0)
  labels = np.arange(40) % 2
  images = (labels[:, None, None, None] * 120 + rng.integers(0, 120, (40, *SHAPE))).astype(np.uint8)
  return from_arrays(images, labels, images, labels, name="toy", class_names=NAMES)


@pytest.fixture(scope="module")
def toy_file(toy, tmp_path_factory):
  """The same as a file that `dataset.name=npz` reads."""
  path = tmp_path_factory.mktemp("data") / "toy.npz"
  images, labels = np.asarray(toy.images), np.asarray(toy.labels)
  np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels, class_names=NAMES)
  return path


def of(toy, found, **meaning):
  """The set that is made of arrays."""
  settled = settle(Meaning(**meaning), found, toy)
  whitening = None
  if settled.whitening:
    parts = (np.asarray(part) for part in (toy.images, toy.mean, toy.std))
    whitening = zca.fit(*parts, settled.whitening)
  about = {"method": "other", "config": {}, "seed": 0}
  return adopt(found, settled, toy, whitening, about)


def chosen(toy, ipc=2):
  """Bytes of some images, sorted by class, and their labels."""
  labels = np.asarray(toy.labels)
  index = np.concatenate([np.flatnonzero(labels == k)[:ipc] for k in range(2)])
  return np.asarray(toy.images)[index], labels[index]


def error_of(function, *arguments, **options):
  with pytest.raises(UserError) as caught:
    function(*arguments, **options)
  message = str(caught.value)
  assert "\n" not in message and len(message) < 500
  return message


# --- What numbers mean ---------------------------------------------------------------------


def test_normalised_images_become_ours(toy):
  """By hand: (pixel - mean) / std with their mean and std, which are not those measured here."""
  images, labels = chosen(toy)
  theirs = ((images / 255 - 0.3) / 0.1).astype(np.float32)
  found = Found(theirs.transpose(0, 3, 1, 2), labels, None, "results")
  synthetic = of(toy, found, mean=(0.3,) * 3, std=(0.1,) * 3)
  expected = (images / 255 - np.asarray(toy.mean)) / np.asarray(toy.std)
  np.testing.assert_allclose(synthetic.images.reshape(-1, *SHAPE), expected, atol=1e-4)
  np.testing.assert_array_equal(synthetic.pixels().reshape(-1, *SHAPE), images)
  assert synthetic.metadata["range"] == "normalised"


def test_the_programs_of_dcs_line_have_statistics_of_their_own(toy):
  cifar = from_arrays(
    toy.images, toy.labels, toy.images, toy.labels, name="cifar10", class_names=NAMES
  )
  images, labels = chosen(toy)
  settled = settle(Meaning(), Found(images / 255 - 0.5, labels, None, "results"), cifar)
  assert settled.mean == (0.4914, 0.4822, 0.4465) and settled.std == (0.2023, 0.1994, 0.2010)
  measured = settle(Meaning(range="normalised"), Found(images - 0.5, labels, None, "npz"), cifar)
  np.testing.assert_allclose(measured.mean, cifar.mean)


def test_mtt_has_the_statistics_of_cifar10_for_cifar100(toy):
  cifar = from_arrays(
    toy.images, toy.labels, toy.images, toy.labels, name="cifar100", class_names=NAMES
  )
  found = Found(chosen(toy)[0] / 255 - 0.5, None, None, "parts")
  assert settle(Meaning(range="normalised"), found, cifar).std == (0.2023, 0.1994, 0.2010)
  found = found._replace(layout="results")
  assert settle(Meaning(), found, cifar).std == (0.2673, 0.2564, 0.2762)


def test_pixels_that_idc_has_not_clipped_are_taken_with_a_word(toy, caplog):
  images, labels = chosen(toy)
  theirs = images / 255
  theirs[0, 0] -= 0.3
  synthetic = of(toy, Found(theirs, labels, None, "pair"), factor=2)
  np.testing.assert_allclose(synthetic.images.reshape(-1, *SHAPE), theirs, rtol=1e-6)
  assert "were not clipped" in caplog.text


def test_grey_images_in_files_of_three_channels(toy):
  grey = from_arrays(
    toy.images[..., :1], toy.labels, toy.images[..., :1], toy.labels, name="grey", class_names=NAMES
  )
  images, labels = chosen(toy)
  assert "are in colour" in error_of(of, grey, Found(images, labels, None, "folder"))
  same = np.repeat(images[..., :1], 3, axis=-1)
  synthetic = of(grey, Found(same, labels, None, "folder"))
  np.testing.assert_array_equal(synthetic.pixels().reshape(same[..., :1].shape), same[..., :1])


@pytest.mark.parametrize("kind", [np.float16, np.bool_, np.uint8])
def test_one_hot_labels_of_any_type(toy, kind):
  images, labels = chosen(toy)
  for shape in ((4, 2), (2, 2, 2)):
    soft = np.eye(2)[labels].astype(kind).reshape(shape)
    assert of(toy, Found(images, soft, None, "npz")).metadata["label_kind"] == "prob"


def test_bytes_and_pixels_are_stored_as_pixels(toy):
  images, labels = chosen(toy)
  rows, planes = images.reshape(4, -1), images.transpose(0, 3, 1, 2).reshape(4, -1)
  for array, layout in (
    (images, "pair"),
    (images.astype(np.float64) / 255, "pair"),
    (rows, "npz"),
    (planes, "h5"),  # RaT-BPTT
    (planes, "pair"),
  ):
    synthetic = of(toy, Found(array, labels, None, layout))
    np.testing.assert_array_equal(synthetic.pixels().reshape(-1, *SHAPE), images)
    expected = (images / 255 - np.asarray(toy.mean)) / np.asarray(toy.std)
    np.testing.assert_allclose(synthetic.flat()[0], expected, atol=1e-5)


def test_mosaics_are_decoded_by_the_factor(toy):
  images, labels = chosen(toy, ipc=1)
  synthetic = of(toy, Found(images, labels, None, "pair"), factor=2)
  assert synthetic.decoded().shape == (2, 4, *SHAPE)
  part = of(toy, Found(images, labels, None, "pair"), factor=2, formation="partition")
  assert part.metadata["formation"]["name"] == "partition"


def test_images_are_sorted_by_class(toy):
  images, labels = chosen(toy)
  order = [3, 0, 2, 1]
  soft = np.eye(2, dtype=np.float32)[labels] * 8
  for given in (labels, soft):
    found = Found(images[order], given[order], 0.02, "npz")
    synthetic = of(toy, found, labels="logit" if given is soft else "")
    assert (synthetic.pixels().reshape(-1, *SHAPE)[[0, 3]] == images[[1, 2]][[1, 0]][::-1]).any()
    assert sorted(synthetic.pixels()[0].sum((1, 2, 3))) == sorted(images[:2].sum((1, 2, 3)))
    assert synthetic.training()["lr"] == 0.02
  np.testing.assert_allclose(synthetic.targets()[0, 0], [1, 0], atol=1e-3)


def test_folders_are_classes_by_name_or_number(toy):
  images, labels = chosen(toy)
  swapped = of(toy, Found(images, labels, None, "folder", ("bee", "ant")))
  np.testing.assert_array_equal(swapped.pixels()[0], images[2:])
  numbered = of(toy, Found(images, labels, None, "folder", ("00", "01")))
  np.testing.assert_array_equal(numbered.pixels()[0], images[:2])


@pytest.mark.parametrize(
  ("change", "meaning", "words"),
  [
    ({"images": lambda x: x / 255 * 4 - 2}, {"range": "unit"}, "in [-2, "),
    ({"images": lambda x: x / 255}, {"range": "normalised"}, "without a number below 0"),
    ({"images": lambda x: x * 1.0 - 100}, {"range": "normalised"}, "which no normalised"),
    ({"images": lambda x: x / 255 - 0.5}, {}, "--range: nothing in the file says"),
    ({"images": lambda x: x / 255 - 0.5}, {"range": "whitened"}, "--whitening is not given"),
    ({"images": lambda x: x - 0.5}, {"range": "unit", "whitening": "kip"}, "--range: unit, and"),
    ({"images": lambda x: x - 0.5}, {"whitening": "zca"}, "--whitening: unknown 'zca'"),
    ({"images": lambda x: x - 0.5}, {"range": "byte"}, "--range: unknown 'byte'"),
    ({}, {"range": "normalised"}, "whole pixels"),
    ({}, {"factor": 0}, "--factor: 0 is too small"),
    ({}, {"labels": "prob"}, "has hard labels"),
    ({"images": lambda x: x[:, :2]}, {}, "which are not those of the dataset"),
    ({"images": lambda x: x[:3]}, {}, "not as many of each of 2 classes"),
    ({"images": lambda x: np.where(x > 9, np.nan, x)}, {"range": "unit"}, "not finite"),
    ({"images": lambda x: 0 * x + 7}, {}, "all numbers of the images are"),
    ({"labels": lambda y: y[:3]}, {}, "4 images, but 3 labels"),
    ({"labels": lambda y: y + 1}, {}, "labels are not 2 of each"),
    ({"labels": lambda y: 0 * y}, {}, "labels are not 2 of each"),
    ({"labels": lambda y: np.array([-1, 0, 1, 1])}, {}, "labels are not 2 of each"),
    ({"labels": lambda y: y * 1e12}, {}, "labels are not 2 of each"),
    ({"labels": lambda y: y * np.nan}, {}, "labels are not 2 of each"),
    ({"labels": lambda y: np.array(3)}, {}, "4 images, but 1 labels"),
    ({"labels": lambda y: np.zeros((4, 0))}, {}, "4 images, but 0 labels"),
    ({"labels": lambda y: np.eye(2)[y]}, {"labels": "logit"}, "their sums are 1"),
    ({"labels": lambda y: np.eye(2)[y]}, {"labels": "centred"}, "their sums are 1"),
    ({"labels": lambda y: np.eye(2)[y]}, {"labels": "weight"}, "their sums are 1"),
    ({"labels": lambda y: np.ones((4, 2), bool)}, {}, "may be logits, weights or centred"),
    ({"images": lambda x: x / 255 - 0.5}, {"range": "unit"}, "in [-0.5"),
    ({"labels": lambda y: np.eye(3)[y]}, {"labels": "prob"}, "labels of 3 classes"),
    ({"labels": lambda y: 5 * np.eye(2)[y]}, {}, "may be logits, weights or centred"),
    ({"labels": lambda y: 5 * np.eye(2)[y]}, {"labels": "prob"}, "no probabilities"),
    ({"labels": lambda y: np.eye(2)[y]}, {"labels": "hard"}, "the file has soft ones"),
    ({"labels": lambda y: np.eye(2)[y]}, {"labels": "soft"}, "--labels: unknown 'soft'"),
    ({"rate": -0.1}, {}, "its learned step size is -0.1"),
    ({"rate": 1e300}, {}, "its learned step size is 1e+300"),
    ({"rate": float("nan")}, {}, "its learned step size is nan"),
    ({"labels": lambda y: np.eye(2)[y] * 1e300}, {"labels": "logit"}, "labels are up to 1e+300"),
    ({}, {"mean": (125.3, 123.0, 113.9), "std": (63.0, 62.1, 66.7)}, "by 255"),
    ({"names": ("ant", "cat")}, {}, "'cat' is no class"),
    ({}, {"mean": (0.5,)}, "--mean: (0.5,) are not 3 numbers"),
    ({}, {"mean": (0.5,) * 3}, "give both or neither"),
    ({}, {"mean": (0.5,) * 3, "std": (0.5,) * 3}, "--mean: the range is unit"),
    ({}, {"formation": "partition"}, "--formation: partition, but --factor is 1"),
    ({}, {"formation": "learnable", "factor": 2}, "--formation: unknown 'learnable'"),
    ({}, {"std": (0.5, 0.0, 0.5)}, "--std: (0.5, 0.0, 0.5) are not all above 0"),
  ],
)
def test_what_contradicts_the_values_is_refused(toy, change, meaning, words):
  images, labels = chosen(toy)
  parts = {"images": images, "labels": labels, "rate": None, "layout": "npz"}
  for name, value in change.items():
    parts[name] = value(parts[name]) if callable(value) else value
  assert words in error_of(of, toy, Found(**parts), **meaning)


# --- Layouts -------------------------------------------------------------------------------


def test_arrays_of_numpy_by_their_usual_names(tmp_path):
  np.savez(tmp_path / "a.npz", X_syn=np.zeros((2, 3)), y_syn=np.eye(2), lr=np.array([0.03]))
  found = readers.read(str(tmp_path / "a.npz"))
  assert found.images.shape == (2, 3) and found.labels.shape == (2, 2) and found.rate == 0.03
  np.savez(tmp_path / "b.npz", pictures=np.zeros(3))
  assert "the arrays pictures, none" in error_of(readers.read, str(tmp_path / "b.npz"))


def test_results_of_dcs_line(tmp_path):
  tensor = torch().tensor
  sets = [[tensor(np.full((2, 1), k)), tensor([0, 1])] for k in (3.0, 4.0)]
  content = {"data": sets, "accs_all_exps": {"ConvNet": [np.float64(0.5), np.float32(0.25)]}}
  torch().save(content, tmp_path / "res_DM_CIFAR10_ConvNet_1ipc.pt")
  file = str(tmp_path / "res_DM_CIFAR10_ConvNet_1ipc.pt")
  assert readers.read(file).images.max() == 3 and readers.read(file, 1).images.max() == 4
  assert readers.read(file).layout == "results"
  assert "has 2 experiments" in error_of(readers.read, file, 2)
  assert "has 2 experiments" in error_of(readers.read, file, -1)
  torch().save([*sets[0]], tmp_path / "data.pt")
  assert "holds one set" in error_of(readers.read, str(tmp_path / "data.pt"), 1)
  torch().save({"data": sets[0][0], "targets": sets[0][1]}, tmp_path / "data.pt")
  assert readers.read(str(tmp_path / "data.pt")).labels.tolist() == [0, 1]


def test_pairs_and_parts(tmp_path):
  save, tensor = torch().save, torch().tensor
  save([tensor([[0.5]]), tensor([0])], tmp_path / "data.pt")
  assert readers.read(str(tmp_path / "data.pt")).layout == "pair"
  save(tensor([[0.5], [0.25]], requires_grad=True), tmp_path / "images_best.pt")
  assert readers.read(str(tmp_path)).labels is None
  save(tensor([[2.0, 0.0], [0.0, 1.0]]), tmp_path / "labels_best.pt")
  save(tensor(0.0123), tmp_path / "lr_best.pt")
  for source in (tmp_path, tmp_path / "images_best.pt"):
    found = readers.read(str(source))
    assert found.layout == "parts" and found.labels.shape == (2, 2)
    assert found.rate == pytest.approx(0.0123)
  save([tensor([[0.5]], dtype=torch().bfloat16), tensor([0])], tmp_path / "data.pt")
  assert readers.read(str(tmp_path / "data.pt")).images == 0.5
  save(tensor([0.1, 0.2]), tmp_path / "lr_best.pt")
  assert "step size is 2 numbers" in error_of(readers.read, str(tmp_path))
  save(tensor(0.0123), tmp_path / "lr_best.pt")
  save(tensor([[0.75], [0.25]]), tmp_path / "images_zca_best.pt")
  assert readers.read(str(tmp_path)).images.max() == 0.5
  assert readers.read(str(tmp_path / "images_zca_best.pt")).labels.shape == (2, 2)
  (tmp_path / "run").mkdir()
  for name in ("images_0.pt", "images_1000.pt"):  # the first are images before any step
    save(tensor([[0.5]]), tmp_path / "run" / name)
  assert "has 2 files such as images_0.pt" in error_of(readers.read, str(tmp_path / "run"))
  save(3, tmp_path / "three.pt")
  assert "holds a number" in error_of(readers.read, str(tmp_path / "three.pt"))
  save([tensor([0.5])] * 3, tmp_path / "three.pt")
  assert "a list of 3" in error_of(readers.read, str(tmp_path / "three.pt"))


def test_arrays_in_hdf5(tmp_path):
  h5py = pytest.importorskip("h5py", reason="h5py is not installed")
  with h5py.File(tmp_path / "a.h5", "w") as file:
    file["data"], file["target"] = np.ones((2, 3)), np.eye(2)
  found = readers.read(str(tmp_path / "a.h5"))
  assert found.images.shape == (2, 3) and found.labels.shape == (2, 2) and found.layout == "h5"


def test_what_would_take_more_memory_than_a_file_has_is_refused(tmp_path):
  h5py = pytest.importorskip("h5py", reason="h5py is not installed")
  with h5py.File(tmp_path / "a.h5", "w") as file:
    file.create_dataset("images", (10**6, 10**6), "f4", chunks=(100, 100))
  torch().save([torch().zeros(1).expand(10**12), torch().zeros(1)], tmp_path / "a.pt")
  np.savez_compressed(tmp_path / "a.npz", images=np.zeros(2**25, np.float32))
  for name in ("a.h5", "a.pt", "a.npz"):
    assert "bytes" in error_of(readers.read, str(tmp_path / name))


def test_only_what_is_needed_is_read(tmp_path):
  h5py = pytest.importorskip("h5py", reason="h5py is not installed")
  np.savez(tmp_path / "a.npz", images=np.ones(3), arguments=np.array([{}], dtype=object))
  with h5py.File(tmp_path / "a.h5", "w") as file:
    file["data"], file["notes"] = np.ones(3), "text"
    file["label"] = h5py.ExternalLink("/etc/other.h5", "label")
  for name in ("a.npz", "a.h5"):
    found = readers.read(str(tmp_path / name))
    assert found.images.tolist() == [1, 1, 1] and found.labels is None
  np.savez(tmp_path / "a.npz", images=np.array(["text"]))
  assert "not numbers" in error_of(readers.read, str(tmp_path / "a.npz"))
  np.savez(tmp_path / "a.npz", images=np.ones(3) * 1j)
  assert "not numbers" in error_of(readers.read, str(tmp_path / "a.npz"))


def test_a_pipe_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / "a.pt")
  assert "is no file" in error_of(readers.read, str(tmp_path / "a.pt"))


class Hostile:
  """What makes a folder when it is unpickled."""

  def __init__(self, folder):
    self.folder = str(folder)

  def __reduce__(self):
    return os.mkdir, (self.folder,)


@pytest.mark.parametrize("where", ["npz", "pt", "images", "zip"])
def test_nothing_in_a_file_is_run(tmp_path, where):
  trap = tmp_path / "trap"
  file = tmp_path / f"a.{'npz' if where == 'npz' else 'pt'}"
  if where == "npz":
    np.savez(file, images=np.array([Hostile(trap)], dtype=object))
  else:
    torch()
    if where == "zip":
      torch().save({"data": Hostile(trap)}, file)
    else:
      content = Hostile(trap) if where == "pt" else {"data": [[Hostile(trap), 0]]}
      file.write_bytes(pickle.dumps(content))
  words = error_of(readers.read, str(file))
  assert "cannot be read" in words and "weights_only" not in words
  assert not trap.exists()


@pytest.mark.parametrize(
  ("name", "content", "words"),
  [
    ("gone.pt", None, "no file or folder"),
    ("a.txt", b"x", "has another ending"),
    ("a.npz", b"PK\x03\x04damaged", "cannot be read"),
    ("a.npz", b"", "cannot be read"),
    ("a.parquet", b"damaged", "cannot read"),
  ],
)
def test_files_that_are_none(tmp_path, name, content, words):
  if content is not None:
    (tmp_path / name).write_bytes(content)
  if name.endswith("parquet"):
    pytest.importorskip("datasets", reason="datasets is not installed")
  assert words in error_of(readers.read, str(tmp_path / name))


def test_folders_of_images(tmp_path):
  assert "has no images" in error_of(readers.read, str(tmp_path))
  for name, value in (("bee", 200), ("ant", 20)):
    (tmp_path / name).mkdir()
    Image.fromarray(np.full(SHAPE, value, np.uint8)).save(tmp_path / name / "0.png")
  (tmp_path / "ant" / ".DS_Store").write_bytes(b"of a system")
  found = readers.read(str(tmp_path))
  assert found.names == ("ant", "bee") and found.labels.tolist() == [0, 1]
  assert found.images.shape == (2, *SHAPE) and found.images[0].max() == 20
  Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "ant" / "1.png")
  assert "images of 2 sizes" in error_of(readers.read, str(tmp_path))


# --- The command, and back -------------------------------------------------------------------


def imported(toy_file, source, output, *flags):
  main.run([
    "import", str(source), "--dataset=npz", f"--data_dir={toy_file}", f"--output={output}", *flags
  ])  # fmt: skip
  return SyntheticSet.load(output)


def test_an_imported_set_is_evaluated(toy, toy_file, tmp_path, capsys, caplog):
  images, labels = chosen(toy, ipc=4)
  np.savez(tmp_path / "other.npz", images=images, labels=labels)
  caplog.set_level(logging.INFO)
  logging.getLogger("dcjax").propagate = True
  synthetic = imported(
    toy_file, tmp_path / "other.npz", tmp_path / "set.npz", "--method=kip", "--licence=MIT",
    "--check_epochs=20",
  )  # fmt: skip
  assert "2 classes of 4 images of 3x5x3, unit, labels hard" in capsys.readouterr().out
  assert "one network of 20 epochs on it is right for" in caplog.text
  assert synthetic.metadata["method"] == "kip"  # whose own fields an imported set does not have
  source = synthetic.metadata["source"]
  assert (
    source["file"] == "other.npz" and source["licence"] == "MIT" and len(source["sha256"]) == 64
  )
  (ours, _) = evaluate(tmp_path / "set.npz", data_dir=str(toy_file), networks=1, epochs=50)
  assert ours["last_mean"] > 0.9 and ours["protocol"] == "dsa"


def test_an_imported_set_of_an_own_dataset_is_checked(tmp_path, caplog):
  images = np.stack([np.zeros((8, 8, 1), np.float32), np.ones((8, 8, 1), np.float32)])
  np.savez(tmp_path / "other.npz", images=images, labels=np.arange(2))
  example = Path(__file__).parents[2] / "docs" / "examples" / "my_dataset.py"
  caplog.set_level(logging.INFO)
  main.run([
    "import", str(tmp_path / "other.npz"), f"--dataset={example}:load", "--range=unit",
    f"--output={tmp_path / 'set.npz'}", "--check_epochs=1",
  ])  # fmt: skip
  assert "one network of 1 epochs on it is right for" in caplog.text


def test_a_file_may_count_classes_in_an_order_of_its_own(tmp_path):
  for split in ("train", "val"):  # class folders of one colour each, larger than the set's images
    for name, value in (("n02086240", 30), ("n02093754", 120), ("n02096294", 220)):
      (tmp_path / "images" / split / name).mkdir(parents=True)
      for number in range(2):
        pixels = np.full((12, 12, 3), value + number, np.uint8)
        file = tmp_path / "images" / split / name / f"{number}.png"
        Image.fromarray(pixels).save(file)
  order = ["n02096294", "n02093754", "n02086240"]  # as MTT's ImageWoof begins
  (tmp_path / "woof.txt").write_text("\n".join(f"{name}  # a dog" for name in order))
  images = np.stack([np.full((8, 8, 3), value, np.uint8) for value in (221, 121, 31)])
  np.savez(tmp_path / "other.npz", images=images, labels=np.arange(3))
  synthetics, data_dir = [], str(tmp_path / "images")
  for output, given in (("names", ",".join(order)), ("file", str(tmp_path / "woof.txt"))):
    main.run([
      "import", str(tmp_path / "other.npz"), "--dataset=folder", f"--data_dir={data_dir}",
      f"--output={tmp_path / output}.npz", f"--classes={given}", "--side=8", "--check_epochs=0",
    ])  # fmt: skip
    synthetics.append(SyntheticSet.load(tmp_path / f"{output}.npz"))
  for synthetic in synthetics:
    assert synthetic.class_names() == order
    brightness = synthetic.unit_pixels().mean((1, 2, 3, 4)) * 255
    np.testing.assert_allclose(brightness, [221, 121, 31], atol=0.5)
  (ours, _) = evaluate(
    tmp_path / "names.npz",
    data_dir=data_dir,
    architectures=["mlp"],
    networks=1,
    epochs=60,
  )
  assert ours["last_mean"] == 1  # in the folders' order two of three would be wrong


def test_the_lists_of_mtts_subsets_are_of_ten_classes_each():
  folder = Path(dcjax.configs.__file__).parent
  for name in ("nette", "woof", "meow", "squawk", "fruit", "yellow"):
    listed = class_names(str(folder / f"image{name}.txt"))
    assert len(set(listed)) == 10 and all(re.fullmatch(r"n\d{8}", each) for each in listed)
    assert (list(listed) == sorted(listed)) == (name == "nette")


@pytest.mark.parametrize("as_parts", [False, True])
def test_a_set_whitened_as_mtt_does_is_evaluated_as_our_own(
  toy, toy_file, tmp_path, caplog, as_parts
):
  """The right variant gives the images back; with a wrong one networks are lost, and it is said."""
  images, labels = chosen(toy, ipc=4)
  parts = (np.asarray(part) for part in (toy.images, toy.mean, toy.std))
  whitening = zca.fit(*parts, "kornia")
  theirs = np.asarray(whitening.whiten(np.asarray(toy.normalise(images))))
  if as_parts:
    save, tensor = torch().save, torch().tensor
    save(tensor(theirs.transpose(0, 3, 1, 2)), tmp_path / "images_best.pt")
    save(tensor(labels), tmp_path / "labels_best.pt")
    save(tensor(0.02), tmp_path / "lr_best.pt")
  else:
    np.savez(tmp_path / "other.npz", images=theirs, labels=labels, lr=0.02)
  source = tmp_path if as_parts else tmp_path / "other.npz"
  flags = ["--check_epochs=0", f"--cache_dir={tmp_path / 'cache'}"]
  synthetic = imported(toy_file, source, tmp_path / "set.npz", "--whitening=kornia", *flags)
  np.testing.assert_array_equal(synthetic.pixels().reshape(-1, *SHAPE), images)
  assert synthetic.training() == {"lr": pytest.approx(0.02)}
  assert synthetic.metadata["config"]["evaluation"]["protocol"] == ("tm" if as_parts else "dsa")
  other = -synthetic.images  # which no variant makes of these images
  np.savez(tmp_path / "wrong.npz", images=other.reshape(-1, *SHAPE), labels=labels)
  caplog.set_level(logging.WARNING)
  logging.getLogger("dcjax").propagate = True
  imported(
    toy_file, tmp_path / "wrong.npz", tmp_path / "wrong-set.npz", "--whitening=kornia",
    "--check_epochs=40", f"--cache_dir={tmp_path / 'cache'}",
  )  # fmt: skip
  assert "are --range, --whitening" in caplog.text


@pytest.mark.parametrize("whitened_by", ["kornia", "frepo"])
def test_another_variant_than_the_named_one_is_noticed(tmp_path, caplog, whitened_by):
  """Of images with the spectrum of natural ones; networks would learn from all the same."""
  rng = np.random.default_rng(0)
  frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(16), np.fft.fftfreq(16)))[..., None]
  noise = np.fft.fft2(rng.standard_normal((600, 16, 16, 3)), axes=(1, 2))
  noise = np.fft.ifft2(noise / np.maximum(frequency, 1 / 16) ** 1.5, axes=(1, 2)).real
  images = np.uint8(np.clip(128 + 50 * noise / noise.std(), 0, 255))
  labels = np.arange(600) % 2
  smooth = from_arrays(images, labels, images, labels, name="smooth")
  file = tmp_path / "smooth.npz"
  np.savez(file, x_train=images, y_train=labels, x_test=images, y_test=labels)
  whitening = zca.fit(images, np.asarray(smooth.mean), np.asarray(smooth.std), whitened_by)
  theirs = np.asarray(whitening.whiten(np.asarray(smooth.normalise(images[:40]))))
  np.savez(tmp_path / "other.npz", images=theirs, labels=labels[:40])
  caplog.set_level(logging.WARNING)
  logging.getLogger("dcjax").propagate = True
  for variant in zca.VARIANTS:
    caplog.clear()
    imported(
      file, tmp_path / "other.npz", tmp_path / f"{variant}.npz", f"--whitening={variant}",
      "--check_epochs=0", f"--cache_dir={tmp_path / 'cache'}",
    )  # fmt: skip
    different = "kornia" in (variant, whitened_by) and variant != whitened_by
    assert ("times as rough as real ones" in caplog.text) == different, variant


def test_images_of_one_colour_have_no_roughness_to_compare(tmp_path):
  levels = np.arange(0, 240, 6, dtype=np.uint8)
  images = np.broadcast_to(levels[:, None, None, None], (40, *SHAPE)).copy()
  labels = np.arange(40) % 2
  np.savez(tmp_path / "flat.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
  np.savez(tmp_path / "other.npz", images=images[:8] / 255.0 - 0.1, labels=labels[:8])
  imported(
    tmp_path / "flat.npz", tmp_path / "other.npz", tmp_path / "set.npz", "--whitening=kornia",
    "--check_epochs=0", f"--cache_dir={tmp_path / 'cache'}",
  )  # fmt: skip


@pytest.fixture
def soft_set(toy):
  """A set with soft labels, a step size and numbers beyond black and white."""
  images, _ = chosen(toy)
  soft = np.float32([[3, 1], [2, 0], [0, 1], [1, 4]])
  found = Found(images / 255 * 1.5 - 0.2, soft, 0.05, "results")
  return of(toy, found, labels="logit", mean=(0.0,) * 3, std=(1.0,) * 3)


def test_png_files_and_back(toy_file, soft_set, tmp_path):
  exports.png(soft_set, tmp_path / "png")
  rows = (tmp_path / "png" / "labels.csv").read_text().splitlines()
  assert rows[0] == "file,label,soft_ant,soft_bee" and rows[1] == "ant/000.png,0,3.0,1.0"
  share = exports.clipped_share(soft_set)
  unit = soft_set.unit_pixels()
  assert 0 < share == ((unit < 0) | (unit > 1)).mean()
  back = imported(toy_file, tmp_path / "png", tmp_path / "back.npz", "--check_epochs=0")
  np.testing.assert_array_equal(back.pixels(), soft_set.pixels())
  assert "# toy, condensed by other" in (tmp_path / "png" / "README.md").read_text()


@pytest.mark.parametrize(
  "names",
  [["a/b", "c"], ["a", "A"], ["labels.csv", "b"], ["\ud800", "b"], ["x" * 300, "b"], ["", "b"]],
)
def test_classes_whose_names_no_folder_can_have_are_numbered(toy_file, soft_set, tmp_path, names):
  named = soft_set._replace(metadata=soft_set.metadata | {"class_names": names})
  exports.png(named, tmp_path / "png")
  back = imported(toy_file, tmp_path / "png", tmp_path / "back.npz", "--check_epochs=0")
  np.testing.assert_array_equal(back.pixels(), soft_set.pixels())


def test_a_table_of_hugging_face_and_back(toy_file, soft_set, tmp_path):
  datasets = pytest.importorskip("datasets", reason="datasets is not installed")
  exports.hf(soft_set, tmp_path / "hf")
  rows = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))["train"]
  assert rows.features["label"].names == NAMES
  np.testing.assert_allclose(rows["soft_label"][0], [3, 1])
  back = imported(toy_file, tmp_path / "hf", tmp_path / "back.npz", "--check_epochs=0")
  np.testing.assert_array_equal(back.pixels(), soft_set.pixels())


def test_tensors_and_back(toy_file, soft_set, tmp_path):
  torch()
  exports.pt(soft_set, tmp_path / "a.pt")
  content = torch().load(tmp_path / "a.pt", weights_only=True)
  images, labels = soft_set.to_torch()
  assert images.shape == (4, 3, *SHAPE[:2])
  assert (content["images"] == images).all() and (content["labels"] == labels).all()
  assert json.loads(content["metadata"])["training"] == {"lr": 0.05}
  flags = "--range=normalised", "--labels=prob", "--check_epochs=0"
  back = imported(toy_file, tmp_path / "a.pt", tmp_path / "back.npz", *flags)
  np.testing.assert_allclose(back.flat()[0], soft_set.flat()[0], atol=1e-5)
  np.testing.assert_allclose(back.flat()[1], soft_set.flat()[1], atol=1e-6)


def test_safetensors(soft_set, tmp_path):
  library = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
  exports.safetensors(soft_set, tmp_path / "a.safetensors")
  found = library.load_file(tmp_path / "a.safetensors")
  np.testing.assert_array_equal(found["images"], soft_set.flat()[0].transpose(0, 3, 1, 2))
  np.testing.assert_array_equal(found["labels"], soft_set.flat()[1])


def test_the_card_says_what_it_is_and_how_to_train(soft_set, tmp_path):
  exports.data_card(soft_set, tmp_path / "card.md")
  text = (tmp_path / "card.md").read_text()
  assert "| labels" in text and "logit" in text and "lr=0.05" in text and "not stated" in text
  centred = soft_set._replace(metadata=soft_set.metadata | {"label_kind": "centred"})
  assert "mse_loss" in exports.card(centred)
  assert "whitened images" not in text
  odd = {"zca": True, "zca_variant": 3, "source": {"licence": 3}}
  whitened = soft_set._replace(metadata=soft_set.metadata | odd)
  assert "whitened images" in exports.card(whitened)


def test_the_command_exports(soft_set, tmp_path, capsys):
  soft_set.save(tmp_path / "set.npz")
  arguments = ["export", f"--synthetic={tmp_path / 'set.npz'}", f"--output={tmp_path / 'out'}"]
  main.run([*arguments, "--format=png"])
  assert "% of the numbers are darker than black" in capsys.readouterr().out
  assert "is there already" in error_of(main.run, [*arguments, "--format=png"])
  assert "--format: unknown 'gif'" in error_of(main.run, [*arguments, "--format=gif"])
  assert "no folder" in error_of(main.run, [*arguments[:2], "--format=card", "--output=/gone/x"])


@pytest.mark.parametrize(
  ("arguments", "words"),
  [
    ([], "--dataset: missing"),
    (["--dataset=cifar10", "--output=a.npz"], "import: no file; begin with one"),
    (["a.pt", "b.pt", "--dataset=cifar10", "--output=a.npz"], "'b.pt' is not a flag"),
    (["a.pt", "--dataset", "cifar10", "--output", "a.txt"], "is no .npz file"),
    (["a.pt", "--dataset=cifar10", "--output=a.txt"], "is no .npz file"),
    (["a.pt", "--dataset=cifar10", "--output=a.npz", "--check_epochs=-1"], "--check_epochs: -1"),
    (["a.pt", "--dataset=cifar10", "--output=a.npz", "--check_epochs=99999"], "--check_epochs: 99"),
    (["a.pt", "--dataset=cifar10", "--output=a.npz", "--mean=a,b,c"], "--mean: a,b,c are not"),
    (["a.npz", "--dataset=cifar10", "--output=a.npz", "--side=64"], "--side: of images in folders"),
    (["a.npz", "--dataset=npz", "--output=a.npz", "--side=64"], "--side: of images in folders"),
    (["a.npz", "--dataset=folder", "--output=a.npz", "--side=64"], "no file or folder a.npz"),
  ],
)
def test_mistakes_on_the_command_line(arguments, words, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert words in error_of(main.run, ["import", *arguments])


def test_a_folder_that_cannot_be_written_is_named(toy, toy_file, tmp_path, monkeypatch):
  images, labels = chosen(toy)
  np.savez(tmp_path / "other.npz", images=images, labels=labels)

  def fail(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(SyntheticSet, "save", fail)
  words = error_of(imported, toy_file, tmp_path / "other.npz", tmp_path / "set.npz")
  assert "cannot write" in words and "No space left on device" in words


def test_without_pytorch_one_line_says_what_to_install(tmp_path, monkeypatch):
  (tmp_path / "data.pt").write_bytes(b"x")
  monkeypatch.setitem(sys.modules, "torch", None)
  assert "pip install 'dcjax[torch]'" in error_of(readers.read, str(tmp_path / "data.pt"))


def test_a_set_of_dcjax_need_not_be_imported(toy_file, tmp_path):
  """What `dcjax condense` writes has images and labels, too; its own reader knows more of them."""
  config = dcjax.config.resolve(tiny("dm", dataset__name="npz", dataset__data_dir=str(toy_file)))
  assert data.load(config.dataset).num_classes == 2
  assert "no file or folder" in error_of(
    import_set, str(tmp_path / "gone"), str(tmp_path / "a.npz"), dataset="cifar10"
  )
