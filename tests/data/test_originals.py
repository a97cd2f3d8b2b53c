"""The papers' data sets from their original files: formats, folders, downloads."""

import hashlib
import io
import multiprocessing
import os
import pickle
import signal
import struct
import time

import numpy as np
import pytest
import requests
from scipy import io as scipy_io

from dcjax import data
from dcjax.common.errors import UserError
from dcjax.config import default
from dcjax.data import originals
from dcjax.data.originals import catalogue, fetch, formats, pickles
from tests import originals as small

NAMES = [f"class {n}" for n in range(10)]
DIGIT = small.arrays((28, 28, 1))
COLOUR = small.arrays((32, 32, 3))


def config(name, tmp_path, **fields):
  found = default("dm").dataset
  found.name, found.cache_dir = name, str(tmp_path / "cache")
  found.update(fields)
  return found


def load(name, tmp_path, **fields):
  return data.load(config(name, tmp_path, **fields))


def assert_holds(dataset, arrays, order=None):
  """That a data set has the images of `arrays`, in the order within each class that is ours."""
  x_train, y_train, x_test, y_test = arrays
  train = np.arange(len(y_train)) if order is None else order("train", len(y_train))
  test = np.arange(len(y_test)) if order is None else order("test", len(y_test))
  by_class = train[np.argsort(y_train[train], kind="stable")]
  np.testing.assert_array_equal(dataset.images, x_train[by_class])
  np.testing.assert_array_equal(dataset.labels, y_train[by_class])
  np.testing.assert_array_equal(dataset.test_images, x_test[test])
  np.testing.assert_array_equal(dataset.test_labels, y_test[test])


def hashed(split, count):
  """The order of TensorFlow Datasets, written from its description: MD5 of salt and key."""
  return np.array(sorted(range(count), key=lambda n: hashlib.md5(f"{split}{n}".encode()).digest()))


def published(name):
  """The arrays of a small data set, its published files, and its order."""
  if name in ("mnist", "fashion_mnist"):
    return DIGIT, small.packed(small.idx_files(*DIGIT)), hashed
  if name == "svhn_cropped":
    return COLOUR, small.svhn_files(*COLOUR), hashed
  if name == "cifar10":
    files = small.tar(small.cifar10_binary(*COLOUR, NAMES), "cifar-10-batches-bin")
    return COLOUR, {"cifar-10-binary.tar.gz": files}, hashed
  if name == "cifar100":
    files = small.tar(small.cifar100_binary(*COLOUR, NAMES), "cifar-100-binary")
    return COLOUR, {"cifar-100-binary.tar.gz": files}, hashed
  if name == "usps":
    arrays = small.arrays((16, 16, 1))
    return arrays, small.bzipped(small.usps_files(*arrays)), None
  assert name == "tiny_imagenet"
  flat = small.arrays((64, 64, 3), classes=2, train=4, test=4)
  x_train, y_train, x_test, y_test = flat
  arrays = (
    x_train // 255 * 0 + y_train[:, None, None, None].astype(np.uint8) * 90,
    y_train,
    x_test * 0 + y_test[:, None, None, None].astype(np.uint8) * 90,
    y_test,
  )  # which JPEG keeps
  arrays[0][:, 0, 0], arrays[2][:, 0, 0] = arrays[0][:, 1, 1], arrays[2][:, 1, 1]
  files = small.tiny_imagenet_files(*arrays, ["n1", "n2"])
  return arrays, {"tiny-imagenet-200.zip": small.zipped(files, "tiny-imagenet-200")}, None


@pytest.fixture
def server():
  with small.served() as state:
    yield state


@pytest.mark.parametrize("name", originals.NAMES)
def test_downloads_decodes_and_keeps_each_data_set(tmp_path, monkeypatch, server, name):
  arrays, files, order = published(name)
  small.publish(monkeypatch, server, name, files)
  assert_holds(load(name, tmp_path), arrays, order)
  asked = len(server.requests)
  assert asked == len(files)
  again = load(name, tmp_path)
  assert_holds(again, arrays, order)
  assert again.name == name and len(server.requests) == asked


