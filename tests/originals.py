"""Small data sets in the forms in which the papers' were published, and a server for them."""

import bz2
import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image
from scipy import io as scipy_io
from scipy.io import wavfile

from dcjax.data.originals.catalogue import ORIGINALS, File

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte",
       "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")  # fmt: skip


def arrays(shape, *, classes=10, train=30, test=20, seed=0):
  """Random images uint8 and labels, every class in both splits."""
  random = np.random.default_rng(seed)
  images = (random.integers(0, 256, (count, *shape), np.uint8) for count in (train, test))
  labels = (random.permutation(np.arange(count) % classes).astype(np.int32)
            for count in (train, test))  # fmt: skip
  (x_train, x_test), (y_train, y_test) = images, labels
  return x_train, y_train, x_test, y_test


def idx(array):
  head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
  return head + array.astype(np.uint8).tobytes()


def idx_files(x_train, y_train, x_test, y_test):
  contents = idx(x_train[..., 0]), idx(y_train), idx(x_test[..., 0]), idx(y_test)
  return dict(zip(IDX, contents, strict=True))


def svhn_files(x_train, y_train, x_test, y_test):
  def mat(images, labels):
    file = io.BytesIO()
    stored = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
    scipy_io.savemat(file, {"X": np.moveaxis(images, 0, -1), "y": stored})
    return file.getvalue()

  return {"train_32x32.mat": mat(x_train, y_train), "test_32x32.mat": mat(x_test, y_test)}


def cifar10_binary(x_train, y_train, x_test, y_test, names):
  def records(images, labels):
    pixels = np.moveaxis(images, -1, 1).reshape(len(images), -1)
    return np.hstack([labels[:, None].astype(np.uint8), pixels]).tobytes()

  batches = zip(np.array_split(x_train, 5), np.array_split(y_train, 5), strict=True)
  files = {f"data_batch_{n}.bin": records(*batch) for n, batch in enumerate(batches, 1)}
  text = "\n".join(names) + "\n\n"
  return files | {"test_batch.bin": records(x_test, y_test), "batches.meta.txt": text.encode()}


def cifar100_binary(x_train, y_train, x_test, y_test, names):
  def records(images, labels):
    pixels = np.moveaxis(images, -1, 1).reshape(len(images), -1)
    coarse = np.zeros((len(images), 1), np.uint8)
    return np.hstack([coarse, labels[:, None].astype(np.uint8), pixels]).tobytes()

  return {
    "train.bin": records(x_train, y_train),
    "test.bin": records(x_test, y_test),
    "fine_label_names.txt": "\n".join(names).encode(),
  }


def cifar10_python(x_train, y_train, x_test, y_test, names, protocol=2):
  def batch(images, labels):
    pixels = np.moveaxis(images, -1, 1).reshape(len(images), -1)
    content = {"data": pixels, "labels": labels.tolist(), "batch_label": "a batch"}
    return pickle.dumps(content, protocol)

  batches = zip(np.array_split(x_train, 5), np.array_split(y_train, 5), strict=True)
  files = {f"data_batch_{n}": batch(*each) for n, each in enumerate(batches, 1)}
  meta = pickle.dumps({"label_names": list(names), "num_vis": 3072}, protocol)
  return files | {"test_batch": batch(x_test, y_test), "batches.meta": meta}


def usps_files(x_train, y_train, x_test, y_test):
  def text(images, labels):
    values = images.reshape(len(images), -1) / 255 * 2 - 1
    lines = (
      " ".join([str(label + 1), *(f"{n}:{value:.5f}" for n, value in enumerate(row, 1))])
      for row, label in zip(values, labels, strict=True)
    )
    return "\n".join(lines).encode() + b"\n"

  return {"usps": text(x_train, y_train), "usps.t": text(x_test, y_test)}


def tiny_imagenet_files(x_train, y_train, x_test, y_test, names):
  def jpeg(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    return file.getvalue()

  files = {
    f"train/{names[label]}/images/{names[label]}_{n}.JPEG": jpeg(image)
    for n, (image, label) in enumerate(zip(x_train, y_train, strict=True))
  }
  files |= {f"val/images/val_{n}.JPEG": jpeg(image) for n, image in enumerate(x_test)}
  lines = (f"val_{n}.JPEG\t{names[label]}\t0\t0\t62\t62" for n, label in enumerate(y_test))
  return files | {"val/val_annotations.txt": "\n".join(lines).encode(), "words.txt": b"none"}


def words(names=("no", "yes"), count=3):
  """WAV files of a tone each, by their names."""
  files = {}
  for k, name in enumerate(names):
    for n in range(count):
      tone = np.sin(np.arange(16000) * (k + 1) * (n + 1) / 20) * 9000
      file = io.BytesIO()
      wavfile.write(file, 16000, tone.astype(np.int16))
      files[f"{name}/{n}.wav"] = file.getvalue()
  return files


def packed(files, pack=gzip.compress, suffix=".gz"):
  return {f"{name}{suffix}": pack(data) for name, data in files.items()}


def bzipped(files):
  return packed(files, bz2.compress, ".bz2")


def tar(files, folder):
  archive = io.BytesIO()
  with tarfile.open(fileobj=archive, mode="w:gz") as file:
    for name, data in files.items():
      member = tarfile.TarInfo(f"{folder}/{name}")
      member.size = len(data)
      file.addfile(member, io.BytesIO(data))
  return archive.getvalue()


def zipped(files, folder):
  archive = io.BytesIO()
  with zipfile.ZipFile(archive, "w") as file:
    for name, data in files.items():
      file.writestr(f"{folder}/{name}", data)
  return archive.getvalue()


def write(folder, files):
  for name, data in files.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
  return folder


class Server:
  """Serves files on loopback.

  Attributes:
    files: content by path.
    requests: the path and the Range header of each request.
    cuts: of the next requests, after how many bytes the connection ends; none when it is empty.
    ranges: whether parts of files are served.
  """

  def __init__(self):
    self.files, self.requests, self.cuts, self.ranges = {}, [], [], True
    self.url = ""


@contextmanager
def served():
  state = Server()

  class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
      wanted = self.headers.get("Range")
      state.requests.append((self.path, wanted))
      if self.path not in state.files:
        self.send_error(404)
        return
      data, start = state.files[self.path], 0
      if wanted and state.ranges:
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(data):
          self.send_error(416)
          return
      self.send_response(206 if start else 200)
      self.send_header("Content-Length", str(len(data) - start))
      self.end_headers()
      end = start + state.cuts.pop(0) if state.cuts else len(data)
      self.wfile.write(data[start:end])

    def log_message(self, *args):
      pass

  server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  state.url = f"http://127.0.0.1:{server.server_address[1]}"
  thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
  thread.start()
  try:
    yield state
  finally:
    server.shutdown()
    server.server_close()
    thread.join()


def publish(monkeypatch, server, name, files):
  """Lets a server publish a data set in place of its authors."""
  for file, data in files.items():
    server.files[f"/{name}/{file}"] = data
  published = tuple(
    File(f"{server.url}/{name}/{file}", f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
    for file, data in files.items()
  )
  monkeypatch.setitem(ORIGINALS, name, ORIGINALS[name]._replace(files=published))
  return published
