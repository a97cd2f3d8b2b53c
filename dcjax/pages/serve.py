"""A live page: a server for this machine's browser alone, which reads and never writes."""

import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from dcjax.common.errors import UserError

HOST = "127.0.0.1"
PORT = 8765
SECONDS = 30.0  # that a request may take to arrive


def bound(port: int, page: Callable[[], str], state: Callable[[bool], Any]) -> ThreadingHTTPServer:
  """A server that is bound, and answers once its `serve_forever` is called.

  It answers GET and HEAD of `/` and `/state`, and only to the names of this machine: a page of the
  web whose own name leads here is refused.

  Args:
    port: 0: any that is free.
    page: makes the page.
    state: `state(with_images)` makes what the page asks for.

  Raises:
    UserError: the port is taken, or none.
  """
  lock = threading.Lock()  # one request at a time reads the run

  class Handler(BaseHTTPRequestHandler):
    timeout = SECONDS
    server_version, sys_version = "dcjax", ""

    def do_GET(self) -> None:
      self._answer(body=True)

    def do_HEAD(self) -> None:
      self._answer(body=False)

    def _answer(self, body: bool) -> None:
      port = server.server_port
      if self.headers.get_all("Host") not in ([f"{HOST}:{port}"], [f"localhost:{port}"]):
        self.send_error(HTTPStatus.FORBIDDEN, "Another host")
        return
      path, query = urlsplit(self.path)[2:4]
      if path not in ("/", "/state"):
        self.send_error(HTTPStatus.NOT_FOUND)
        return
      try:
        with lock:
          text = page() if path == "/" else json.dumps(state(query == "images"))
      except UserError as error:  # the run is gone
        self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, explain=str(error))
        return
      content = text.encode("utf-8", "replace")
      self.send_response(HTTPStatus.OK)
      kind = "text/html" if path == "/" else "application/json"
      self.send_header("Content-Type", f"{kind}; charset=utf-8")
      self.send_header("Content-Length", str(len(content)))
      self.send_header("Cache-Control", "no-store")
      self.send_header("X-Content-Type-Options", "nosniff")
      self.send_header("X-Frame-Options", "DENY")
      self.end_headers()
      if body:
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
      """Says nothing."""

  try:
    server = _Server((HOST, port), Handler)
  except (OSError, OverflowError) as error:
    reason = getattr(error, "strerror", None) or "it is none"
    raise UserError(f"--port: {port}: {reason}; give another, or 0 for any that is free") from None
  return server


class _Server(ThreadingHTTPServer):
  """Ends without waiting for browsers, and keeps quiet of those that hang up."""

  daemon_threads = True

  def handle_error(self, request: Any, client_address: Any) -> None:
    """Says nothing of a browser that has gone, and all of anything else."""
    import sys

    if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
      super().handle_error(request, client_address)
