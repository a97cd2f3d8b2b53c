"""The fields of a config for `--help`: section by section, with defaults and meanings."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from dcjax.config import default, definition, flatten
from dcjax.config.defaults import meanings as shared_meanings
from dcjax.config.meanings import of_settings
from dcjax.methods import definition as of_methods

WIDTH = 100
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
  lines = ["Fields of the config with their defaults"]
  for title, names in sections(method).items():
    lines += ["", f"{title}:", *field_lines({name: fields[name] for name in names}, known)]
  for other in others:
    differing = dict(sorted(fields_of(other).items() - fields.items(), key=str))
    del differing["method"]
    further = dict(meanings_of(other).items() - known.items())
    lines += ["", f"For {other.upper()}:", *field_lines(differing, further)]
  return "\n".join(lines)


def fields_of(method: str) -> dict[str, Any]:
  """The fields of a method's config with their defaults, by their dotted names."""
  return dict(flatten(default(method).to_dict()))


def meanings_of(method: str) -> dict[str, str]:
  """What the fields of a method's config mean, by their dotted names."""
  known = shared_meanings() | of_methods.meanings(definition(method))
  return {name: known[name] for name in fields_of(method) if name in known}


def sections(method: str) -> dict[str, list[str]]:
  """The dotted names of a method's fields, by the titles of their sections; its own at the end."""
  own = of_settings(definition(method).settings).keys() - shared_meanings().keys()
  found: dict[str, list[str]] = {title: [] for title in SECTIONS.values()}
  found["The method's own"] = []
  for name in fields_of(method):
    section = name.rpartition(".")[0]
    title = "The method's own" if name in own else SECTIONS[section.partition(".")[0]]
    found[title].append(name)
  return {title: names for title, names in found.items() if names}


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
