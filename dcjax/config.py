"""The config of a run: every field with its default, and the checks that need no data."""

import math
from collections.abc import Iterator
from typing import Any

from absl import logging
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from dcjax import augment, coreset, evaluation, formation
from dcjax.data import base_name
from dcjax.errors import UserError, check_least, check_name, check_probability, nearest
from dcjax.loop import LONGEST_CHUNK
from dcjax.matching import DISTANCES
from dcjax.methods import INITS, dc, idc
from dcjax.methods.feature_matching import EMBEDDINGS

METHODS = ("dc", "dsa", "dm", "idc", "idm", *coreset.METHODS)
SEEDS = 2**32
RATES = {
  "lr_image": "0.1 (DC, DSA), 1 (DM), 0.2 (IDM), or 0.005 for CIFAR-10 and 10 images (IDC)",
  "lr_network": "0.01",
  "training.lr": "0.01",
  "queue.lr": "0.01",
}
# Fields, or beginnings of them, that change no figure of a run.
INDIFFERENT = (
  "compute.",
  "dataset.cache_dir",
  "dataset.data_dir",
  "checkpoint_every",
  "evaluate_every",
  "picture_every",
)
SQUARED = ("cifar10", "cifar100", "svhn_cropped")  # on which IDC matches by squared distances
SIGNS = ("mnist", "svhn_cropped", "digits")  # datasets whose images mean something else mirrored


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
  # 'noise' (DC, Appendix A), 'real' (DSA, section 4.1; DM) or 'mix' (IDC: a real image a tile)
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
  # Matchings of all classes: 2000 networks with `inner_loop` each (authors' code)
  config.iterations = 200_000
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
  # 'none', or transforms of DSA joined by '_', drawn for each image (Appendix C.1)
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
  # Transforms joined by '_'; None: all six, without flip for digits (DSA, section 4.4)
  fields.strategy = placeholder(str)
  fields.draw = "one"  # 'one' of them for each batch, or all in 'sequence' (as IDC)
  return fields


def _formation() -> ConfigDict:
  fields = ConfigDict()
  # 'uniform', 'multi_scale', 'bounded', 'learnable', 'time' or 'identity' (dcjax/formation.py)
  fields.name = "uniform"
  fields.factor = 1  # tiles along a side of a stored image; 1: none
  fields.bound = formation.BOUND  # decoded images a class, for 'bounded'
  return fields


def _dataset() -> ConfigDict:
  fields = ConfigDict()
  fields.name = "mnist"  # 'digits', 'npz', 'folder', or a name in TensorFlow Datasets
  fields.data_dir = ""  # TFDS' folder (empty: its own default), the .npz, the image folder
  fields.cache_dir = ""  # where decoded images are kept; empty: ~/.cache/dcjax
  fields.side = 64  # height and width of images from a folder
  fields.classes = ()  # folders to load, comma-separated; empty: all
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
  return fields


def _evaluation(protocol: str) -> ConfigDict:
  fields = ConfigDict()
  fields.protocol = protocol  # 'dc', 'dsa', 'dm', 'idc' or 'idm'
  fields.networks = 20  # trained from scratch on each set (DC, section 3.1); 0: none
  fields.epochs = placeholder(int)  # None: the protocol's
  # Where the network sees more images than are stored, fewer of the protocol's epochs, so that
  # training costs as many steps as on the stored images (IDC, Table 2)
  fields.same_steps = False
  # 'none', 'dc', 'dc_batch_norm', 'imagenet', or transforms of DSA joined by '_'; None: the
  # protocol's
  fields.augmentation = placeholder(str)
  fields.cutmix = placeholder(float)  # probability for each batch; None: the protocol's
  fields.checks = 4  # tests of each network, evenly over its epochs, for 'best'
  # Networks (`vgg11`, `convnet:width=64`) or pools of them (`widths`), comma-separated, see
  # dcjax/nn/pools.py; empty: the network above, with instance norm in place of batch norm
  fields.architectures = ()
  fields.whole = False  # also train on the whole training set
  return fields


