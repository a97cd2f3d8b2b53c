"""A package as it is installed, with entry points."""

from pathlib import Path

import pytest


def install(
  monkeypatch: pytest.MonkeyPatch, folder: Path, module: str, group: str, **points: str
) -> str:
  """Puts a package with one module on `sys.path`, whose entry points name objects in it.

  Returns:
    The name of the module.
  """
  name = f"package_{folder.name.replace('-', '_')}"
  (folder / f"{name}.py").write_text(module)
  info = folder / f"{name}-1.0.dist-info"
  info.mkdir()
  (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
  lines = [f"{point} = {name}:{attribute}\n" for point, attribute in points.items()]
  (info / "entry_points.txt").write_text("".join([f"[{group}]\n", *lines]))
  monkeypatch.syspath_prepend(folder)
  return name
