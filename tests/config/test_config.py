"""The config: schedules, preset arguments, and what is refused before any work."""

import importlib
import re

import pytest
from dcjax.configs import dc, dm, dsa, idc, idm, imagenet, quickstart, speech
from ml_collections import ConfigDict

import dcjax.config
from dcjax import UserError
from dcjax.config import flatten, of_file, presets


@pytest.mark.parametrize(
  ("ipc", "loops"), [(1, (1, 1)), (10, (10, 50)), (20, (20, 25)), (50, (50, 10))]
)
def test_loops_follow_the_images_per_class(ipc, loops):
  config = dcjax.config.resolve(dc.get_config(f"cifar10,ipc={ipc}"))
  assert (config.inner_loop, config.network_epochs) == loops


@pytest.mark.parametrize(
  ("preset", "dataset", "ipc", "loops"),
  [
    (dsa, "cifar100", 50, (10, 10)),
    (dsa, "cifar100", 10, (10, 50)),
    (dsa, "cifar10", 50, (50, 10)),
    (dc, "cifar100", 50, (50, 10)),
  ],
)
def test_dsa_has_shorter_loops_on_fifty_images_of_cifar100(preset, dataset, ipc, loops):
  config = preset.get_config(f"{dataset},ipc={ipc}")
  resolved = dcjax.config.resolve(config)
  assert (resolved.inner_loop, resolved.network_epochs) == loops
  config.inner_loop = 7
  resolved = dcjax.config.resolve(config)
  assert (resolved.inner_loop, resolved.network_epochs) == (7, loops[1])


EARLIER = [  # fields of an earlier version's file, and what is set where it lacks newer ones
  ({"method": "herding"}, {"selection.herding": "greedy"}),
  ({"method": "random"}, {"selection.herding": "nearest", "selection.random": "drawn"}),
  ({"method": "dc", "network": {"norm": "batch"}}, {"batch_norm": "batch"}),
  ({"method": "dsa", "network": {"norm": "instance"}}, {"batch_norm": "running"}),
  ({"network": {"name": "resnet10"}}, {"network.filters": 64, "network.growth": None}),
  ({"network": {"name": "resnet18"}}, {"network.filters": None, "network.growth": None}),
  (
    {"evaluation": {"architectures": ["mlp", "densenet121:norm=batch"]}},
    {"network.growth": 32, "network.filters": None},
  ),
  ({"network": {"name": "resnet10", "filters": None}}, {"network.filters": None}),
  ({"method": "idc", "dataset": {"name": "speech"}}, {"clamp": False}),
  ({"method": "idc", "dataset": {"name": "speech"}, "clamp": True}, {"clamp": True}),
  ({"method": "idc", "dataset": {"name": "mnist"}}, {"clamp": True}),
  ({"method": "herding", "selection": {"herding": "nearest"}}, {"selection.herding": "nearest"}),
]


@pytest.mark.parametrize(("fields", "expected"), EARLIER)
def test_files_of_earlier_versions_mean_what_they_meant(fields, expected):
  found = dict(flatten(of_file(fields).to_dict()))
  assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("network", [None, "resnet10", 3])
def test_a_damaged_file_of_an_earlier_version_is_refused_in_a_line(network):
  fields = {"network": network, "evaluation": {"architectures": "resnet10"}, "selection": 1}
  with pytest.raises(UserError):
    of_file(fields | {"method": "herding"})


def test_loops_set_by_hand_win():
  config = dc.get_config("ipc=3")
  config.inner_loop, config.network_epochs = 4, 5
  resolved = dcjax.config.resolve(config)
  assert (resolved.inner_loop, resolved.network_epochs) == (4, 5)


def test_one_loop_may_be_set_by_hand():
  config = dc.get_config("ipc=10")
  config.inner_loop = 4
  resolved = dcjax.config.resolve(config)
  assert (resolved.inner_loop, resolved.network_epochs) == (4, 50)


@pytest.mark.parametrize(
  ("dataset", "augmentation", "epochs"),
  [("mnist", "dc", 1000), ("cifar10", "none", 300)],
)
def test_protocol_augments_mnist_only(dataset, augmentation, epochs):
  fields = dcjax.config.resolve(dc.get_config(dataset)).evaluation
  assert (fields.augmentation, fields.epochs) == (augmentation, epochs)