def test_the_catalogue_has_what_tensorflow_datasets_records():
  root = os.path.join(os.path.dirname(__import__("tensorflow_datasets").__file__))
  records = {
    "mnist": "url_checksums/mnist.txt",
    "fashion_mnist": "url_checksums/fashion_mnist.txt",
    "cifar10": "url_checksums/cifar10.txt",
    "cifar100": "url_checksums/cifar100.txt",
    "svhn_cropped": "datasets/svhn_cropped/checksums.tsv",
  }
  for name, path in records.items():
    with open(os.path.join(root, path)) as lines:
      theirs = {line.split("\t")[0]: line.split("\t")[1:3] for line in lines if line.strip()}
    for file in catalogue.ORIGINALS[name].files:
      assert theirs[file.url] == [str(file.size), file.hash.removeprefix("sha256:")]


# What people have on disk: folders and archives of each kind, below the folder that they name.
def _folders():
  idx, cifar = small.idx_files(*DIGIT), small.cifar10_binary(*COLOUR, NAMES)
  pickled = small.cifar10_python(*COLOUR, NAMES)
  usps = small.arrays((16, 16, 1))
  return {
    "idx": ("mnist", DIGIT, "", idx),
    "idx, packed": ("mnist", DIGIT, "", small.packed(idx)),
    "idx, with dots": ("mnist", DIGIT, "", {n.replace("-idx", ".idx"): d for n, d in idx.items()}),
    "torchvision's MNIST": ("mnist", DIGIT, "MNIST/raw", idx),
    "torchvision's FashionMNIST": ("fashion_mnist", DIGIT, "FashionMNIST/raw", small.packed(idx)),
    "CIFAR-10, unpacked": ("cifar10", COLOUR, "cifar-10-batches-bin", cifar),
    "torchvision's CIFAR-10": ("cifar10", COLOUR, "cifar-10-batches-py", pickled),
    "in a folder of its name": ("cifar10", COLOUR, "cifar10/cifar-10-batches-bin", cifar),
    "torchvision's SVHN": ("svhn_cropped", COLOUR, "", small.svhn_files(*COLOUR)),
    "USPS, unpacked": ("usps", usps, "", small.usps_files(*usps)),
  }


@pytest.mark.parametrize("kind", _folders())
def test_reads_what_is_on_disk_and_writes_nothing_there(tmp_path, kind):
  name, arrays, place, files = _folders()[kind]
  small.write(tmp_path / "data" / place, files)
  before = sorted((tmp_path / "data").rglob("*"))
  dataset = load(name, tmp_path, data_dir=str(tmp_path / "data"))
  assert_holds(dataset, arrays, None if name == "usps" else hashed)
  assert sorted((tmp_path / "data").rglob("*")) == before
  # The folder itself may be named, too.
  inner = load(name, tmp_path, data_dir=str(tmp_path / "data" / place))
  np.testing.assert_array_equal(inner.images, dataset.images)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_reads_pickled_cifar_of_any_protocol(tmp_path, protocol):
  files = small.cifar10_python(*COLOUR, NAMES, protocol=protocol)
  small.write(tmp_path / "cifar-10-batches-py", files)
  dataset = load("cifar10", tmp_path, data_dir=str(tmp_path))
  assert_holds(dataset, COLOUR, hashed)
  assert list(dataset.class_names) == NAMES


def test_reads_the_archive_of_pickles_by_its_own_name(tmp_path):
  archive = small.tar(small.cifar10_python(*COLOUR, NAMES), "cifar-10-batches-py")
  small.write(tmp_path, {"cifar-10-python.tar.gz": archive})
  for path in (tmp_path, tmp_path / "cifar-10-python.tar.gz"):
    assert_holds(load("cifar10", tmp_path, data_dir=str(path)), COLOUR, hashed)


class Hostile:
  def __init__(self, function, *arguments):
    self._call = function, arguments

  def __reduce__(self):
    return self._call


@pytest.mark.parametrize("protocol", range(6))
def test_a_hostile_pickle_runs_nothing(tmp_path, protocol):
  mark = tmp_path / "mark"
  for call in (
    Hostile(os.system, f"touch {mark}"),
    Hostile(eval, f"open({str(mark)!r}, 'w')"),
    Hostile(np.load, str(mark)),
    Hostile(np.zeros, (3,)),
  ):
    files = small.cifar10_python(*COLOUR, NAMES)
    files["test_batch"] = pickle.dumps({"data": call, "labels": [1]}, protocol)
    small.write(tmp_path / "cifar-10-batches-py", files)
    with pytest.raises(UserError, match="test_batch: no pickle of plain data") as error:
      load("cifar10", tmp_path, data_dir=str(tmp_path))
    assert "\n" not in str(error.value)
  assert not mark.exists()


