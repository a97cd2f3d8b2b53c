"""Strict numerics and four fake CPU devices for every test; where the outside data lies."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

import jax
import pytest

# Compiling takes more of the tests' time than running does.
XLA_FLAGS = [
  "--xla_force_host_platform_device_count=4",
  "--xla_backend_optimization_level=0",
  "--xla_llvm_disable_expensive_passes=true",
]
if version("jaxlib").startswith("0.10."):  # a flag that a version does not know ends the process
  XLA_FLAGS.append("--xla_cpu_use_fusion_emitters=false")
  XLA_FLAGS.append("--xla_cpu_parallel_codegen_split_count=1")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *XLA_FLAGS])

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_traceback_in_locations_limit", 0)  # nobody reads the programs' locations

# A traced program is many small objects that live on: looking for garbage among them takes long.
gc.freeze()
gc.set_threshold(100_000, 50, 100)

TOP = Path(__file__).parents[1]
SHARED = TOP.parent / "shared"
ABSENT = {  # why a test with this mark is skipped, where what it needs is absent
  "data": (SHARED / "data", "no data/ in a folder shared/ beside this one"),
  "golden": (SHARED / "golden", "no golden/ in a folder shared/ beside this one"),
  "checkout": (TOP / "dcjax", "the package is installed, and its sources are not beside the tests"),
}


def pytest_collection_modifyitems(items):
  """Skips, with a reason, the tests that need what is not there."""
  for mark, (folder, reason) in ABSENT.items():
    if not folder.is_dir():
      for item in items:
        if item.get_closest_marker(mark):
          item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def _compile_once(tmp_path_factory):
  """Keeps compiled programs for the session: many tests, and their processes, run the same ones."""
  folder = tmp_path_factory.getbasetemp()
  if "PYTEST_XDIST_WORKER" in os.environ:
    folder = folder.parent  # of all workers
  options = {
    "jax_compilation_cache_dir": str(folder / "compiled"),
    "jax_persistent_cache_min_compile_time_secs": 0.0,
  }
  for name, value in options.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)


@pytest.fixture
def shared() -> Path:
  return SHARED
