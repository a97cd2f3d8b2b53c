"""The tables of the papers: figures taken from the text by hand, and configs of cells."""

import pytest
from dcjax.configs import imagenet, speech

import dcjax.config
from dcjax.tables import TABLES, plan

# MNIST, ConvNet, 1 image per class: the same experiment in eight tables, 91.7 ± 0.5 in all.
DEFAULTS = {
  "dc/1": ("mnist-1", "ours"),
  "dc/2": ("convnet", "convnet"),
  "dc/T6": ("relu", "relu"),
  "dc/T7": ("avgpooling", "avgpooling"),
  "dc/T8": ("instancenorm", "instancenorm"),
  "dc/T9": ("3", "3"),
  "dc/T10": ("128", "128"),
  "dc/T11": ("ours", "convnet"),
  "dsa/1": ("mnist-1", "dc"),
}


def cell(table, row, column):
  (found,) = (c for c in TABLES[table].cells() if (c.row, c.column) == (row, column))
  return found


def trial(table, row, column, seed=0):
  (found,) = plan.trials(cell(table, row, column), {}, [seed])
  return found


@pytest.mark.parametrize(
  ("table", "row", "column", "figure"),
  [
    ("dc/1", "mnist-50", "k-center", (97.4, 0.3)),
    ("dc/1", "fashionmnist-10", "forgetting", (53.9, 2.0)),
    ("dc/1", "svhn-10", "herding", (50.5, 3.3)),
    ("dc/1", "cifar10-50", "random", (43.4, 1.0)),
    ("dc/1", "cifar10-10", "whole", (84.8, 0.1)),
    ("dc/2", "mlp", "alexnet", (70.9, 11.6)),
    ("dc/2", "resnet", "vgg", (83.4, 2.4)),
    ("dc/3", "mnist-10", "ours", (93.9, 0.6)),
    ("dc/T8", "instancenorm", "batchnorm", (56.7, 6.5)),
    ("dc/T9", "4", "3", (91.9, 0.5)),
    ("dc/T11", "cosine", "resnet", (68.8, 7.8)),
    ("dsa/1", "mnist-50", "herding", (94.8, 0.2)),
    ("dsa/1", "cifar10-50", "dsa", (60.6, 0.5)),
    ("dsa/2", "10", "dsa", (32.3, 0.3)),
    ("dsa/3", "mlp", "vgg", (58.7, 6.5)),
    ("dsa/4", "c", "crop", (42.8, 0.7)),
    ("dsa/4", "e", "rotation", (46.3, 0.5)),
    ("dsa/5", "svhn", "cutout", (73.1, 0.6)),
    ("dc/T12", "svhn-10", "top-100", (40.3, 1.3)),
    ("dc/T13", "10", "forgetting", (9.8, 0.2)),
    ("dc/T14", "dd", "alexnet", (51.3, 19.9)),
    ("dm/1", "mnist-50", "dm", (98.6, 0.1)),
    ("dm/1", "tinyimagenet-10", "dm", (12.9, 0.4)),
    ("dm/T1", "10", "mmd", (34.9, 0.3)),
    ("idc/1", "10-resnet-10", "idc-i", (50.2, 0.4)),
    ("idc/1", "50-densenet-121", "whole", (94.2, None)),
    ("idc/2", "50-rn", "kip", (52.9, None)),
    ("idc/3", "100-20-resnet-18", "idc", (46.4, 1.6)),
    ("idc/5", "resnet-10", "syn-mse", (25.7, None)),
    ("idc/6", "resnet-10", "idc-i-post", (63.1, None)),
    ("idc/7", "imagenet10-resnetap10", "4", (77.5, None)),
    ("idc/8", "50-resnet-10", "multi-scale", (69.7, None)),
    ("idc/9", "rn", "fsrcnn-3", (64.4, None)),
    ("idc/10", "1", "svhn-idc", (68.5, None)),
    ("idc/10", "50", "fashionmnist-kip", (88.0, None)),
    ("idc/11", "with", "idc-without", (74.3, None)),
    ("idc/12", "convnet-3", "cn-w", (58.8, None)),
    ("idc/13", "50-resnet-10", "dm-mf", (63.1, None)),
    ("idc/14", "10", "idc-without-zca", (66.6, None)),
    ("idm/1", "idm", "imagenet-10", (17.1, 0.6)),
    ("idm/1", "cafe-dsa", "cifar100-50", (42.9, 0.2)),
    ("idm/2", "distribution-regularization", "imagenet", (15.6, 0.4)),
    ("idm/3", "accuracy", "2", (11.2, 0.5)),
    ("idm/4", "ours-convnet", "resnet", (44.6, 0.4)),
    ("idm/5", "dm-resnet", "resnet", (35.3, 0.9)),
    ("idc/4", "10", "idc", (82.9, None)),
    ("idc/4", "20", "dsa", (74.0, None)),
  ],
)
def test_figures(table, row, column, figure):
  assert cell(table, row, column).paper == figure