def test_presets_are_the_papers():
  config = dcjax.config.resolve(dc.get_config("svhn"))
  assert config.dataset.name == "svhn_cropped"
  assert (config.iterations, config.batch_real, config.init) == (1000, 256, "noise")
  assert (config.lr_image, config.lr_network, config.evaluation.networks) == (0.1, 0.01, 20)
  assert (config.network.width, config.network.depth, config.network.norm) == (128, 3, None)


@pytest.mark.parametrize(
  "name",
  [
    "quickstart",
    "fast",
    "dc",
    "dsa",
    "dm",
    "idc",
    "idm",
    "rat_bptt",
    "mtt",
    "ftd",
    "datm",
    "frepo",
    "rcig",
    "kip",
    "dd",
    "ld",
    "rded",
    "imagenet",
    "coreset",
    "speech",
  ],
)
def test_smoke_shrinks_every_preset(name):
  config = importlib.import_module(f"dcjax.configs.{name}").get_config("smoke")
  assert config.get("iterations", 0) <= 2 and config.evaluation.epochs <= 2
  assert config.network.width <= 8
  assert not any("width" in name for name in config.evaluation.architectures)
  dcjax.config.resolve(config)


@pytest.mark.parametrize(
  ("dataset", "ipc", "rate"),
  [
    ("cifar10", 1, 1.0),
    ("cifar10", 50, 1.0),
    ("cifar10", 51, 10.0),
    ("mnist", 100, 10.0),
    ("cifar100", 50, 1.0),
    ("cifar100", 100, 1.0),
    ("cifar100", 125, 1.0),
  ],
)
def test_the_image_rate_of_dm_follows_the_images_per_class(dataset, ipc, rate):
  assert dcjax.config.resolve(dm.get_config(f"{dataset},ipc={ipc}")).lr_image == rate
  config = dm.get_config(f"{dataset},ipc={ipc}")
  config.lr_image = 3.0
  assert dcjax.config.resolve(config).lr_image == 3.0


@pytest.mark.parametrize("preset", [dsa, dm])
@pytest.mark.parametrize(
  ("dataset", "strategy"),
  [
    ("cifar10", "color_crop_cutout_flip_scale_rotate"),
    ("fashion_mnist", "color_crop_cutout_flip_scale_rotate"),
    ("mnist", "color_crop_cutout_scale_rotate"),
    ("svhn", "color_crop_cutout_scale_rotate"),
  ],
)
def test_digits_are_not_flipped_in_either_stage(preset, dataset, strategy):
  config = dcjax.config.resolve(preset.get_config(dataset))
  assert (config.dsa.strategy, config.evaluation.augmentation) == (strategy, strategy)
  assert (config.dsa.scheme, config.init, config.evaluation.epochs) == ("siamese", "real", 1000)


@pytest.mark.parametrize("field", ["dsa.strategy", "evaluation.augmentation"])
@pytest.mark.parametrize(
  ("dataset", "warns"),
  [("mnist", True), ("svhn_cropped", True), ("speech", True), ("cifar10", False)],
)
@pytest.mark.parametrize("strategy", ["crop_flip", "sequence:flip_color,one:crop_scale"])
def test_flipped_signs_are_warned_of(caplog, field, dataset, warns, strategy):
  config = dsa.get_config()
  config.dataset.name = dataset
  config.update_from_flattened_dict({field: strategy})
  with caplog.at_level("WARNING"):
    dcjax.config.resolve(config)
  assert (f"{field}: '{strategy}' flips images" in caplog.text) == warns


@pytest.mark.parametrize("preset", [dc, dsa, dm, idc, idm])
def test_what_a_preset_states_is_the_default(preset):
  """The numbers stand where a reader looks first; they may not differ from those of the method."""
  default = dict(flatten(dcjax.config.default(preset.get_config().method).to_dict()))
  assert len(preset.STATED) > 5
  assert {name: default[name] for name in preset.STATED} == preset.STATED


