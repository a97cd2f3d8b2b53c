"""Whether a host answers, asked before a library would try for minutes."""

import urllib.error
import urllib.request
from contextlib import suppress


def check_reachable(url: str, seconds: float) -> None:
  """Raises `OSError` if the host of an address does not answer within so many seconds."""
  request = urllib.request.Request(url, method="HEAD")
  with suppress(urllib.error.HTTPError):  # a host that answers
    urllib.request.urlopen(request, timeout=seconds).close()