def test_a_pickle_of_data_that_are_no_bytes_is_refused():
  for value in (np.zeros(3), np.array([None]), np.float64(1), {1, 2}, [[]] * 2 + [()]):
    with pytest.raises(ValueError, match="f: no pickle of plain data"):
      pickles.load("f", pickle.dumps(value))
  nested = []
  nested.append(nested)
  with pytest.raises(ValueError, match="no pickle"):
    pickles.load("f", pickle.dumps(nested))


DAMAGES = {
  "cut": lambda content: content[:-7],
  "empty": lambda content: b"",
  "noise": lambda content: bytes(reversed(content)),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", _folders())
def test_a_damaged_file_is_one_line_that_names_it(tmp_path, kind, damage):
  name, _, place, files = _folders()[kind]
  for file in files:
    if "label_names" in file or "meta.txt" in file:  # of which any text will do
      continue
    small.write(tmp_path / "data" / place, files | {file: DAMAGES[damage](files[file])})
    with pytest.raises(UserError) as error:
      load(name, tmp_path, data_dir=str(tmp_path / "data"))
    assert str(error.value).startswith("dataset.data_dir: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("cut", [40, 2000])
def test_a_damaged_archive_is_one_line(tmp_path, cut):
  archive = small.tar(small.cifar10_binary(*COLOUR, NAMES), "cifar-10-batches-bin")
  small.write(tmp_path, {"cifar-10-binary.tar.gz": archive[:cut]})
  with pytest.raises(UserError, match=r"cannot unpack .*cifar-10-binary.tar.gz .*damaged"):
    load("cifar10", tmp_path, data_dir=str(tmp_path))


def test_missing_files_are_named(tmp_path):
  files = small.idx_files(*DIGIT)
  del files["t10k-labels-idx1-ubyte"]
  small.write(tmp_path, files)
  with pytest.raises(UserError, match="lacks t10k-labels-idx1-ubyte"):
    load("mnist", tmp_path, data_dir=str(tmp_path))


def test_an_archive_of_a_user_that_is_not_the_published_one_is_used_with_a_warning(
  tmp_path, monkeypatch, server, caplog
):
  arrays, files, order = published("cifar10")
  small.publish(monkeypatch, server, "cifar10", dict.fromkeys(files, b"other"))
  small.write(tmp_path / "data", files)
  assert_holds(load("cifar10", tmp_path, data_dir=str(tmp_path / "data")), arrays, order)
  assert "is not the file that was published" in caplog.text and not server.requests


def test_a_folder_without_the_data_set_is_said_and_the_download_goes_to_the_cache(
  tmp_path, monkeypatch, server, caplog
):
  arrays, files, order = published("mnist")
  small.publish(monkeypatch, server, "mnist", files)
  (tmp_path / "data").mkdir()
  assert_holds(load("mnist", tmp_path, data_dir=str(tmp_path / "data")), arrays, order)
  assert f"nothing of it is in {tmp_path / 'data'}" in caplog.text
  assert not list((tmp_path / "data").iterdir())
  with pytest.raises(UserError, match=r"dataset.data_dir: no folder .*/none"):
    load("mnist", tmp_path, data_dir=str(tmp_path / "none"))


def test_a_cut_connection_goes_on_where_it_ended(tmp_path, monkeypatch, server):
  arrays, files, order = published("cifar10")
  small.publish(monkeypatch, server, "cifar10", files)
  server.cuts = [40_000, 20_000]
  assert_holds(load("cifar10", tmp_path), arrays, order)
  assert [wanted for _, wanted in server.requests] == [None, "bytes=32768-", "bytes=49152-"]


def test_a_download_that_was_given_up_goes_on_with_the_next_start(tmp_path, monkeypatch, server):
  arrays, files, order = published("cifar10")
  small.publish(monkeypatch, server, "cifar10", files)
  server.cuts = [40_000, 0, 0, 0]
  with pytest.raises(UserError, match=r"cifar10 cannot be downloaded \(the connection was cut"):
    load("cifar10", tmp_path)
  assert_holds(load("cifar10", tmp_path), arrays, order)
  assert server.requests[-1][1] == "bytes=32768-"


def test_a_host_without_ranges_sends_all_again(tmp_path, monkeypatch, server):
  arrays, files, order = published("cifar10")
  small.publish(monkeypatch, server, "cifar10", files)
  server.cuts, server.ranges = [40_000], False
  assert_holds(load("cifar10", tmp_path), arrays, order)


def test_what_came_before_the_host_changed_its_file_is_thrown_away(tmp_path, monkeypatch, server):
  arrays, files, order = published("cifar10")
  small.publish(monkeypatch, server, "cifar10", files)
  staging = tmp_path / "cache" / "downloads" / "cifar10" / fetch.STAGING
  small.write(staging, {"cifar-10-binary.tar.gz.partial": b"0" * 10**6})  # longer than the file
  assert_holds(load("cifar10", tmp_path), arrays, order)


def test_a_wrong_digest_is_said_and_nothing_is_kept(tmp_path, monkeypatch, server):
  _, files, _ = published("mnist")
  small.publish(monkeypatch, server, "mnist", files)
  server.files = {path: content + b"more" for path, content in server.files.items()}
  with pytest.raises(UserError, match="what came is not the published file: its digest is another"):
    load("mnist", tmp_path)
  assert not list((tmp_path / "cache").rglob("*.gz"))


def test_a_missing_file_is_said_with_its_address_and_what_to_do(tmp_path, monkeypatch, server):
  _, files, _ = published("mnist")
  small.publish(monkeypatch, server, "mnist", files)
  server.files.clear()
  with pytest.raises(UserError) as error:
    load("mnist", tmp_path)
  text = str(error.value)
  assert "train-images-idx3-ubyte.gz answers 404" in text
  assert f"put {', '.join(files)} (" in text and "dataset.mirror" in text and "\n" not in text


def test_without_a_network_the_answer_comes_at_once(tmp_path, monkeypatch, server):
  _, files, _ = published("mnist")
  small.publish(monkeypatch, server, "mnist", files)
  closed = server.url.rpartition(":")[0] + ":9"  # where nothing listens
  files = tuple(file._replace(url=f"{closed}/f") for file in catalogue.ORIGINALS["mnist"].files)
  monkeypatch.setitem(
    catalogue.ORIGINALS, "mnist", catalogue.ORIGINALS["mnist"]._replace(files=files)
  )
  start = time.monotonic()
  with pytest.raises(UserError, match=r"no connection to 127\.0\.0\.1"):
    load("mnist", tmp_path)
  assert time.monotonic() - start < 5


@pytest.mark.parametrize("path", ["/{file}", "/mirror/{file}", "/mirror/mnist/{file}"])
def test_a_mirror_names_another_host(tmp_path, monkeypatch, server, path):
  arrays, files, order = published("mnist")
  small.publish(monkeypatch, server, "mnist", files)
  server.files = {path.format(file=file): content for file, content in files.items()}
  mirror = server.url + ("/mirror" if "mirror" in path else "/")
  assert_holds(load("mnist", tmp_path, mirror=mirror), arrays, order)


@pytest.mark.parametrize("mirror", ["example.org", "ftp://example.org", "/folder"])
def test_a_mirror_that_is_no_address_is_refused(tmp_path, mirror):
  with pytest.raises(UserError, match=r"dataset.mirror: .* is no address"):
    load("mnist", tmp_path, mirror=mirror)


def test_damage_to_a_kept_download_is_mended(tmp_path, monkeypatch, server, caplog):
  arrays, files, order = published("cifar10")
  small.publish(monkeypatch, server, "cifar10", files)
  load("cifar10", tmp_path)
  small.write(tmp_path / "cache" / "downloads" / "cifar10", {"cifar-10-binary.tar.gz": b"0"})
  assert_holds(load("cifar10", tmp_path), arrays, order)
  assert "is not the published file any more; downloading it again" in caplog.text


def _fetch(published, folder):
  fetch.fetch("cifar10", published, folder)


@pytest.mark.filterwarnings("ignore:os.fork")
def test_two_processes_download_once(tmp_path, monkeypatch, server):
  _, files, _ = published("cifar10")
  found = small.publish(monkeypatch, server, "cifar10", files)
  context = multiprocessing.get_context("fork")
  both = [context.Process(target=_fetch, args=(found, tmp_path)) for _ in range(2)]
  for process in both:
    process.start()
  for process in both:
    process.join()
    assert process.exitcode == 0
  assert len(server.requests) == 1
  assert (tmp_path / "cifar-10-binary.tar.gz").read_bytes() == files["cifar-10-binary.tar.gz"]


@pytest.mark.filterwarnings("ignore:os.fork")
def test_a_download_that_was_killed_goes_on(tmp_path, monkeypatch, server):
  _, files, _ = published("cifar10")
  found = small.publish(monkeypatch, server, "cifar10", files)

  def die_after_a_piece(url, **options):
    (tmp_path / fetch.STAGING / "cifar-10-binary.tar.gz.partial").write_bytes(content[:1000])
    (tmp_path / fetch.STAGING / "tmp1234").write_bytes(b"pooch's own")
    os.kill(os.getpid(), signal.SIGKILL)

  content = files["cifar-10-binary.tar.gz"]
  monkeypatch.setattr(requests, "get", die_after_a_piece)
  process = multiprocessing.get_context("fork").Process(target=_fetch, args=(found, tmp_path))
  process.start()
  process.join()
  assert process.exitcode == -signal.SIGKILL
  monkeypatch.undo()
  fetch.fetch("cifar10", found, tmp_path)
  assert server.requests == [("/cifar10/cifar-10-binary.tar.gz", "bytes=1000-")]
  assert (tmp_path / "cifar-10-binary.tar.gz").read_bytes() == content
  assert not (tmp_path / fetch.STAGING).exists()


def test_a_download_does_not_follow_a_link(tmp_path, monkeypatch, server):
  _, files, _ = published("cifar10")
  found = small.publish(monkeypatch, server, "cifar10", files)
  mine = tmp_path / "mine"
  mine.write_text("mine")
  (tmp_path / "f" / fetch.STAGING).mkdir(parents=True)
  (tmp_path / "f" / fetch.STAGING / "cifar-10-binary.tar.gz.partial").symlink_to(mine)
  with pytest.raises(UserError, match="cannot be downloaded"):
    fetch.fetch("cifar10", found, tmp_path / "f")
  assert mine.read_text() == "mine"


def test_speech_is_downloaded_and_unpacked(tmp_path, monkeypatch, server):
  archive = small.zipped(small.words(), "mini_speech_commands")
  server.files["/mini_speech_commands.zip"] = archive
  file = catalogue.File(
    f"{server.url}/mini_speech_commands.zip",
    f"sha256:{hashlib.sha256(archive).hexdigest()}",
    len(archive),
  )
  monkeypatch.setattr(originals, "MINI_SPEECH_COMMANDS", file)
  for name in ("speech", "mini_speech_commands"):
    dataset = load(name, tmp_path)
    assert dataset.class_names == ("no", "yes") and dataset.images.shape == (4, 64, 64, 1)
  assert len(server.requests) == 1
  above = tmp_path / "cache" / "downloads" / "mini_speech_commands"
  assert load("speech", tmp_path, data_dir=str(above)).name == "mini_speech_commands"


def test_images_on_disk_need_files_of_their_own(tmp_path):
  memory = data.Memory(streaming=True, memory_limit=2**30, workers=0)
  with pytest.raises(UserError, match=r"compute.streaming: cifar10, from its original"):
    data.load(config("cifar10", tmp_path), memory)


def test_usps_levels_are_those_of_minus_one_to_one():
  line = b"10 " + b" ".join(b"%d:%.4f" % (n, (n - 1) / 255 * 2 - 1) for n in range(1, 257))
  arrays = formats.usps({"usps": line + b"\n", "usps.t": line + b"\n"})
  assert arrays.y_train.tolist() == [9]
  np.testing.assert_array_equal(arrays.x_train.ravel(), np.arange(256))
  with pytest.raises(ValueError, match=r"not within -1\.\.1"):
    formats.usps({"usps": b"1 3:1.5\n", "usps.t": line})


@pytest.mark.slow
@pytest.mark.data
def test_all_of_mnist_equals_the_copy_of_tensorflow_datasets(tmp_path, shared):
  theirs = load("mnist", tmp_path, data_dir=str(shared / "data" / "tfds"))
  arrays = []
  for images, labels, split in (
    (theirs.images, theirs.labels, "train"),
    (theirs.test_images, theirs.test_labels, "test"),
  ):
    order = _labels_in_tfds_order(shared, split)
    place = np.argsort(hashed(split, len(order)))  # of each original image in their order
    # Training images have since been sorted by class.
    now = (
      np.argsort(np.argsort(order, kind="stable")) if split == "train" else np.arange(len(order))
    )
    found = now[place]
    arrays += [np.asarray(images)[found], np.asarray(labels)[found]]
  # The labels that MNIST's own files begin with: known, and not from this copy.
  assert arrays[1][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
  assert arrays[3][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
  small.write(tmp_path / "data", small.idx_files(*arrays))
  ours = load("mnist", tmp_path, data_dir=str(tmp_path / "data"))
  for field in ("images", "labels", "offsets", "test_images", "test_labels", "mean", "std"):
    np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field), err_msg=field)
  assert (ours.class_names, ours.name) == (theirs.class_names, theirs.name)


def _labels_in_tfds_order(shared, split):
  import tensorflow_datasets as tfds

  builder = tfds.builder("mnist", data_dir=shared / "data" / "tfds")
  decoders = {"image": tfds.decode.SkipDecoding()}
  records = builder.as_data_source(split, decoders=decoders)
  return np.array([record["label"] for record in records.__getitems__(range(len(records)))])


@pytest.mark.data
def test_cifars_copy_has_the_order_of_its_own_numbers(shared):
  import tensorflow_datasets as tfds

  records = tfds.builder("cifar10", data_dir=shared / "data" / "tfds").as_data_source("train")
  places = list(range(0, len(records), 251))
  numbers = [int(record["id"][-5:]) for record in records.__getitems__(places)]
  assert numbers == hashed("train", len(records))[places].tolist()


def _archive():
  return small.tar(small.cifar10_binary(*COLOUR, NAMES), "cifar-10-batches-bin")


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_bytes_of_an_archive_that_have_changed_are_noticed(tmp_path, place):
  archive = bytearray(_archive())
  at = int(place * len(archive))
  archive[at] ^= 1
  small.write(tmp_path, {"cifar-10-binary.tar.gz": bytes(archive)})
  with pytest.raises(UserError, match=r"dataset.data_dir: .*(damaged|lacks)"):
    load("cifar10", tmp_path, data_dir=str(tmp_path))


@pytest.mark.parametrize("counts", [(30, 20), (20, 30), (0, 0)])
def test_as_many_images_as_labels(tmp_path, counts):
  x_train, y_train, x_test, y_test = DIGIT
  images, labels = counts
  files = small.idx_files(x_train[:images], np.resize(y_train, labels), x_test, y_test)
  small.write(tmp_path, files)
  with pytest.raises(UserError, match=f"train: {images} images, but {labels} labels"):
    load("mnist", tmp_path, data_dir=str(tmp_path))


@pytest.mark.parametrize("labels", [[241, 1], [-11, 1], [1.5, 1], ["a", "b"], [1j, 1]])
def test_labels_of_svhn_are_one_to_ten(labels):
  file = io.BytesIO()
  scipy_io.savemat(file, {"X": np.zeros((4, 4, 3, 2), np.uint8), "y": np.array(labels)[:, None]})
  with pytest.raises(ValueError, match="t: "):
    formats.svhn({"t": file.getvalue(), "u": file.getvalue()})


def test_a_pickle_that_would_take_time_or_memory_is_refused():
  bomb = [1]
  for _ in range(60):
    bomb = [bomb, bomb]
  memo = b"\x80\x02]r" + struct.pack("<I", 2**31) + b"."
  for content in (pickle.dumps(bomb, 2), memo):
    with pytest.raises(ValueError, match="more objects than"):
      pickles.load("f", content)


def test_a_file_that_is_larger_than_published_is_not_received_whole(tmp_path, monkeypatch, server):
  _, files, _ = published("mnist")
  found = small.publish(monkeypatch, server, "mnist", files)
  name = found[0].name
  server.files[f"/mnist/{name}"] = bytes(10**6)
  with pytest.raises(UserError, match="is not the published file"):
    fetch.fetch("mnist", found, tmp_path)
  assert (tmp_path / fetch.STAGING / f"{name}.partial").stat().st_size < 10**5


def test_a_users_file_in_the_folder_of_downloads_is_kept(tmp_path, monkeypatch, server):
  _, files, _ = published("cifar10")
  found = small.publish(monkeypatch, server, "cifar10", files)
  small.write(tmp_path, {found[0].name: b"mine"})
  fetch.fetch("cifar10", found, tmp_path)
  assert (tmp_path / f"{found[0].name}.other").read_bytes() == b"mine"


@pytest.mark.parametrize("mirror", ["http://[", "http://", "http://u:secret@h/f", "http://h\nx"])
def test_an_odd_mirror_is_one_line_without_its_password(tmp_path, mirror):
  with pytest.raises(UserError, match=r"dataset.mirror: .* is no address") as error:
    load("mnist", tmp_path, mirror=mirror)
  assert "\n" not in str(error.value) and "secret" not in str(error.value)


def test_a_path_that_is_too_long_is_one_line(tmp_path):
  with pytest.raises(UserError, match=r"dataset\.data_dir: .*too long"):
    load("mnist", tmp_path, data_dir=str(tmp_path / ("a" * 300)))
