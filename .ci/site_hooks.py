"""What mkdocs does to the links of docs/ that lead out of it, which GitHub follows as they are.

A picture elsewhere in the checkout becomes a file of the site. Any other file or folder is shown by
the repository.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

TOP = Path(__file__).parents[1]
REPOSITORY = "https://github.com/dcjax/dcjax"
PICTURES = (".png", ".svg")
# Code, in which brackets are no links
CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r'(?<=\]\()[^)\s]+|(?<=src=")[^"]+')


def on_files(files: Files, config: MkDocsConfig) -> Files:
  """Adds the pictures that pages show from elsewhere in the checkout."""
  for page in files.documentation_pages():
    for link in LINK.findall(without_code(page.content_string)):
      path = outside(link, page.src_uri)
      if path and path.endswith(PICTURES) and not files.get_file_from_path(path):
        files.append(File.generated(config, path, abs_src_path=str(TOP / path)))
  return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
  """Rewrites the links of a page."""
  kept = CODE.split(markdown)  # code and what is none, by turns
  kept[::2] = [LINK.sub(lambda found: rewritten(found[0], page), each) for each in kept[::2]]
  return "".join(kept)


def without_code(markdown: str) -> str:
  """What of a page is no code."""
  return "".join(CODE.split(markdown)[::2])


def outside(link: str, source: str) -> str | None:
  """The path in the checkout that a link of a page leads to, if mkdocs does not know it."""
  if "://" in link or link.startswith("#"):
    return None
  target = posixpath.normpath(posixpath.join("docs", posixpath.dirname(source), link))
  if not (TOP / target.partition("#")[0]).exists():
    return None  # mkdocs warns
  of_site = target.startswith("docs/") and not target.startswith("docs/examples")
  return None if of_site else target


def rewritten(link: str, page: Page) -> str:
  """A link of a page, as the site has it."""
  path = outside(link, page.file.src_uri)
  if path is None:
    return link
  if path.endswith(PICTURES):
    return posixpath.relpath(path, posixpath.dirname(page.file.src_uri) or ".")
  kind = "tree" if (TOP / path).is_dir() else "blob"
  return f"{REPOSITORY}/{kind}/main/{path}"