def _compute() -> ConfigDict:
  fields = ConfigDict()  # None: what dcjax.strategy chooses for the backend
  fields.convolution = placeholder(str)  # 'patches', 'winograd' or 'lax'
  fields.class_map = placeholder(str)  # 'scan' or 'vmap'
  fields.image_block = placeholder(int)  # images with activations alive together; 0: all
  fields.network_block = placeholder(int)  # networks trained together at evaluation
  fields.devices = placeholder(int)  # devices over which the classes are spread
  fields.chunk = placeholder(int)  # iterations between two looks; None: about a second
  return fields


def complete(fields: dict[str, Any]) -> ConfigDict:
  """The default config of a method with some fields replaced.

  Args:
    fields: a config as nested dicts; it need not have all fields. `method` says which default;
      without it that is DC's.

  Raises:
    UserError: a field is unknown, or its value is of the wrong type.
  """
  method = fields.get("method", "dc")
  check_name("method", method, METHODS)
  config = default(method)
  known = dict(flatten(config.to_dict()))
  for name, value in flatten(fields):
    if name not in known:
      raise UserError(f"config: {method} has no field '{name}'; {nearest(name, known)}")
    try:
      if value is None and known[name] is not None:
        raise TypeError
      config.update_from_flattened_dict({name: value})
    except (TypeError, ValueError):
      raise UserError(
        f"{name}: {value!r} is not of the right type; its default is {known[name]!r}"
      ) from None
  return config


def resolve(config: ConfigDict) -> ConfigDict:
  """Checks a config as far as that goes without data, and fills in what is None.

  `compute` is left as it is: it may differ from machine to machine.

  Raises:
    UserError: names the field, the value and the remedy.
  """
  if not isinstance(config, ConfigDict):
    raise UserError(
      f"config: {type(config).__name__} is not a ConfigDict; let get_config() return what "
      "dcjax.config.default() makes, changed as need be"
    )
  config = complete(config.to_dict())
  check_name("evaluation.protocol", config.evaluation.protocol, evaluation.PROTOCOLS)
  check_least("ipc", config.ipc, 1)
  if not 0 <= config.seed < SEEDS:
    raise UserError(f"seed: {config.seed} is not within 0..{SEEDS - 1}; give one that is")
  _resolve_method(config)
  with config.unlocked():
    config.dataset.classes = _names(config.dataset.classes)
    config.evaluation.architectures = _names(config.evaluation.architectures)
    _fill_evaluation(config, _decoded_ipc(config))
  evaluation.check_settings(evaluation_settings(config.evaluation))
  if config.compute.chunk is not None:
    check_least("compute.chunk", config.compute.chunk, 1)
    if config.compute.chunk > LONGEST_CHUNK:
      raise UserError(f"compute.chunk: {config.compute.chunk} is too long; {LONGEST_CHUNK} at most")
  return config


def _resolve_method(config: ConfigDict) -> None:
  """Checks and fills in what some methods only have, in place."""
  if config.method in coreset.METHODS:
    _check_selection(config)
    return
  fill = {"dm": _fill_dm, "idc": _fill_idc, "idm": _fill_idm}.get(config.method, _fill_dc)
  fill(config)
  _check_loop(config)
  _check_rate("lr_image", config.lr_image)
  _note_what_is_new(config)
  if config.method != "dc":
    _fill_dsa(config.dsa, base_name(config.dataset.name))


def _note_what_is_new(config: ConfigDict) -> None:
  """Logs a distance that is in no paper with the method and the formation."""
  if "distance" not in config:
    return
  several = config.formation.factor > 1
  in_papers = {
    "dc": () if several else ("ours", "mse", "cos"),  # (DC, Table T11)
    "dsa": () if several else ("ours",),
    "idc": ("mse", "l1") if several else ("mse", "l1", "ours"),  # (IDC, Table 5)
  }[config.method]
  if config.distance not in in_papers:
    logging.info(
      "distance: '%s' with %s and formation.factor %d is in none of the papers",
      config.distance, config.method, config.formation.factor,
    )  # fmt: skip


def _fill_dc(config: ConfigDict) -> None:
  check_name("distance", config.distance, DISTANCES)
  _check_rate("lr_network", config.lr_network)
  _fill_schedule(config)


def _fill_dm(config: ConfigDict) -> None:
  check_name("embedding", config.embedding, EMBEDDINGS)
  _check_trained(config)
  if config.lr_image is None:
    config.lr_image = 10.0 if config.ipc > 50 else 1.0


