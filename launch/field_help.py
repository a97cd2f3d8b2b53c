"""The fields of a config for `--help`: section by section, with defaults and meanings."""

import textwrap
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from dcjax.config import default, definition, flatten
from dcjax.config.defaults import meanings as shared_meanings
from dcjax.config.meanings import of_settings
from dcjax.methods import definition as of_methods

WIDTH = 100
CONDENSING = ("dc", "dsa", "dm", "idc", "idm", "bptt", "tm", "frepo", "rcig", "kip")
SECTIONS = {
  "": "Run",
  "dataset": "Dataset",
  "formation": "Formation of synthetic images",
  "dsa": "Augmentation of images that are matched",
  "network": "Network",
  "evaluation": "Evaluation",
  "compute": "Computation",
}


def help_on_fields(method: str, *others: str) -> str:
  """All fields of a method's config, then what differs for other methods."""
  fields, known = fields_of(method), meanings_of(method)
  lines = section_lines(fields, known, {"The method's own": own_fields(method)})
  for other in others:
    differing = dict(sorted(fields_of(other).items() - fields.items(), key=str))
    del differing["method"]
    further = dict(meanings_of(other).items() - known.items())
    lines += ["", f"For {other.upper()}:", *field_lines(differing, further)]
  return "\n".join(lines)


def section_lines(
  fields: Mapping[str, Any], meanings: Mapping[str, str], own: Mapping[str, Collection[str]]
) -> list[str]:
  """All fields of a config, section by section.

  Args:
    fields: defaults, by dotted names.
    meanings: by dotted names.
    own: fields that are not of every config, by the titles of their sections, at the end.
  """
  sections = {title: [name for name in fields if name in names] for title, names in own.items()}
  shared = [name for name in fields if not any(name in names for names in own.values())]
  found = {
    title: [name for name in shared if name.rpartition(".")[0] == section]
    for section, title in SECTIONS.items()
  }
  lines = ["Fields of the config with their defaults"]
  for title, names in (found | sections).items():
    if names:
      lines += ["", f"{title}:", *field_lines({name: fields[name] for name in names}, meanings)]
  return lines


def fields_of(method: str) -> dict[str, Any]:
  """The fields of a method's config with their defaults, by their dotted names."""
  return dict(flatten(default(method).to_dict()))


def meanings_of(method: str) -> dict[str, str]:
  """What the fields of a method's config mean, by their dotted names."""
  known = shared_meanings() | of_methods.meanings(definition(method))
  return {name: known[name] for name in fields_of(method) if name in known}


def own_fields(method: str) -> set[str]:
  """The dotted names of the fields that a method has beside those of every run."""
  settings = definition(method).settings
  return set(of_settings(settings) if settings else ()) - shared_meanings().keys()


def field_lines(fields: Mapping[str, Any], meanings: Mapping[str, str]) -> Iterator[str]:
  """A line for each field, and its meaning below it.

  Args:
    fields: defaults, by dotted names.
    meanings: by dotted names; a field may have none.
  """
  for name, value in fields.items():
    yield f"  --config.{name}={value}"
    if name in meanings:
      yield textwrap.fill(
        _sentence(meanings[name]), WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6,
        break_long_words=False, break_on_hyphens=False,
      )  # fmt: skip


def _sentence(text: str) -> str:
  """A comment with a capital, unless it begins with a symbol such as eta_S."""
  return text[0].upper() + text[1:] if text.split()[0].isalpha() else text
