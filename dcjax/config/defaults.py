"""The fields that all configs have, with their defaults; those of a method are in its file.

The comments are what `--help` says (`dcjax.config.meanings`).
"""

from typing import TYPE_CHECKING

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from dcjax.common.registry import METHODS
from dcjax.config.meanings import of_function

if TYPE_CHECKING:
  from dcjax.methods.definition import Definition


def default(method: str = "dc") -> ConfigDict:
  """A method's settings for MNIST and one image per class; a preset changes what differs.

  Fields that are None are filled in by `resolve`.

  Args:
    method: a name that `registry.METHODS` finds; some fields belong to some methods only.

  Raises:
    UserError: there is no such method.
  """
  own = definition(method)
  config = ConfigDict()
  config.method = method  # one of METHODS in dcjax/common/registry.py, or FILE.py:NAME
  config.seed = 0  # of initial images, draws and networks
  config.ipc = 1  # images per class
  config.update(own.fields())
  config.dataset = _dataset()
  config.network = _network()
  config.evaluation = _evaluation(own.protocol)
  config.compute = _compute()
  return config


def meanings() -> dict[str, str]:
  """What the fields that all configs have mean, by their dotted names."""
  found = of_function(default, "config")
  for section in (_dataset, _network, _evaluation, _compute):
    found |= of_function(section, "fields", f"{section.__name__[1:]}.")
  return found


def definition(method: str) -> "Definition":
  """What a method's file, or a user's, defines.

  Raises:
    UserError: there is no such method, or what has the name is none.
  """
  found = METHODS.find("method", method)
  if method in METHODS.own:
    return found
  from dcjax.methods.definition import of_user  # which the user's file has loaded already

  return of_user(method, found)


def selects(method: str) -> bool:
  """Whether a method selects real images; else it condenses."""
  return definition(method).build is None


def _dataset() -> ConfigDict:
  fields = ConfigDict()
  # Source: 'digits', 'npz', 'folder', 'hf', 'speech', one of the papers'
  # (dcjax/data/originals/catalogue.py), another name in TensorFlow Datasets, or a function of your
  # own, FILE.py:NAME
  fields.name = "mnist"
  # The .npz, the folder of images or of words, what Hugging Face's library reads (a folder of
  # parquet files, a name on the hub), the folder of original files (empty: they are downloaded), or
  # TFDS' folder (empty: its own default)
  fields.data_dir = ""
  fields.mirror = ""  # address of a folder on another host to download from; empty: the publishers'
  fields.cache_dir = ""  # where downloads and decoded images are kept; empty: ~/.cache/dcjax
  fields.side = 64  # height and width of images from a folder; of 'hf' where they differ in size
  # Short side of a folder's test images before their centre of `side` is cut out; 0: `side`. The
  # usual preparation of ImageNet is 256 of 224 (RDED and what follows it)
  fields.test_resize = 0
  # Values of black and white, '0,4095' for 12 bits in files of 16; empty: 0 and 1 for floats, the
  # type's range for 8 and 16 bits
  fields.range = ()
  # Share of each class that is for testing where a folder or 'hf' sets none apart
  fields.test_share = 0.2
  fields.test_seed = 0  # draws the images of `test_share`
  fields.image_column = ""  # column of images, of 'hf'; empty: the one that has such
  fields.label_column = ""  # column of classes, of 'hf'; empty: the one of labels, or called so
  # Names of the classes to take, comma-separated, or a text file that names one a line; empty: all
  fields.classes = ()
  fields.rgb_side = 0  # side that images of any source are brought to, in RGB; 0: as they are
  fields.zca = False  # whiten images after normalising them (IDC, Appendix E.6)
  # Whose whitening that is: 'frepo', 'kip', or 'kornia', that of MTT, TESLA, FTD and DATM
  fields.zca_variant = "frepo"
  return fields


def _network() -> ConfigDict:
  fields = ConfigDict()
  # One of NETWORKS in dcjax/common/registry.py, or FILE.py:NAME
  fields.name = "convnet"
  fields.width = 128  # filters of a layer of ConvNet (DC, section 3.1)
  fields.depth = 3  # blocks of ConvNet (DC, section 3.1)
  fields.activation = "relu"  # of ConvNet: 'sigmoid', 'relu', 'leaky_relu', 'swish' or 'softplus'
  fields.pooling = "average"  # of ConvNet: 'none', 'max' or 'average'
  # Filters of a ResNet's first stage; each other one has twice as many as that before it. None: 64,
  # and 32 of ResNet10 for images of up to 32 pixels (IDC's authors' code)
  fields.filters = placeholder(int)
  # Filters that a layer of DenseNet121 adds; None: 32, and 12 for images of up to 32 pixels (IDC's
  # authors' code)
  fields.growth = placeholder(int)
  # 'none', 'batch', 'layer', 'instance' or 'group'; None: none in AlexNet, else 'instance'
  fields.norm = placeholder(str)
  # How weights begin: 'torch' (what published numbers rest on), 'kaiming', 'fan_out' (IDC's
  # ResNets, authors' code), or 'lecun' (FRePo, authors' code)
  fields.init = "torch"
  # 'float32'; 'tf32' for what convolutions multiply, as PyTorch has it on newer GPUs by default; or
  # 'bfloat16' for images and activations. Evaluations are in float32
  fields.precision = "float32"
  return fields