def _fill_idc(config: ConfigDict) -> None:
  dataset, fields = base_name(config.dataset.name), config.training
  if config.distance is None:
    config.distance = "mse" if dataset in SQUARED else "l1"
  check_name("distance", config.distance, DISTANCES)
  if config.lr_image is None:
    config.lr_image = idc.rate(
      dataset, config.dataset.side, config.ipc, hundred_classes=_hundred_classes(config.dataset)
    )
  if fields.steps is None:
    fields.steps = 32 if dataset.startswith("cifar") else 8
  if fields.cutmix is None:
    fields.cutmix = evaluation.PROTOCOLS["idc"].augmentation(dataset, "")[1]
  check_name("training.data", fields.data, idc.DATA)
  check_name("training.draw", fields.draw, augment.DRAWS)
  if fields.augmentation != "none":
    augment.check_strategy("training.augmentation", fields.augmentation)
  _warn_of_flips("training.augmentation", fields.augmentation, dataset)
  check_probability("training.cutmix", fields.cutmix)
  _check_rate("training.lr", fields.lr)
  least = {"batch": 1, "steps": 0, "weight_decay": 0, "pretraining": 0, "networks": 0}
  for field, value in least.items():
    check_least(f"training.{field}", fields[field], value)
  for field in ("inner_loop", "batch_synthetic"):
    check_least(field, config[field], 1)
  if fields.networks and not fields.pretraining:
    raise UserError(
      f"training.networks: {fields.networks} networks are to be kept that nothing has trained; "
      "set training.pretraining, or leave training.networks at 0"
    )


def _fill_idm(config: ConfigDict) -> None:
  queue, one = config.queue, config.ipc == 1
  if config.batch_real is None:
    config.batch_real = 5000 if one else 256
  if config.regularisation is None:
    config.regularisation = 0.5 if config.ipc <= 10 else 0.1
  if queue.interval is None:
    queue.interval = 5 if one else 30
  if queue.steps is None:
    hard = base_name(config.dataset.name) == "cifar100" and config.ipc == 10
    queue.steps = 50 if hard else 10
  check_least("regularisation", config.regularisation, 0)
  _check_rate("queue.lr", queue.lr)
  least = {"initial": 1, "size": 1, "interval": 1, "steps": 1, "batch": 1, "pretrained": 0}
  for field, value in least.items():
    check_least(f"queue.{field}", queue[field], value)
  if queue.initial > queue.size:
    raise UserError(
      f"queue.initial: {queue.initial} networks do not fit a queue.size of {queue.size}; lower it"
    )
  if not 0 < queue.classes <= 1:
    raise UserError(f"queue.classes: {queue.classes} is no share; give one above 0, 1 at most")
  if queue.pretrained:
    check_least("queue.pretraining", queue.pretraining, 1)
  elif queue.classes < 1:
    raise UserError(
      f"queue.classes: {queue.classes} is for networks that are pretrained; set queue.pretrained"
    )


def _decoded_ipc(config: ConfigDict) -> int:
  """Images per class as networks see them."""
  if "formation" not in config:
    return config.ipc
  fields = config.formation
  return formation.Formation(**fields, shape=(), mean=(), std=()).decoded(config.ipc)


def _fill_dsa(fields: ConfigDict, dataset: str) -> None:
  check_name("dsa.scheme", fields.scheme, augment.SCHEMES)
  check_name("dsa.draw", fields.draw, augment.DRAWS)
  if fields.strategy is None:
    fields.strategy = default_strategy(dataset)
  augment.check_strategy("dsa.strategy", fields.strategy)
  _warn_of_flips("dsa.strategy", fields.strategy, dataset)


def _warn_of_flips(field: str, strategy: str, dataset: str) -> None:
  if dataset in SIGNS and "flip" in strategy.split("_"):
    logging.warning(
      "%s: '%s' flips images of %s, but a mirrored digit is another sign or none; leave flip out",
      field, strategy, dataset,
    )  # fmt: skip


def _check_loop(config: ConfigDict) -> None:
  """Checks what all methods of condensation have."""
  check_name("init", config.init, INITS)
  formation.check(**config.formation, ipc=config.ipc)
  for field in ("iterations", "batch_real", "checkpoint_every"):
    check_least(field, config[field], 1)
  for field in ("evaluate_every", "picture_every", "converged_after"):
    check_least(field, config[field], 0)


