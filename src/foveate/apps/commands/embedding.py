"""What goes into a page that a command writes to a file: its options, and the writing."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from foveate.apps.commands import common
from foveate.apps.errors import UsageError

EMBED = ("auto", "exact", "top")


def add_embedding(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("in a file (--export)")
    about = "queries and keys, for every weight; or each row's largest weights, for many heads; auto: exact up to 12 MB"
    group.add_argument("--embed", choices=EMBED, help=about)
    group.add_argument("-k", "--top", type=common.whole(1), metavar="K", help="weights kept of each row (8 to 32)")
    group.add_argument("--values", action=argparse.BooleanOptionalAction, help="keep values too (if they fit)")
    group.add_argument("--float16", action=argparse.BooleanOptionalAction, help="round to 16 bits (above 8 MB)")
    group.add_argument("--limit", type=common.positive, metavar="MB", help="most megabytes of the file (50)")


def check_embedding(arguments: argparse.Namespace) -> None:
    """Options of a file are for a file."""
    for option, given in _given(arguments).items():
        if given is not None and arguments.export is None:
            raise UsageError(f"--{option} is for --export, which writes a file; a page that is served shows everything")


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(arguments, name, None) for name in ("embed", "top", "values", "float16", "limit")}


def write_page(source: Any, arguments: argparse.Namespace) -> int:
    """Write the page that `--export` names, of what the options choose, and print its name."""
    from foveate.apps import export

    given = _given(arguments)
    options = export.Options(
        layers=getattr(arguments, "layer", None),
        heads=getattr(arguments, "head", None),
        embed=given["embed"] or "auto",
        k=given["top"],
        values=given["values"],
        float16=given["float16"],
    )
    limit = export.LIMIT if given["limit"] is None else int(given["limit"] * 1e6)
    try:
        path = export.write(source, arguments.export, limit=limit, options=options, report=common.report)
    finally:
        common.report_end()
    print(path)
    if sys.stderr.isatty():
        print(f"{path.stat().st_size / 1e6:.1f} MB", file=sys.stderr)
    return 0