@pytest.mark.parametrize("method", presets.SPEECH_METHODS)
def test_spectrograms_are_evaluated_alike_and_not_augmented(method):
  config = dcjax.config.resolve(speech.get_config(f"{method},ipc=20"))
  fields = config.evaluation
  assert (config.method, config.dataset.name, config.ipc) == (method, "speech", 20)
  assert (config.network.name, config.network.depth) == ("convnet", 4)
  assert (fields.protocol, fields.augmentation, fields.cutmix) == ("idc", "none", 0)
  assert (fields.epochs, fields.networks) == (1000, 3)
  if method in ("dm", "idc"):
    assert config.dsa.scheme == "none"
  if method == "dsa":
    assert (config.dsa.scheme, config.dsa.strategy) == ("siamese", "color_crop_cutout_scale")


def test_idc_on_spectrograms():
  config = dcjax.config.resolve(speech.get_config("ipc=20"))
  assert (config.lr_image, config.training.lr, config.distance) == (6e-3, 3e-4, "l1")
  assert (config.iterations, config.inner_loop, config.batch_real) == (100_000, 100, 64)
  assert (config.formation.name, config.formation.factor, config.init) == ("time", 2, "mix")
  training = config.training
  assert (training.augmentation, training.cutmix, training.steps) == ("none", 0, 8)


def test_a_preset_of_one_method_only():
  with pytest.raises(UserError, match="both 'dm' and 'idc'; name one method"):
    speech.get_config("dm,idc")


def evaluated(dataset, protocol="idc", preset=dm, **fields):
  """The resolved fields of the evaluation."""
  config = preset.get_config()
  config.dataset.name = dataset
  config.evaluation.protocol = protocol
  config.update_from_flattened_dict({name.replace("__", "."): v for name, v in fields.items()})
  return dcjax.config.resolve(config).evaluation


