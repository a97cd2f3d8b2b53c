"""What several tables share: methods to come, presets as fields."""

from dcjax.configs import imagenet

import dcjax.config
from dcjax.tables import parts


def test_a_method_to_come_shows_the_paper_s_figure_until_it_has_fields(monkeypatch):
  assert parts.other("VAE").missing == "VAE" and not parts.other("VAE").fields
  monkeypatch.setitem(parts.OTHERS, "VAE", {"method": "dc", "distance": "cos"})
  column = parts.other("VAE", "mine", "MNIST: VAE", ipc=3)
  assert column.missing == "" and column.name == "mine" and column.labels == ("MNIST: VAE",)
  assert column.fields == {"method": "dc", "distance": "cos", "ipc": 3}


def test_the_fields_of_a_preset_make_it_again():
  config = imagenet.get_config("idc100,ipc=20")
  fields = parts.preset(config)
  assert fields["ipc"] == 20 and "seed" not in fields
  assert dcjax.config.complete({"method": "idc", **fields}).to_dict() == config.to_dict()


def test_imagenet_s_fields_are_those_of_all_methods_and_of_one():
  shared, own = parts.imagenet("idc10", 10)
  for method in ("dm", "herding"):
    config = dcjax.config.complete({"method": method, **shared})
    assert (config.dataset.side, config.network.name) == (224, "resnet10_ap")
  assert "evaluation.protocol" not in shared
  assert parts.imagenet("idc100", 10)[0]["evaluation.protocol"] == "idc_hundred"
  assert own["formation.factor"] == 3 and not own.keys() & shared.keys()
  assert "ipc" not in own and "ipc" not in shared