def test_one_experiment_in_many_tables_is_run_once():
  found = [trial(table, *place) for table, place in DEFAULTS.items()]
  assert len({each.name for each in found}) == 1
  assert len({each.set_folder for each in found}) == 1
  assert {cell(table, *place).paper for table, place in DEFAULTS.items()} == {(91.7, 0.5)}


def test_the_whole_set_does_not_depend_on_images_per_class():
  names = {trial(table, f"mnist-{n}", "whole").name for table in ("dc/1", "dsa/1") for n in (1, 50)}
  assert len(names) == 1
  assert len(plan.trials(cell("dc/1", "mnist-1", "whole"), {}, [3, 4])) == 1


def test_the_whole_set_whitened_is_another():
  changes = ({}, {"dataset.zca": True})
  trials = [plan.trials(cell("dc/1", "mnist-1", "whole"), change, [0])[0] for change in changes]
  assert trials[0].name != trials[1].name


def test_augmentation_and_epochs_are_those_of_the_papers():
  def evaluation(*place):
    fields = trial(*place).config.evaluation
    return fields.protocol, fields.augmentation, fields.epochs

  assert evaluation("dc/1", "mnist-1", "herding") == ("dc", "dc", 1000)
  assert evaluation("dc/1", "cifar10-1", "ours") == ("dc", "none", 300)
  assert evaluation("dc/1", "mnist-1", "whole") == ("dc", "none", 300)
  assert evaluation("dsa/1", "cifar10-1", "dc") == ("dc", "none", 300)
  assert evaluation("dsa/2", "1", "dsa") == ("dsa", "color_crop_cutout_flip_scale_rotate", 1000)
  assert evaluation("dsa/5", "svhn", "combination") == (
    "dsa", "color_crop_cutout_scale_rotate", 1000,
  )  # fmt: skip
  assert evaluation("dc/T8", "none", "batchnorm") == ("dc", "dc_batch_norm", 1000)
  assert evaluation("dsa/4", "a", "crop") == ("dsa", "none", 300)
  assert evaluation("dsa/4", "b", "flip") == ("dsa", "flip", 1000)


def test_networks_of_the_two_stages():
  made = trial("dc/2", "resnet", "vgg")
  assert made.condensation.network.name == "resnet18_ap"
  assert made.condensation.network.norm == "batch"
  assert made.network == {"name": "vgg11", "norm": "instance", "init": "torch"}
  assert trial("dc/T11", "cosine", "resnet").network["name"] == "resnet18"
  assert trial("dc/T8", "groupnorm", "batchnorm").network["norm"] == "batch"
  assert trial("dc/T9", "4", "1").condensation.network.depth == 4
  assert trial("dc/T9", "4", "1").network["depth"] == 1


def test_a_set_of_spectrograms_is_that_of_its_preset():
  columns = {"rand": "random", "herd": "herding", "dsa": "dsa", "dm": "dm", "idc": "idc"}
  for column, method in columns.items():
    made = plan.condensation(dcjax.config.resolve(speech.get_config(f"{method},ipc=20")))
    assert plan.identity(made) == plan.identity(trial("idc/4", "20", column).condensation)
  assert trial("idc/4", "20", "idc-i").condensation.formation.factor == 1


def test_rates_of_mlp():
  def rate(*place):
    return trial(*place).condensation.lr_image

  assert [rate("dc/T11", row, "mlp") for row in ("euclidean", "cosine", "ours")] == [0.1, 0.1, 0.01]
  assert rate("dc/2", "mlp", "convnet") == 0.01 and rate("dc/2", "convnet", "mlp") == 0.1
  assert rate("dsa/3", "mlp", "mlp") == 0.1


