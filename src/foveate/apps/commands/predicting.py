"""What commands that use a trained model of text have in common: a folder, and a text or lines of standard input."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foveate.apps.commands import common
from foveate.apps.errors import UserError
from foveate.apps.lines import Unreadable, groups
from foveate.lines import opened

__all__ = ["add", "each", "folder", "many"]

GROUP = 256  # lines that are taken at a time, where so many have arrived


def add(
    commands: Any, name: str, summary: str, examples: str, made_by: str, run: Callable[[argparse.Namespace], int]
) -> None:
    parser = common.subcommand(commands, name, summary, examples)
    parser.add_argument("model", metavar="MODEL", help=f"the folder that {made_by} made")
    parser.add_argument("text", nargs="+", type=common.readable, help="a text; - reads one a line")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=run)


def folder(arguments: argparse.Namespace) -> Path:
    """Of the model.

    Raises:
        UserError: there is none.
    """
    found = Path(arguments.model)
    if not found.is_dir():
        raise UserError(f"no model: there is no folder {found}")
    return found


def many(arguments: argparse.Namespace) -> bool:
    """Whether lines are read, rather than one text of the command line."""
    return bool(arguments.text == ["-"])


def each(arguments: argparse.Namespace, say: Callable[[str], object], nothing: dict[str, Any]) -> int:
    """`say` each text; of lines, an empty one stays empty, and one that cannot be answered is told on standard error.

    Each line has its line in the output, with --json its object: `nothing` of an empty one, else why there is none.

    Raises:
        UserError: the one text cannot be answered.
    """
    if not many(arguments):
        with common.explained():
            say(" ".join(arguments.text))
        return 0

    def blank(told: dict[str, Any]) -> None:
        print(json.dumps(told, ensure_ascii=False) if arguments.json else "")

    failures, number = 0, 0
    with common.explained(), opened("-") as (stream, _):
        for lines in groups(stream, GROUP):
            for number, line in enumerate(lines, number + 1):  # noqa: B020  # it goes on from where it was
                try:
                    if isinstance(line, Unreadable):
                        raise ValueError(line.why)
                    say(line) if line.strip() else blank(nothing)
                except ValueError as error:
                    failures += 1
                    blank({"error": str(error)})
                    print(f"foveate: line {number}: {error}", file=sys.stderr)
            sys.stdout.flush()
    return 1 if failures else 0
