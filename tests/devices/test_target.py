"""Devices that are described: what is known of them, and what they are compiled for."""

import importlib.util
import re

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies

from dcjax.common.errors import UserError
from dcjax.devices import target, tpus
from dcjax.devices.target import GPUS, described, here

libtpu = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"
)
plugin = pytest.mark.skipif(
  importlib.util.find_spec("jax_plugins.xla_cuda12") is None
  if importlib.util.find_spec("jax_plugins")
  else True,
  reason="the CUDA plugin of jax is not installed",
)


class Topology:
  """Stands in for what the plugin makes of a description."""

  devices = jax.devices()[:2]


@pytest.fixture
def without_plugin(monkeypatch):
  """Reads descriptions, and asks no plugin."""
  monkeypatch.setattr(topologies, "get_topology_desc", lambda *given, **more: Topology)


def test_what_is_here_is_this_process_own():
  found = here()
  assert found.is_here and found.backend == "cpu" and found.memory > 0
  assert found.peak is None  # no peak rate is known of a CPU


@pytest.mark.parametrize(
  ("device", "exact", "rounded", "bandwidth"),
  [
    ("h100", 66.9e12, 495e12, 3.35e12),
    ("a100", 19.5e12, 156e12, 1.555e12),
    ("t4", 8.1e12, 8.1e12, 0.32e12),
  ],
)
def test_peak_rates_are_those_of_the_data_sheets(without_plugin, device, exact, rounded, bandwidth):
  found = described(device)
  assert not found.is_here and found.backend == "gpu"
  # The clock of a description may be above that of the data sheet: a bound stays a bound.
  assert 0.99 * exact <= found.peak.exact <= 1.1 * exact
  assert 0.99 * rounded <= found.peak.rounded <= 1.1 * rounded
  assert found.peak.bandwidth == pytest.approx(bandwidth, rel=0.01)
  assert found.peak.half >= 2 * found.peak.rounded


def test_jax_takes_a_share_of_the_memory(without_plugin, monkeypatch):
  monkeypatch.delenv(target.SHARE, raising=False)
  usual = described("t4").memory
  monkeypatch.setenv(target.SHARE, "0.9")
  assert described("t4").memory == pytest.approx(usual * 0.9 / 0.75, rel=1e-6)
  for wrong, message in (
    ("most", "'most' is no number"),
    ("0", "0.0 is not a finite number above"),
  ):
    monkeypatch.setenv(target.SHARE, wrong)
    with pytest.raises(UserError, match=f"{target.SHARE}: {message}"):
      described("t4")


def test_a_file_describes_a_gpu(without_plugin, tmp_path):
  text = target._text("t4").replace("core_count: 40", "core_count: 80")
  file = tmp_path / "mine.txtpb"
  file.write_text(text)
  assert described(str(file)).peak.exact == 2 * described("t4").peak.exact
  file.write_text(text.replace("memory_bandwidth", "bandwidth"))
  with pytest.raises(UserError, match="--device: the description of the GPU has no memory_bandwid"):
    described(str(file))


@pytest.mark.parametrize("wrong", ["0", "-1", "nan", "inf", "1.2.3", "much"])
@pytest.mark.parametrize(
  "field", ["core_count", "clock_rate_ghz", "memory_bandwidth", "l2_cache_size", "major"]
)
def test_a_number_that_cannot_be_is_one_line(without_plugin, tmp_path, field, wrong):
  file = tmp_path / "mine.txtpb"
  file.write_text(re.sub(rf"\b{field}: [\d.]+", f"{field}: {wrong}", target._text("t4")))
  with pytest.raises(UserError, match=f"--device: {field} of the description: .*positive"):
    described(str(file))


def test_numbers_may_have_an_exponent(without_plugin, tmp_path):
  file = tmp_path / "mine.txtpb"
  text = target._text("t4")
  file.write_text(text.replace("memory_bandwidth: 320064000000", "memory_bandwidth: 3.20064e11"))
  assert described(str(file)).peak.bandwidth == described("t4").peak.bandwidth


def test_an_unknown_device_is_one_line():
  with pytest.raises(UserError, match="--device: no 'h200'; give cpu, h100, a100, t4, v5e, v6e"):
    described("h200")


def test_without_the_plugin_a_line_says_how_to_get_it(monkeypatch):
  def missing(*given, **more):
    raise NotImplementedError("topology not implemented for cuda")

  monkeypatch.setattr(topologies, "get_topology_desc", missing)
  with pytest.raises(UserError, match=r"--device: .* pip install 'dcjax\[cuda12\]'"):
    described("h100")


@pytest.mark.parametrize(
  ("device", "half", "bandwidth", "memory"),
  [("v5e", 197e12, 0.819e12, 16), ("v6e", 918e12, 1.64e12, 32)],
)
def test_a_tpu_makes_products_of_32_bits_of_six(without_plugin, device, half, bandwidth, memory):
  found = described(device)
  assert not found.is_here and found.backend == "tpu"
  assert found.peak.half == found.peak.rounded == half == 6 * found.peak.exact
  assert found.peak.bandwidth == bandwidth
  assert (memory - 1) * 2**30 < found.memory < memory * 2**30  # libtpu keeps some for itself


def test_without_libtpu_a_line_says_how_to_get_it(monkeypatch):
  def missing(*given, **more):
    raise RuntimeError("JAX TPU support not installed; cannot generate TPU topology.")

  monkeypatch.setattr(topologies, "get_topology_desc", missing)
  with pytest.raises(UserError, match=r"--device: .* libtpu, .* pip install 'dcjax\[tpu\]'"):
    described("v5e")


def test_a_machine_has_eight_tpus():
  with pytest.raises(UserError, match="--devices: 9, but a machine has 8 v6e at most; lower it"):
    described("v6e", 9)


@pytest.mark.parametrize(
  "device",
  [*(pytest.param(d, marks=plugin) for d in GPUS),
   *(pytest.param(d, marks=libtpu) for d in tpus.CHIPS)],
)  # fmt: skip
def test_programs_are_compiled_for_it(device):
  assert len(described(device).devices) == 1
  found = described(device, 2)
  assert len(found.devices) == 2
  mesh = jax.sharding.Mesh(found.devices[:1], ("one",))
  place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  matrix = jax.ShapeDtypeStruct((64, 64), jnp.float32, sharding=place)
  text = jax.jit(lambda x: jnp.sin(x @ x)).lower(matrix).compile().as_text()
  assert "HloModule" in text


@plugin
def test_a_description_of_nothing_is_one_line(tmp_path):
  file = tmp_path / "mine.txtpb"
  file.write_text("platform_name: 3")
  with pytest.raises(UserError, match=r"--device: .*mine\.txtpb describes no GPU"):
    described(str(file))
