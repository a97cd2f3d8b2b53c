"""Every field of a config with its default: the papers', or what their authors' code has."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from dcjax.methods import coreset
from dcjax.sets import formation

METHODS = ("dc", "dsa", "dm", "idc", "idm", *coreset.METHODS)


def default(method: str = "dc") -> ConfigDict:
  """A method's settings for MNIST and one image per class; a preset changes what differs.

  Fields that are None are filled in by `resolve`.

  Args:
    method: one of `METHODS`; some fields belong to some methods only.
  """
  config = ConfigDict()
  config.method = method
  config.seed = 0
  config.ipc = 1  # images per class
  config.update(_selection() if method in coreset.METHODS else _condensation(method))
  config.dataset = _dataset()
  config.network = _network()
  # Coresets are DC's baselines.
  config.evaluation = _evaluation("dc" if method in coreset.METHODS else method)
  config.compute = _compute()
  return config


def _selection() -> ConfigDict:
  """The fields of coresets alone."""
  config = ConfigDict()
  config.training = ConfigDict()
  # Passes over the whole training set, for features and forgetting events. The papers do not say
  # how many; these take minutes on two cores, and with a GPU more cost little
  config.training.epochs = 5
  config.selection = ConfigDict()
  config.selection.candidates = 1000  # random subsets that optimal_random tries (DC, Table T12)
  config.selection.validation = 5000  # training images that it ranks them on, and does not choose
  return config


def _condensation(method: str) -> ConfigDict:
  """The fields of methods that condense."""
  makers = {"dm": _distribution_matching, "idc": _idc, "idm": _idm}
  config = makers.get(method, _gradient_matching)()
  if "batch_real" not in config:
    config.batch_real = 256  # real images of each class in one matching step (authors' code)
  config.evaluate_every = 0  # outer iterations; 0: only at the end
  # Outer iterations, besides those of evaluations; 0: no more than those
  config.picture_every = 0
  # Stop once the mean loss of so many iterations is no lower than that of as many before it;
  # 0: never
  config.converged_after = 0
  # 'noise' (DC, Appendix A), 'real' (DSA, section 4.1; DM), 'mix' (IDC: a real image a tile), or
  # the .npz file of a saved set of the same classes, ipc, shape and formation: its images, and the
  # weights of a learnable formation. Pixels in [0, 1] (IDC) are turned into normalised ones, and
  # the other way round. The set is kept as init.npz in the workdir, so that the file may go
  config.init = {"dc": "noise", "idc": "mix"}.get(method, "real")
  config.formation = _formation()
  # IDC, section 5; IDM, section 5.1
  config.formation.factor = 2 if method in ("idc", "idm") else 1
  if method != "dc":
    config.dsa = _dsa()
  if method == "idc":
    config.dsa.update({"strategy": "color_crop_cutout", "draw": "sequence"})  # (Appendix C.1)
  return config


def _gradient_matching() -> ConfigDict:
  """The fields of DC and DSA alone."""
  config = ConfigDict()
  config.iterations = 1000  # outer loop K (DC, Appendix B)
  config.checkpoint_every = 50  # outer iterations
  config.distance = "ours"  # 'ours' (DC, Eq. 10), 'mse', 'cos' (Table T11) or 'l1'
  config.lr_image = 0.1  # eta_S (authors' code); momentum is 0.5
  config.lr_network = 0.01  # eta_theta (authors' code)
  config.inner_loop = placeholder(int)  # T; None: by ipc, as the authors' code has it
  config.network_epochs = placeholder(int)  # passes over S between matchings; None: by ipc
  return config


def _distribution_matching() -> ConfigDict:
  """The fields of DM alone."""
  config = ConfigDict()
  config.iterations = 20000  # (authors' code)
  config.checkpoint_every = 500  # iterations
  config.embedding = "network"  # 'network', or 'pixels' (supplement, section 2.2)
  config.lr_image = placeholder(float)  # None: 1, or 10 above 50 images per class
  config.trained = ConfigDict()  # networks in place of random ones (supplement, section 3)
  config.trained.low = placeholder(float)  # least accuracy, in [0, 1]; None: random networks
  config.trained.high = 1.0  # highest accuracy
  config.trained.networks = 20  # of which each iteration draws one
  return config


def _idc() -> ConfigDict:
  """The fields of IDC alone."""
  config = ConfigDict()
  # Matchings of all classes; None: by dataset, 200,000, but 50,000 for ImageNet and 100,000 for
  # speech (authors' code)
  config.iterations = placeholder(int)
  config.checkpoint_every = 100  # iterations
  # Of the gradients of convolutions: 'mse', 'l1', 'ours' or 'cos'; None: 'mse' for CIFAR and
  # SVHN, else 'l1' (Appendix C.1)
  config.distance = placeholder(str)
  config.lr_image = placeholder(float)  # lambda; None: by dataset, times ipc / 10 (authors' code)
  config.inner_loop = 100  # M, iterations with one network (Appendix C.1)
  config.batch_real = 64  # real images of each class in one matching (authors' code)
  config.batch_synthetic = 128  # most decoded images of each class in one (authors' code)
  config.training = ConfigDict()  # of the networks that gradients are taken of
  config.training.data = "real"  # 'real', or 'synthetic' as in DSA (Table 5)
  config.training.steps = placeholder(int)  # of SGD an iteration; None: 32 for CIFAR, else 8
  config.training.batch = 64  # images of a step
  config.training.lr = 0.01
  config.training.weight_decay = 5e-4
  # 'none', or transforms as in dsa.strategy, drawn for each image (Appendix C.1)
  config.training.augmentation = "color_crop"
  config.training.draw = "sequence"  # all of them in 'sequence', or 'one' for each batch
  config.training.cutmix = placeholder(float)  # probability; None: as at evaluation
  # Passes over the real images before the first matching (10 for ImageNet-10)
  config.training.pretraining = 0
  # How many pretrained networks to choose from; 0: each is pretrained anew
  config.training.networks = 0
  return config


def _idm() -> ConfigDict:
  """The fields of IDM alone."""
  config = ConfigDict()
  config.iterations = 20_000  # (authors' code)
  config.checkpoint_every = 500  # iterations
  config.batch_real = placeholder(int)  # None: 5000 at one image per class, else 256
  config.lr_image = 0.2  # (supplement, section 1)
  config.regularisation = placeholder(float)  # None: 0.5 up to 10 images per class, else 0.1
  config.queue = ConfigDict()  # of networks (section 4.2)
  config.queue.initial = 3  # N (authors' code)
  config.queue.size = 100  # N_max
  # Iterations from one training and one new network to the next; None: 5 at one image, else 30
  config.queue.interval = placeholder(int)
  config.queue.steps = placeholder(int)  # K; None: 10, but 50 for CIFAR-100 with ten images
  config.queue.batch = 256  # real images of a step
  config.queue.lr = 0.01
  # Networks to start from in place of random ones (supplement, section 3); 0: none
  config.queue.pretrained = 0
  config.queue.pretraining = 10  # passes over the real images that each has been trained for
  config.queue.classes = 1.0  # share of the classes that each copy is trained on
  return config


def _dsa() -> ConfigDict:
  fields = ConfigDict()
  # 'siamese', 'independent', 'real', 'synthetic' or 'none' (DSA, Table 4)
  fields.scheme = "siamese"
  # Transforms joined by '_', and by '+' your own, FILE.py:NAME; None: all six, without flip for
  # digits (DSA, section 4.4)
  fields.strategy = placeholder(str)
  fields.draw = "one"  # 'one' of them for each batch, or all in 'sequence' (as IDC)
  return fields


def _formation() -> ConfigDict:
  fields = ConfigDict()
  # 'uniform', 'multi_scale', 'bounded', 'learnable', 'time' or 'identity' (dcjax/sets/formation.py)
  fields.name = "uniform"
  fields.factor = 1  # tiles along a side of a stored image; 1: none
  fields.bound = formation.BOUND  # decoded images a class, for 'bounded'
  return fields


def _dataset() -> ConfigDict:
  fields = ConfigDict()
  # 'digits', 'npz', 'folder', 'hf', 'speech', one of the papers'
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
  # Values of black and white, '0,4095' for 12 bits in files of 16; empty: 0 and 1 for floats, the
  # type's range for 8 and 16 bits
  fields.range = ()
  # Share of each class that is for testing where a folder or 'hf' sets none apart, and which one
  fields.test_share = 0.2
  fields.test_seed = 0
  fields.image_column = ""  # of 'hf'; empty: the one of images
  fields.label_column = ""  # of 'hf'; empty: the one of class labels, or one that is called so
  # Names of those to take, comma-separated, or a text file that names one a line; empty: all
  fields.classes = ()
  fields.rgb_side = 0  # side that images of any source are brought to, in RGB; 0: as they are
  fields.zca = False  # whiten images after normalising them, as KIP does (IDC, Appendix E.6)
  return fields


def _network() -> ConfigDict:
  fields = ConfigDict()
  # 'convnet', 'lenet', 'mlp', 'alexnet', 'vgg11', 'resnet10', 'resnet10_ap', 'resnet18',
  # 'resnet18_ap', 'densenet121' or 'efficientnet_b0'
  fields.name = "convnet"
  fields.width = 128  # these four are ConvNet's alone (DC, section 3.1)
  fields.depth = 3
  fields.activation = "relu"  # 'sigmoid', 'relu', 'leaky_relu' or 'swish'
  fields.pooling = "average"  # 'none', 'max' or 'average'
  # 'none', 'batch', 'layer', 'instance' or 'group'; None: no norm in alexnet, else 'instance'
  fields.norm = placeholder(str)
  fields.init = "torch"  # 'torch' (what published numbers rest on) or 'kaiming'
  # 'float32', or 'bfloat16' for images and activations; evaluations are in float32
  fields.precision = "float32"
  return fields


def _evaluation(protocol: str) -> ConfigDict:
  fields = ConfigDict()
  fields.protocol = protocol  # 'dc', 'dsa', 'dm', 'idc', 'idm' or 'idc_continual'
  fields.networks = 20  # trained from scratch on each set (DC, section 3.1); 0: none
  fields.epochs = placeholder(int)  # None: the protocol's
  # Where the network sees more images than are stored, fewer of the protocol's epochs, so that
  # training costs as many steps as on the stored images (IDC, Table 2)
  fields.same_steps = False
  # 'none', 'dc', 'dc_batch_norm', 'imagenet', or transforms as in dsa.strategy; None: the
  # protocol's
  fields.augmentation = placeholder(str)
  fields.cutmix = placeholder(float)  # probability for each batch; None: the protocol's
  fields.checks = 4  # tests of each network, evenly over its epochs, for 'best'
  # Networks (`vgg11`, `convnet:width=64`) or pools of them (`widths`), comma-separated, see
  # dcjax/nn/architectures.py; empty: the network above, with instance norm in place of batch norm
  fields.architectures = ()
  fields.whole = False  # also train on the whole training set
  return fields


def _compute() -> ConfigDict:
  fields = ConfigDict()  # None: what dcjax.devices.strategy chooses for the backend
  fields.convolution = placeholder(str)  # 'patches', 'winograd' or 'lax'
  fields.class_map = placeholder(str)  # 'scan' or 'vmap'
  fields.image_block = placeholder(int)  # images with activations alive together; 0: all
  # Of these in a ConvNet's first block when gradients are matched; 0: all
  fields.first_block = placeholder(int)
  # Synthetic images of a class that are differentiated together; 0: all. Lower it where memory ends
  fields.synthetic_block = placeholder(int)
  fields.network_block = placeholder(int)  # networks trained together at evaluation
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
  # Bytes, of training images as they are decoded; also of those that one stage may take
  fields.memory_limit = 4 * 2**30
  fields.workers = placeholder(int)  # processes that decode; None: one for each core but one
  return fields