def test_schemes_of_dsa_share_their_sets():
  crop = {
    row: trial("dsa/4", row, "crop").set_folder for row in ["ours", "a", "b", "c", "d", "e", "f"]
  }
  assert crop["ours"] == crop["e"] and crop["a"] == crop["b"]
  assert len(set(crop.values())) == 5
  assert crop["a"] == trial("dsa/4", "a", "flip").set_folder
  assert crop["a"] == trial("dsa/5", "cifar10", "none").set_folder
  assert crop["ours"] == trial("dsa/5", "cifar10", "crop").set_folder


def test_what_cannot_be_run_says_why():
  assert cell("dc/3", "cifar10-10", "ours").missing == "AlexCifarNet"
  assert cell("dm/T1", "1", "vae").missing == "VAE"
  assert cell("dsa/5", "mnist", "flip").paper is None


# --- Settings of the tables of DM, IDC and IDM -------------------------------------------------


def test_the_best_of_random_subsets_share_one_evaluation():
  tops = [trial("dc/T12", "mnist-10", name) for name in ("top-1000", "top-100", "top-10")]
  assert len({each.name for each in tops}) == 1
  assert [each.top for each in tops] == [1000, 100, 10]
  assert trial("dc/T12", "mnist-1", "top-10").name != tops[0].name
  assert len(plan.trials(cell("dc/T12", "mnist-1", "top-10"), {}, [3, 4])) == 1
  assert trial("dc/T12", "mnist-10", "whole").name == trial("dc/1", "mnist-1", "whole").name


def test_batch_norm_is_in_both_stages_of_dm():
  for column in ("dsa-batch-norm", "dm-batch-norm"):
    found = trial("dm/1", "tinyimagenet-1" if "dm" in column else "mnist-1", column)
    assert found.condensation.network.norm == found.network["norm"] == "batch"
  assert trial("dm/1", "tinyimagenet-1", "dm").network["depth"] == 4
  by_dm = trial("dm/1", "cifar100-50", "dsa").condensation
  assert (by_dm.inner_loop, by_dm.network_epochs) == (10, 10)
  assert trial("idm/1", "dsa", "cifar100-50").set_folder == (
    trial("dm/1", "cifar100-50", "dsa").set_folder
  )


def test_networks_and_protocols_of_idc():
  for network in ("resnet-10", "densenet-121"):
    found = trial("idc/1", f"10-{network}", "idc")
    assert found.network["norm"] == "batch" and found.condensation.network.name == "convnet"
    assert found.network["init"] == ("fan_out" if network == "resnet-10" else "torch")
    assert found.condensation.network.init == "torch"
  for network, init in (("resnetap-10", "fan_out"), ("efficientnet-b0", "torch")):
    found = trial("idc/3", f"10-10-{network}", "idc")
    assert (found.network["init"], found.condensation.network.init) == (init, "fan_out")
  assert trial("idc/3", "10-10-resnetap-10", "idc").network["norm"] == "instance"
  protocols = {c: trial("idc/1", "10-convnet-3", c).config.evaluation for c in ("dsa", "dm", "idc")}
  assert {c: p.protocol for c, p in protocols.items()} == {"dsa": "dsa", "dm": "idc", "idc": "idc"}
  assert protocols["dsa"].cutmix == 0 and protocols["dm"].cutmix == protocols["idc"].cutmix == 0.5
  fewer, all_epochs = (
    trial(table, row, "idc").config.evaluation.epochs
    for table, row in (("idc/2", "50-cn"), ("idc/1", "50-convnet-3"))
  )
  assert fewer < all_epochs


def test_a_budget_of_epochs_is_of_the_stored_images_where_steps_are_the_same():
  for column, epochs in (("idc", 25), ("idc-i", 100), ("dm", 100)):
    (cell,) = (c for c in TABLES["idc/2"].cells() if (c.row, c.column) == ("50-cn", column))
    (found,) = plan.trials(cell, {"evaluation.epochs": 100}, [0])
    assert found.config.evaluation.epochs == epochs  # 50 stored images are decoded to 200
    assert found.experiment["epochs"] == epochs