@pytest.mark.parametrize(
  ("dataset", "augmentation", "cutmix", "epochs"),
  [
    ("cifar10", "sequence:flip_color,one:crop_scale_rotate", 0.5, 1000),
    ("cifar100", "sequence:flip_color,one:crop_scale_rotate", 0.5, 1000),
    ("tiny_imagenet", "sequence:flip_color,one:crop_scale_rotate", 0.5, 1000),
    ("svhn_cropped", "sequence:color,one:crop_scale_rotate,sequence:cutout", 0, 1000),
    ("imagenette/320px-v2", "idc_imagenet", 1.0, 3000),
    ("folder", "idc_imagenet", 1.0, 3000),
  ],
)
def test_idc_evaluates_by_dataset_and_images_per_class(dataset, augmentation, cutmix, epochs):
  fields = evaluated(dataset)
  assert (fields.augmentation, fields.cutmix, fields.epochs) == (augmentation, cutmix, epochs)
  assert evaluated(dataset, ipc=50).epochs == max(1000, epochs // 2)


def test_cutout_comes_back_where_cutmix_is_switched_off():
  fields = evaluated("cifar10", evaluation__cutmix=0)
  assert fields.augmentation == "sequence:flip_color,one:crop_scale_rotate,sequence:cutout"


def test_idc_evaluates_with_all_transforms_whatever_was_matched():
  assert evaluated("cifar10", "dm", dsa__strategy="crop").augmentation == "crop"
  augmentation = evaluated("cifar10", "idc", dsa__strategy="crop").augmentation
  assert augmentation == "sequence:flip_color,one:crop_scale_rotate"


def test_a_hundred_folders_are_trained_on_for_two_thirds():
  names = [f"n{number}" for number in range(100)]
  assert evaluated("folder", dataset__classes=tuple(names)).epochs == 2000
  assert evaluated("folder", dataset__classes=(",".join(names),)).epochs == 2000
  assert evaluated("folder", dataset__classes=tuple(names[1:])).epochs == 3000


def test_idm_evaluates_as_dm():
  fields = evaluated("cifar10", "dm").to_dict() | {"protocol": "idm"}
  assert evaluated("cifar10", "idm").to_dict() == fields


def test_fields_of_the_evaluation_win_over_the_protocol():
  fields = evaluated("cifar10", evaluation__cutmix=0, evaluation__epochs=7)
  assert (fields.cutmix, fields.epochs) == (0, 7)
  assert evaluated("cifar10", "dm").cutmix == 0
  assert evaluated("cifar10", "dm", evaluation__cutmix=0.5).cutmix == 0.5


@pytest.mark.parametrize(
  ("same_steps", "epochs"),
  [(False, 1500), (True, 500)],  # of 40 images; of 10, by a quarter
)
def test_epochs_count_the_images_that_a_network_sees(same_steps, epochs):
  config = dm.get_config("ipc=10")
  config.dataset.name = "folder"
  config.evaluation.protocol, config.evaluation.same_steps = "idc", same_steps
  config.formation.factor = 2
  assert dcjax.config.resolve(config).evaluation.epochs == epochs


def test_same_steps_changes_nothing_where_nothing_is_decoded():
  assert evaluated("folder", evaluation__same_steps=True).epochs == 3000


def test_same_steps_and_epochs_contradict_each_other():
  """But not in a config that was resolved before, nor where the epochs are the protocol's."""
  config = idc.get_config("cifar10,ipc=10")
  config.evaluation.same_steps = True
  resolved = dcjax.config.resolve(config)
  assert resolved.evaluation.epochs == 250  # 1000, of images that are decoded to four
  for fine in (config, resolved):
    dcjax.config.check_steps(dcjax.config.resolve(fine))
  config.evaluation.epochs = 1000
  message = r"evaluation.same_steps: True makes 250 epochs .* evaluation.epochs is 1000; leave one"
  with pytest.raises(UserError, match=message):
    dcjax.config.check_steps(dcjax.config.resolve(config))
  config.evaluation.same_steps = False
  dcjax.config.check_steps(dcjax.config.resolve(config))


def test_no_network_is_none_for_the_whole_dataset_too():
  message = "evaluation.whole: True, but evaluation.networks=0 trains none"
  with pytest.raises(UserError, match=message):
    evaluated("cifar10", evaluation__whole=True, evaluation__networks=0)


def test_the_paper_s_schedule_of_idm_trains_when_it_pushes():
  config = idm.get_config("cifar10,ipc=10")
  config.queue.schedule, config.queue.train_every = "paper", 7
  message = "queue.train_every: 7, but queue.schedule=paper trains when .* queue.interval=30; leave"
  with pytest.raises(UserError, match=message):
    dcjax.config.resolve(config)
  config.queue.train_every = 30
  assert dcjax.config.resolve(dcjax.config.resolve(config)).queue.train_every == 30


def test_cutmix_needs_two_classes():
  with pytest.raises(
    UserError, match=r"evaluation.cutmix: 1.0 needs two classes, but dataset.class"
  ):
    evaluated("folder", dataset__classes=("dogs",))
  evaluated("folder", dataset__classes=("dogs",), evaluation__cutmix=0)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"dsa.scheme": "simaese"}, "dsa.scheme: unknown 'simaese'; did you mean 'siamese'"),
    ({"dsa.draw": "al"}, "dsa.draw: unknown 'al'; choose one of: one, sequence"),
    ({"dsa.strategy": "color_corp"}, "dsa.strategy: unknown transform 'corp' in 'color_corp'"),
    ({"embedding": "pixel"}, "embedding: unknown 'pixel'; did you mean 'pixels'"),
    ({"trained.low": 0.8, "trained.high": 0.2}, "trained: 0.8 to 0.2 is no range of accuracies"),
    ({"trained.low": 0.3, "trained.networks": 0}, "trained.networks: 0 is too small"),
    ({"trained.low": 0.3, "embedding": "pixels"}, "embedding: 'pixels' has no networks"),
    ({"converged_after": -1}, "converged_after: -1 is too small"),
  ],
)
def test_bad_values_of_dm_are_named(fields, message):
  config = dm.get_config()
  config.update_from_flattened_dict(fields)
  with pytest.raises(UserError, match=message):
    dcjax.config.resolve(config)


def test_two_datasets_are_refused():
  with pytest.raises(UserError, match="both 'mnist' and 'cifar10'"):
    dc.get_config("mnist,cifar10")


