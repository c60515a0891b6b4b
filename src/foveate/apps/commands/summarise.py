"""`foveate summarise`: the summary of a text, and which word of the text each of its words came from."""

from __future__ import annotations

from typing import Any

from foveate.apps.commands import common, translate

_EXAMPLES = """  foveate summarise my-summariser "A long report ..."
  foveate summarise my-summariser "A long report ..." --view   the page: each word, and where it was taken from
  foveate summarise my-summariser - < reports.txt > out.txt    one line for each line
  foveate summarise my-summariser --file reports.txt --json
"""


def add(commands: Any) -> None:
    summary = "write the summary of a text, and show where each of its words was taken from"
    parser = common.subcommand(commands, "summarise", summary, _EXAMPLES)
    about = "the folder that foveate train translate --task summarise made"
    parser.add_argument("model", metavar="MODEL", help=about)
    translate.add_options(parser, "a text")
