"""`dcjax report`: of which runs, and where to."""

from absl import flags
from dcjax.launch import command_line

from dcjax.commands.report import live, report
from dcjax.common.errors import UserError
from dcjax.pages import serve

MORE = """
dcjax report W [W2 ...] --output report.html
  W is the folder of a run or a selection, finished or not, or a folder of such folders. The page
  is one file that loads nothing. With --serve it is live, and nothing is written.
"""


def main(arguments: list[str]) -> None:
  """Runs `dcjax report` with its arguments: writes a page, or serves one until Ctrl-C."""
  workdirs: list[str] = []
  values = command_line.parse(_flags, arguments, required=(), more=lambda: MORE, words=workdirs)
  if not workdirs:
    raise UserError("report: no workdir; write dcjax report W --output report.html, or several")
  if values.serve == bool(values.output):
    raise UserError("--output: give it or --serve, one of the two")
  if not values.serve:
    print(f"Wrote {report(workdirs, values.output)}")
    return
  with live(workdirs, values.port) as server:
    print(f"http://{serve.HOST}:{server.server_address[1]}/ until Ctrl-C", flush=True)
    server.serve_forever()


def _flags() -> flags.FlagValues:
  values = flags.FlagValues()
  values.set_gnu_getopt()  # flags may come after workdirs
  text = "HTML file to write; it must not be there yet."
  flags.DEFINE_string("output", None, text, flag_values=values)
  text = "Show the page to this machine's browser, and follow the runs; nothing is written."
  flags.DEFINE_bool("serve", False, text, flag_values=values)
  text = "Port of 127.0.0.1 for --serve; 0: any that is free."
  flags.DEFINE_integer("port", serve.PORT, text, 0, 65535, flag_values=values)
  return values