def test_a_config_may_hold_only_what_differs():
  resolved = dcjax.config.resolve(ConfigDict({"ipc": 10, "network": {"width": 7}}))
  expected = dcjax.config.default()
  expected.ipc, expected.network.width = 10, 7
  assert resolved == dcjax.config.resolve(expected)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"ipcs": 1}, "no field 'ipcs'; did you mean 'ipc'"),
    ({"network": {"depht": 1}}, "no field 'network.depht'; did you mean 'network.depth'"),
    ({"network": 3}, "no field 'network'; did you mean 'lr_network'"),
    ({"ipc": "one"}, "ipc: 'one' is not of the right type; its default is 1"),
    ({"network": {"name": None}}, "network.name: None is not of the right type"),
  ],
)
def test_fields_of_no_config_are_refused(fields, message):
  with pytest.raises(UserError, match=message):
    dcjax.config.resolve(ConfigDict(fields))


def test_what_is_no_config_is_refused():
  with pytest.raises(UserError, match="NoneType is not a ConfigDict"):
    dcjax.config.resolve(None)


def test_a_version_in_the_name_changes_no_protocol():
  config = dc.get_config("mnist")
  config.dataset.name = "mnist:3.0.1"
  assert dcjax.config.resolve(config).evaluation.augmentation == "dc"


@pytest.mark.parametrize("argument", ["minst", "ipc=ten", "ipc", "smok"])
def test_unknown_argument_is_named(argument):
  with pytest.raises(UserError, match=f"config argument: unknown '{argument}'"):
    dc.get_config(argument)


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("ipc", 0, "ipc: 0 is too small; give 1 or more"),
    ("ipc", 7, r"ipc: 7 is not on the schedule .*inner_loop and network_epochs"),
    ("iterations", 0, "iterations: 0 is too small"),
    ("batch_real", 0, "batch_real: 0"),
    ("checkpoint_every", 0, "checkpoint_every: 0"),
    ("evaluate_every", -1, "evaluate_every: -1"),
    ("inner_loop", 0, "inner_loop: 0"),
    ("lr_image", -0.1, "lr_image: -0.1 is not a positive number; the papers have 0.1"),
    ("lr_network", float("nan"), "lr_network: nan"),
    ("lr_image", float("inf"), "lr_image: inf is too large"),
    ("seed", -1, "seed: -1 is not within"),
    ("seed", 2**63, "seed: 9223372036854775808 is not within 0..4294967295"),
    ("method", "dcc", "method: unknown 'dcc'; did you mean 'dc'"),
    ("init", "nose", "init: unknown 'nose'; did you mean 'noise'"),
    ("distance", "our", "distance: unknown 'our'; did you mean 'ours'"),
    ("batch_norm", "runing", "batch_norm: unknown 'runing'; did you mean 'running'"),
    ("evaluation.protocol", "cd", "evaluation.protocol: unknown 'cd'"),
    ("evaluation.augmentation", "corp", "evaluation.augmentation: unknown 'corp'"),
    ("evaluation.networks", -1, "evaluation.networks: -1"),
    ("evaluation.epochs", 0, "evaluation.epochs: 0"),
    ("evaluation.cutmix", -0.1, "evaluation.cutmix: -0.1 is no probability; give one in"),
    ("compute.chunk", 0, "compute.chunk: 0"),
    ("compute.chunk", 101, "compute.chunk: 101 is too long; 100 at most"),
  ],
)
def test_bad_value_is_named(field, value, message):
  config = quickstart.get_config()
  config.update_from_flattened_dict({field: value})
  with pytest.raises(UserError, match=message):
    dcjax.config.resolve(config)


def test_names_may_be_separated_by_commas():
  config = quickstart.get_config()
  config.evaluation.architectures = ("convnet,mlp",)
  assert dcjax.config.resolve(config).evaluation.architectures == ("convnet", "mlp")


def test_resolving_leaves_the_argument_alone_and_is_idempotent():
  config = quickstart.get_config()
  resolved = dcjax.config.resolve(config)
  assert config.inner_loop is None
  assert dcjax.config.resolve(resolved) == resolved


# --- IDC and IDM ---------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("preset", "distance", "rate", "steps"),
  [
    ("cifar10,ipc=10", "mse", 5e-3, 32),
    ("svhn,ipc=1", "mse", 5e-4, 8),
    ("mnist,ipc=50", "l1", 5e-4, 8),
  ],
)
def test_idc_follows_the_dataset(preset, distance, rate, steps):
  config = dcjax.config.resolve(idc.get_config(preset))
  assert (config.distance, config.training.steps) == (distance, steps)
  assert config.lr_image == pytest.approx(rate) and config.iterations == 200_000
  assert (config.formation.factor, config.init, config.batch_real) == (2, "mix", 64)
  uncut = preset.startswith("mnist")
  assert config.dsa.strategy == ("color_crop" if uncut else "color_crop_cutout")
  assert config.dsa.draw == "sequence" and config.training.augmentation == "color_crop"
  assert (config.training.cutmix, config.evaluation.cutmix) == ((0, 0) if uncut else (0.5, 0.5))


