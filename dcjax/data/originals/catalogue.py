"""Which files the papers' data sets were published as, and what reads them.

Addresses, sizes and SHA-256 of MNIST, FashionMNIST, SVHN and CIFAR are those that TensorFlow
Datasets records (`url_checksums/*.txt`, `datasets/svhn_cropped/checksums.tsv`). Those of Tiny
ImageNet and USPS are torchvision's and common practice, with their published MD5.
"""

from collections.abc import Callable
from typing import NamedTuple

from dcjax.data import class_names
from dcjax.data.originals import formats
from dcjax.data.originals.formats import Arrays


class File(NamedTuple):
  """A published file.

  Attributes:
    url: where it is published.
    hash: "sha256:..." or "md5:...".
    size: in bytes.
  """

  url: str
  hash: str
  size: int

  @property
  def name(self) -> str:
    """What it is called on disk."""
    return self.url.rpartition("/")[2]


class Layout(NamedTuple):
  """One form in which people have a data set.

  Attributes:
    places: folders and archives that may hold it, below the user's folder; "" is the folder itself.
    wanted: its files, in the place. One that ends in "/" stands for all files below that folder.
    parse: makes arrays of the files' contents, by their names.
  """

  places: tuple[str, ...]
  wanted: tuple[str, ...]
  parse: Callable[[dict[str, bytes]], Arrays]


class Original(NamedTuple):
  """A data set as its authors published it.

  Attributes:
    files: what is downloaded.
    layouts: what is looked for in a user's folder; the downloaded files are the first.
    hashed_order: whether TensorFlow Datasets has it, whose order of images is then ours.
  """

  files: tuple[File, ...]
  layouts: tuple[Layout, ...]
  hashed_order: bool = True


def _idx(base: str, *files: tuple[str, int, str]) -> tuple[File, ...]:
  return tuple(File(f"{base}/{name}.gz", f"sha256:{digest}", size) for name, size, digest in files)


def _loose(names: tuple[str, ...], parse: Callable[..., Arrays], *places: str) -> Layout:
  """Files that lie side by side in a folder, packed one by one or not."""
  return Layout((*places, ""), names, parse)


_IDX = (
  "train-images-idx3-ubyte",
  "train-labels-idx1-ubyte",
  "t10k-images-idx3-ubyte",
  "t10k-labels-idx1-ubyte",
)

ORIGINALS = {
  "mnist": Original(
    files=_idx(
      "https://storage.googleapis.com/cvdf-datasets/mnist",
      (_IDX[0], 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
      (_IDX[1], 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
      (_IDX[2], 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
      (_IDX[3], 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
    layouts=(_loose(_IDX, formats.idx(), "MNIST/raw", "raw"),),
  ),
  "fashion_mnist": Original(
    files=_idx(
      "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
      (_IDX[0], 26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
      (_IDX[1], 29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
      (_IDX[2], 4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
      (_IDX[3], 5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ),
    layouts=(_loose(_IDX, formats.idx(class_names.FASHION_MNIST), "FashionMNIST/raw", "raw"),),
  ),
  "svhn_cropped": Original(
    files=(
      File(
        "http://ufldl.stanford.edu/housenumbers/train_32x32.mat",
        "sha256:435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
        182040794,
      ),
      File(
        "http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
        "sha256:cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
        64275384,
      ),
    ),
    layouts=(_loose(("train_32x32.mat", "test_32x32.mat"), formats.svhn, "SVHN", "svhn"),),
  ),
  "cifar10": Original(
    files=(
      File(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        170052171,
      ),
    ),
    layouts=(
      Layout(
        ("cifar-10-batches-bin", "cifar-10-binary.tar.gz", ""),
        (*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin", "batches.meta.txt"),
        formats.cifar_binary("batches.meta.txt", labels=1),
      ),
      Layout(
        ("cifar-10-batches-py", "cifar-10-python.tar.gz", ""),
        (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"),
        formats.cifar_python("batches.meta", "labels", "label_names"),
      ),
    ),
  ),
  "cifar100": Original(
    files=(
      File(
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        168513733,
      ),
    ),
    layouts=(
      Layout(
        ("cifar-100-binary", "cifar-100-binary.tar.gz", ""),
        ("train.bin", "test.bin", "fine_label_names.txt"),
        formats.cifar_binary("fine_label_names.txt", labels=2),
      ),
      Layout(
        ("cifar-100-python", "cifar-100-python.tar.gz", ""),
        ("train", "test", "meta"),
        formats.cifar_python("meta", "fine_labels", "fine_label_names"),
      ),
    ),
  ),
  "tiny_imagenet": Original(
    files=(
      File(
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        "md5:90528d7ca1a48142e341f4ef8d21d0de",
        248100043,
      ),
    ),
    layouts=(
      Layout(
        ("tiny-imagenet-200", "tiny-imagenet-200.zip", ""),
        ("val/val_annotations.txt", "train/", "val/images/"),
        formats.tiny_imagenet,
      ),
    ),
    hashed_order=False,
  ),
  "usps": Original(
    files=(
      File(
        "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/usps.bz2",
        "md5:ec16c51db3855ca6c91edd34d0e9b197",
        6579383,
      ),
      File(
        "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/usps.t.bz2",
        "md5:8ea070ee2aca1ac39742fdd1ef5ed118",
        1831726,
      ),
    ),
    layouts=(_loose(("usps", "usps.t"), formats.usps, "USPS"),),
    hashed_order=False,
  ),
}

# Recordings, which `dcjax.data.speech` reads as files. The digest is the one that several public
# programs check the archive against.
MINI_SPEECH_COMMANDS = File(
  "http://storage.googleapis.com/download.tensorflow.org/data/mini_speech_commands.zip",
  "sha256:49650f2341b26d886b46b3f4fb8fed59e30300b17550f1ee4a768b3106cf93a0",
  182082353,
)