def _check_selection(config: ConfigDict) -> None:
  """Checks what all coresets have."""
  check_least("training.epochs", config.training.epochs, 1)
  for field in ("candidates", "validation"):
    check_least(f"selection.{field}", config.selection[field], 1)


def _check_trained(config: ConfigDict) -> None:
  low, high = config.trained.low, config.trained.high
  if low is None:
    return
  if not 0 <= low < high <= 1:
    raise UserError(f"trained: {low} to {high} is no range of accuracies in [0, 1]; mend it")
  check_least("trained.networks", config.trained.networks, 1)
  if config.embedding == "pixels":
    raise UserError("embedding: 'pixels' has no networks; leave trained.low out")


def default_strategy(dataset: str) -> str:
  """The transforms of DSA for a dataset: all six, without flip for digits (section 4.4)."""
  names = augment.STRATEGY.split("_")
  return "_".join(name for name in names if name != "flip" or dataset not in SIGNS)


def _fill_evaluation(config: ConfigDict, decoded_ipc: int) -> None:
  """Fills in what the protocol says of epochs, augmentation and CutMix, in place.

  Args:
    config: of the run.
    decoded_ipc: images per class as the network sees them.
  """
  fields, dataset = config.evaluation, base_name(config.dataset.name)
  protocol = evaluation.PROTOCOLS[fields.protocol]
  # IDC trains with all transforms, whatever a set was matched with.
  matched = "dsa" in config and fields.protocol != "idc"
  strategy = config.dsa.strategy if matched else default_strategy(dataset)
  augmentation, cutmix = protocol.augmentation(dataset, strategy)
  if fields.augmentation is None:
    fields.augmentation = augmentation
  _warn_of_flips("evaluation.augmentation", fields.augmentation, dataset)
  if fields.cutmix is None:
    fields.cutmix = cutmix
  if fields.cutmix and len(config.dataset.classes) == 1:
    raise UserError(
      f"evaluation.cutmix: {fields.cutmix} needs two classes, but dataset.classes names one; "
      "name more"
    )
  if fields.epochs is None:
    ipc = config.ipc if fields.same_steps else decoded_ipc
    epochs = protocol.epochs(fields.augmentation, ipc, _hundred_classes(config.dataset))
    fields.epochs = evaluation.same_steps(epochs, stored=ipc, decoded=decoded_ipc)


def _hundred_classes(fields: ConfigDict) -> bool:
  """Whether a dataset has a hundred classes or more, as far as its config tells without data.

  That is so of CIFAR-100, and where `dataset.classes` names so many.
  """
  return base_name(fields.name) == "cifar100" or len(fields.classes) >= 100


def evaluation_settings(fields: ConfigDict) -> evaluation.Settings:
  """The part of `config.evaluation` that one evaluation needs."""
  settings = evaluation.Settings(*(fields[name] for name in evaluation.Settings._fields))
  return settings._replace(checks=min(settings.checks, settings.epochs))


def flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
  """The fields of a nested config, by their dotted names."""
  for name, value in tree.items():
    if isinstance(value, dict):
      yield from flatten(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", value


def _check_rate(field: str, value: float) -> None:
  if not 0 < value < math.inf:
    raise UserError(f"{field}: {value} is not a positive number; the papers have {RATES[field]}")


def _fill_schedule(config: ConfigDict) -> None:
  """The inner and network loops that belong to the images per class, unless given."""
  loops = ("inner_loop", "network_epochs")
  missing = [field for field in loops if config[field] is None]
  if missing and config.ipc not in dc.SCHEDULE:
    listed = ", ".join(str(ipc) for ipc in dc.SCHEDULE)
    raise UserError(
      f"ipc: {config.ipc} is not on the schedule ({listed}); set {' and '.join(missing)} by hand"
    )
  for field, value in zip(loops, dc.SCHEDULE.get(config.ipc, ()), strict=False):
    if field in missing:
      config[field] = value
  for field in loops:
    check_least(field, config[field], 1)


def _names(value: Any) -> tuple[str, ...]:
  """A tuple of names, also from `a,b` as the command line gives it."""
  parts = [value] if isinstance(value, str) else value
  return tuple(name for part in parts for name in part.split(",") if name)