@pytest.mark.parametrize(
  ("preset", "factor", "strategy", "of_networks", "at_evaluation"),
  [
    ("mnist,ipc=10", 1, "color_crop_cutout", 0.5, 0.5),
    ("mnist,ipc=10", 3, "color_crop", 0, 0),
    ("fashion_mnist,ipc=10", 2, "color_crop_cutout", 0.5, 0.5),
    ("svhn,ipc=1", 1, "color_crop_cutout", 0.5, 0),
    ("svhn,ipc=10", 1, "color_crop_cutout", 0.5, 0.5),
  ],
)
def test_digits_that_idc_excepts(preset, factor, strategy, of_networks, at_evaluation):
  config = idc.get_config(preset)
  config.formation.factor = factor
  config = dcjax.config.resolve(config)
  assert config.dsa.strategy == strategy
  assert (config.training.cutmix, config.evaluation.cutmix) == (of_networks, at_evaluation)


@pytest.mark.parametrize("ipc", [1, 10, 50])
def test_the_rate_of_idc_on_fashion_mnist_follows_the_pixels_of_28_against_32(ipc):
  config = dcjax.config.resolve(idc.get_config(f"fashion_mnist,ipc={ipc}"))
  assert config.lr_image == pytest.approx(7.65625e-5 * ipc / 10)  # 1e-4 x 784 / 1024


def test_the_rate_of_idc_grows_with_the_pixels_of_images_from_a_folder():
  config = idc.get_config("ipc=10")
  config.dataset.name, config.dataset.side = "folder", 112
  resolved = dcjax.config.resolve(config)
  assert resolved.lr_image == pytest.approx(3e-3 / 4) and resolved.iterations == 50_000


def test_epochs_follow_the_decoded_images():
  epochs = dict.fromkeys((1, 2))
  for factor in epochs:
    config = idc.get_config("cifar10,ipc=10")
    config.dataset.name = "folder"
    config.formation.factor = factor
    epochs[factor] = dcjax.config.resolve(config).evaluation.epochs
  assert epochs == {1: 2000, 2: 1500}  # of 10 and of 40 images per class


@pytest.mark.parametrize(
  ("method", "distance", "factor", "noted"),
  [
    ("dc", "mse", 1, False),
    ("dc", "ours", 2, True),
    ("dsa", "mse", 1, True),
    ("idc", "l1", 3, False),
    ("idc", "ours", 1, False),
    ("idc", "ours", 2, True),
  ],
)
def test_what_no_paper_combines_is_logged(method, distance, factor, noted, caplog):
  config = dcjax.config.default(method)
  config.distance, config.formation.factor = distance, factor
  with caplog.at_level("INFO"), caplog.at_level("INFO", logger="absl"):
    dcjax.config.resolve(config)
  assert ("in none of the papers" in caplog.text) == noted


@pytest.mark.parametrize(
  ("preset", "real", "regularisation", "interval", "steps"),
  [
    ("cifar10,ipc=1", 5000, 0.5, 5, 10),
    ("cifar10,ipc=10", 256, 0.5, 30, 10),
    ("cifar10,ipc=50", 256, 0.1, 30, 10),
    ("cifar100,ipc=1", 5000, 0.5, 5, 10),
    ("cifar100,ipc=10", 256, 0.1, 30, 50),
    ("tiny_imagenet,ipc=10", 256, 0.5, 30, 10),
    ("tiny_imagenet,ipc=50", 256, 0.8, 30, 50),
  ],
)
def test_idm_follows_the_images_per_class(preset, real, regularisation, interval, steps):
  config = dcjax.config.resolve(idm.get_config(preset))
  assert (config.batch_real, config.regularisation) == (real, regularisation)
  assert (config.queue.interval, config.queue.steps) == (interval, steps)
  assert (config.init, config.formation.name, config.formation.factor) == ("mix", "partition", 2)