def _evaluation(protocol: str) -> ConfigDict:
  fields = ConfigDict()
  # Whose training: 'dc', 'dsa', 'dm', 'idc', 'idc_hundred', 'idc_continual', 'idm', 'tm', 'soft',
  # 'bptt', 'frepo' or 'rcig'
  fields.protocol = protocol
  fields.networks = 20  # trained from scratch on each set (DC, section 3.1); 0: none
  fields.epochs = placeholder(int)  # passes over the set; None: the protocol's
  # Where the network sees more images than are stored, fewer of the protocol's epochs, so that
  # training costs as many steps as on the stored images (IDC, Table 2); not with `epochs` given
  fields.same_steps = False
  # 'none', 'dc', 'dc_batch_norm', 'imagenet', 'idc_imagenet', 'rded', 'frepo', 'frepo_unflipped',
  # 'rcig', 'rcig_digits', or transforms as in dsa.strategy; None: the protocol's
  fields.augmentation = placeholder(str)
  fields.cutmix = placeholder(float)  # its probability for each batch; None: the protocol's
  fields.batch = placeholder(int)  # images of a step; None: the protocol's
  # What logits are divided by in the loss; None: the set's own if it has one, else the protocol's
  fields.temperature = placeholder(float)
  # A network ('convnet:norm=batch') that is trained on all real images and labels each batch as
  # networks see it, in place of the set; None: the protocol's, of which 'soft' has one; '': none
  fields.teacher = placeholder(str)
  fields.teacher_epochs = 50  # passes of the teacher over the real images
  # Learning rate at first; None: the set's own if it has one, else the protocol's
  fields.lr = placeholder(float)
  fields.checks = 4  # tests of each network, evenly over its epochs, for 'best'
  # Networks ('mlp', 'convnet:width=64', 'FILE.py:NAME') or sets of them ('widths'),
  # comma-separated, see dcjax/nn/architectures.py; empty: `network`, with instance norm in place of
  # batch norm
  fields.architectures = ()
  fields.whole = False  # also train on the whole training set
  return fields


def _compute() -> ConfigDict:
  """How work lies on the machine; `dcjax.devices.strategy` chooses by the backend."""
  fields = ConfigDict()
  # 'patches', 'winograd', 'ungrouped' or 'lax'; None: by the backend
  fields.convolution = placeholder(str)
  # Classes one after another, 'scan', or together, 'vmap'; None: by the backend, the method and the
  # memory
  fields.class_map = placeholder(str)
  # Images with activations alive together; 0: all; None: by the backend
  fields.image_block = placeholder(int)
  # Of `image_block`, in a ConvNet's first block when gradients are matched; 0: all; None: by the
  # backend
  fields.first_block = placeholder(int)
  # Synthetic images of a class that are differentiated together; 0: all; None: by the backend.
  # Lower it where memory ends
  fields.synthetic_block = placeholder(int)
  # Real images on several devices, 'by_class' or 'everywhere'; None: by the backend and the memory
  fields.real_images = placeholder(str)
  # Networks trained together at evaluation; None: by the backend
  fields.network_block = placeholder(int)
  # Devices along the axes class x batch, '4x2'; None: all, along class first
  fields.mesh = placeholder(str)
  fields.chunk = placeholder(int)  # iterations between two looks; None: about a second
  # Where compiled programs are kept, seen by all processes of a run; None: in .jax_cache beside the
  # workdir; empty: nowhere. For None and empty, jax' own JAX_COMPILATION_CACHE_DIR holds, where it
  # is set
  fields.cache_dir = placeholder(str)
  # Whether training images stay on disk and are read as they are drawn; None: where all of them
  # take more than `memory_limit`
  fields.streaming = placeholder(bool)
  # Bytes that decoded training images may take, also those of one stage
  fields.memory_limit = 4 * 2**30
  fields.workers = placeholder(int)  # processes that decode; None: one for each core but one
  return fields