def test_one_experiment_in_many_tables_of_idc():
  idc = {
    trial("idc/1", "50-convnet-3", "idc").name,
    trial("idc/7", "cifar10-convnet", "2").name,
    trial("idc/8", "50-convnet-3", "uniform").name,
    trial("idc/10", "50", "cifar10-idc").name,
    trial("idc/11", "with", "idc").name,
    trial("idc/13", "50-convnet-3", "idc").name,
    trial("idc/14", "50", "idc").name,
  }
  assert len(idc) == 1
  assert trial("idc/5", "convnet-3", "real-reg-mse-ours").name == (
    trial("idc/1", "50-convnet-3", "idc-i").name
  )
  assert trial("idc/12", "convnet-3", "cn").name == trial("idc/1", "10-convnet-3", "idc-i").name
  wide = trial("idc/12", "convnet-3", "cn-w")
  assert wide.condensation.network.width == 256 and wide.network["width"] == 128


def test_a_smaller_set_is_made_from_that_of_idc_i():
  post, whole = (trial("idc/6", "convnet-3", column) for column in ("idc-i-post", "idc-i"))
  assert post.set_folder == whole.set_folder and post.name != whole.name
  assert (post.shrink, whole.shrink, post.condensation.ipc) == (2, 1, 200)


def test_imagenet_is_that_of_its_preset():
  for classes in (10, 100):
    preset = dcjax.config.resolve(imagenet.get_config(f"idc{classes},ipc=20"))
    made = trial("idc/3", f"{classes}-20-resnetap-10", "idc").condensation
    assert plan.identity(plan.condensation(preset)) == plan.identity(made)
  whole = [trial("idc/3", f"{n}-10-resnet-18", "whole") for n in (10, 100)]
  assert whole[0].name != whole[1].name
  assert [each.config.evaluation.epochs for each in whole] == [300, 200]
  preset = dcjax.config.resolve(imagenet.get_config("idm100,ipc=50"))
  made = trial("idm/1", "idm", "imagenet-50").condensation
  assert plan.identity(plan.condensation(preset)) == plan.identity(made)
  epochs = [
    trial("idm/1", row, "imagenet-1").condensation.training.epochs
    for row in ("herding", "forgetting")
  ]
  assert epochs == [40, 5]


def test_rows_of_idm_s_ablation():
  rows = ("model-sampling", "distribution-regularization", "augmentation")
  for column in ("cifar100", "imagenet"):
    assert trial("idm/2", "dm", column).condensation.method == "dm"
    made = [trial("idm/2", row, column).condensation for row in rows]
    assert [each.formation.factor for each in made] == [1, 1, 2]
    weights = [each.regularisation for each in made]
    assert weights[0] == 0 and weights[1] == weights[2] > 0
  assert trial("idm/2", "augmentation", "imagenet").set_folder == (
    trial("idm/1", "idm", "imagenet-10").set_folder
  )
  assert trial("idm/5", "ours-vgg", "convnet").condensation.formation.factor == 1
  assert trial("idm/F7", "accuracy", "60").condensation.queue.size == 60


@pytest.mark.parametrize(
  "change",
  [
    {"evaluation.lr": 0.1}, {"evaluation.batch": 64}, {"evaluation.temperature": 2.0},
    {"evaluation.teacher": "convnet:norm=batch"}, {"network.precision": "bfloat16"},
  ],
  ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_what_changes_numbers_changes_the_name_of_a_cell(change):
  names = {plan.trials(cell("dsa/1", "mnist-1", "dc"), each, [0])[0].name for each in ({}, change)}
  assert len(names) == 2


def test_a_teacher_of_other_epochs_is_another():
  changes = [{"evaluation.protocol": "soft", "evaluation.teacher_epochs": n} for n in (50, 8)]
  names = {plan.trials(cell("dsa/1", "mnist-1", "dc"), each, [0])[0].name for each in changes}
  assert len(names) == 2


def test_what_a_protocol_fills_in_changes_no_name():
  """Cells that are finished keep theirs."""
  one = plan.trials(cell("dsa/1", "mnist-1", "dc"), {}, [0])[0]
  assert one.experiment.keys() == {"set", "seed", "network", *plan.OF_EVALUATION}
  same = {"evaluation.batch": 256}
  assert plan.trials(cell("dsa/1", "mnist-1", "dc"), same, [0])[0].name == one.name