@pytest.mark.parametrize(
  ("given", "found"),
  [
    ({}, (2, 1, "running")),
    ({"schedule": "paper"}, (0, 30, "measured")),
    ({"schedule": "paper", "interval": 7}, (0, 7, "measured")),
    ({"schedule": "paper", "trained": 3, "accuracy": "running"}, (3, 30, "running")),
    ({"train_every": 2, "trained": 1}, (1, 2, "running")),
    ({"accuracy": "measured"}, (2, 1, "measured")),
  ],
)
def test_a_schedule_of_idm_fills_in_what_is_not_given(given, found):
  config = idm.get_config("cifar10,ipc=10")
  config.queue.update(given)
  queue = dcjax.config.resolve(config).queue
  assert (queue.trained, queue.train_every, queue.accuracy) == found
  assert queue.networks == 1


@pytest.mark.parametrize(
  ("method", "field", "value", "message"),
  [
    ("idc", "distance", "l2", "distance: unknown 'l2'; did you mean 'l1'"),
    ("idc", "training.data", "fake", "training.data: unknown 'fake'"),
    ("idc", "training.cutmix", 2.0, "training.cutmix: 2.0 is no probability"),
    ("idc", "training.lr", 0.0, "training.lr: 0.0 is not a positive number"),
    ("idc", "training.networks", 3, "training.networks: 3 networks .* nothing has trained"),
    ("idc", "inner_loop", 0, "inner_loop: 0 is too small"),
    ("idc", "training.augmentation", "crops", "training.augmentation: unknown transform 'crops'"),
    ("dm", "formation.factor", 0, "formation.factor: 0 is too small"),
    ("dm", "formation.name", "unform", "formation.name: unknown 'unform'"),
    ("idm", "queue.size", 0, "queue.size: 0 is too small"),
    ("idm", "queue.initial", 101, "queue.initial: 101 networks do not fit a queue.size of 100"),
    ("idm", "queue.networks", 4, "queue.networks: 4 cannot serve where there are queue.initial=3"),
    ("idm", "queue.networks", 0, "queue.networks: 0 is too small"),
    ("idm", "queue.trained", 4, "queue.trained: 4 cannot be trained where there are queue.init"),
    ("idm", "queue.trained", -1, "queue.trained: -1 is too small"),
    ("idm", "queue.train_every", 0, "queue.train_every: 0 is too small"),
    ("idm", "queue.size", 2, "queue.initial: 3 networks do not fit a queue.size of 2"),
    ("idm", "queue.networks", 200, "queue.networks: 200 cannot serve .* raise queue.initial"),
    ("idm", "queue.schedule", "papers", "queue.schedule: unknown 'papers'; did you mean 'paper'"),
    ("idm", "queue.accuracy", "best", "queue.accuracy: unknown 'best'; choose one of"),
    ("idm", "queue.augmentation", "crops", "queue.augmentation: unknown transform 'crops'"),
    ("idm", "queue.lr", float("nan"), "queue.lr: nan is "),
    ("idm", "queue.classes", 0.5, "queue.classes: 0.5 is for networks that are pretrained"),
    ("idm", "queue.classes", float("nan"), "queue.classes: nan is "),
    ("idm", "regularisation", -1.0, "regularisation: -1.0 is too small"),
    ("idm", "regularisation", float("nan"), "regularisation: nan is "),
  ],
)
def test_what_idc_and_idm_cannot_have(method, field, value, message):
  config = dcjax.config.default(method)
  config.update_from_flattened_dict({field: value})
  with pytest.raises(UserError, match=message):
    dcjax.config.resolve(config)


# --- ImageNet, and classes that a file names -------------------------------------------------


