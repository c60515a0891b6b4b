"""A survey of heads that is there already, as a page: written to a file, or served."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from foveate.apps.commands import common
from foveate.apps.errors import UsageError

__all__ = ["is_table", "show", "write"]

_MAGIC = b"PAR1"
_ELSEWHERE = (
    "model text file target generate layer head token embed top values float16 limit"  # options of foveate view
)


def is_table(path: str | None) -> bool:
    """Whether what is to be looked at is a table: by its name, or by how the file begins."""
    if path is None or not Path(path).is_file():
        return path is not None and path.endswith(".parquet")
    with Path(path).open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC or path.endswith(".parquet")


def show(arguments: argparse.Namespace) -> int:
    """The page that `foveate view` was asked for.

    Raises:
        UsageError: it was asked for something that a survey has not.
        UserError: the table is none, or cannot be read.
    """
    if arguments.other is not None:
        raise UsageError("a survey is shown alone: name one table, or two recordings")
    given = [option for option in _ELSEWHERE.split() if getattr(arguments, option) is not None]
    for option in (*given, *(["terminal"] if arguments.terminal else [])):
        raise UsageError(f"a survey is shown as it is; leave out --{option}")
    if arguments.export is not None:
        return write(arguments.recording, arguments.export)
    from foveate.apps.survey_page import served_of
    from foveate.apps.workspace import Workspace

    with common.explained():
        front = served_of(Path(arguments.recording))
    common.serve(common.open_page(Workspace(), arguments.host, arguments.port, front), not arguments.no_open)
    return 0


def write(table: str | Path, to: str | Path) -> int:
    """Write the page of a table into one file, and print its name.

    Raises:
        UserError: the table is none, or cannot be read; or the page cannot be written.
    """
    from foveate.apps import export
    from foveate.apps.survey_page import report_of

    with common.explained():
        text = report_of(Path(table))
    path = export.save(text, to)
    print(path)
    if sys.stderr.isatty():
        print(f"{path.stat().st_size / 1e6:.1f} MB", file=sys.stderr)
    return 0