def test_imagenet_with_its_classes():
  ten, hundred = (
    dcjax.config.resolve(imagenet.get_config(f"idc{classes},ipc=10")) for classes in (10, 100)
  )
  assert (len(ten.dataset.classes), len(hundred.dataset.classes)) == (10, 100)
  assert hundred.dataset.classes[:10] == ten.dataset.classes  # (IDC, Appendix B)
  assert len(set(hundred.dataset.classes)) == 100
  assert all(re.fullmatch(r"n\d{8}", name) for name in hundred.dataset.classes)
  # Appendix C.1
  assert (ten.lr_image, ten.training.lr, ten.distance) == (3e-3, 0.01, "l1")
  assert (hundred.lr_image, hundred.training.lr) == (1e-3, 0.1)
  assert (ten.evaluation.augmentation, ten.evaluation.cutmix) == ("idc_imagenet", 1.0)
  assert (ten.network.name, ten.formation.factor) == ("resnet10_ap", 3)
  assert ten.network.init == hundred.network.init == "fan_out"
  # The authors' code
  assert (ten.batch_real, ten.training.pretraining, ten.training.networks) == (64, 10, 0)
  assert (hundred.batch_real, hundred.training.batch, hundred.training.weight_decay) == (
    128, 128, 1e-4,
  )  # fmt: skip
  assert (hundred.training.pretraining, hundred.training.networks) == (5, 10)
  assert (ten.evaluation.epochs, hundred.evaluation.epochs) == (1000, 600)  # of 90 images
  assert (ten.evaluation.protocol, hundred.evaluation.protocol) == ("idc", "idc_hundred")
  assert hundred.evaluation.augmentation == "idc_imagenet" and hundred.evaluation.cutmix == 1
  idm_hundred = dcjax.config.resolve(imagenet.get_config("idm100"))
  assert (idm_hundred.network.name, idm_hundred.network.depth) == ("convnet", 6)
  assert (idm_hundred.batch_real, idm_hundred.queue.batch) == (128, 128)
  assert (idm_hundred.queue.interval, idm_hundred.queue.size) == (50, 50)
  assert (idm_hundred.regularisation, idm_hundred.formation.factor) == (3.0, 2)
  many = dcjax.config.resolve(imagenet.get_config("idm100,ipc=50"))
  assert (many.formation.factor, many.init, many.queue.size) == (1, "real", 100)
  assert many.queue.pretrained > 0 and many.batch_real == 128


@pytest.mark.parametrize(
  ("preset", "factor", "name"),
  [
    ("idc100,ipc=10", 3, "uniform"),
    ("idc100,ipc=20", 3, "bounded"),
    ("idc10,ipc=20", 3, "bounded"),
    ("idc100,ipc=20", 2, "uniform"),
  ],
)
def test_many_images_of_imagenet_are_not_all_matched(preset, factor, name):
  config = imagenet.get_config(preset)
  config.formation.factor = factor
  resolved = dcjax.config.resolve(config)
  assert resolved.formation.name == name
  # Of 80 to 180 images, all that the set decodes to
  assert resolved.evaluation.epochs == (1000 if preset.startswith("idc10,") else 600)


def test_classes_from_a_file(tmp_path):
  file = tmp_path / "classes.txt"
  file.write_text("# mine\n\nred  # as roses are\n blue\n")
  config = dcjax.config.default()
  config.dataset.classes = (str(file),)
  assert dcjax.config.resolve(config).dataset.classes == ("red", "blue")
  file.write_text("# none\n")
  with pytest.raises(UserError, match=r"dataset.classes: .*classes.txt names no class"):
    dcjax.config.resolve(config)
  file.unlink()
  with pytest.raises(UserError, match=r"dataset.classes: cannot read .*classes.txt"):
    dcjax.config.resolve(config)


def test_a_hundred_classes_given_as_one_text_are_a_hundred():
  config = dcjax.config.default("idc")
  config.dataset.name, config.ipc = "folder", 10
  config.dataset.classes = (",".join(f"c{k}" for k in range(100)),)
  config.dataset.side = 224
  assert dcjax.config.resolve(config).lr_image == 1e-3


def test_names_of_classes_may_have_commas(tmp_path):
  (tmp_path / "list.txt").write_text("Pepper,_bell___healthy\nTomato\n")
  config = dcjax.config.default("dm")
  config.dataset.classes = (str(tmp_path / "list.txt"),)
  for _ in range(2):  # as a run that goes on reads its own config
    config = dcjax.config.resolve(config)
    assert config.dataset.classes == ("Pepper,_bell___healthy", "Tomato")
  assert dcjax.config.datasets.class_names(("a,b",)) == ("a", "b")
