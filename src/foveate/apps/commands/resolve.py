"""`foveate resolve`: what does a pronoun stand for? The built-in model answers."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from typing import Any

from foveate.apps.commands import common
from foveate.apps.errors import UserError

_EXAMPLES = """  foveate resolve "The cat sat on the mat because it was tired."
  foveate resolve - < sentences.txt                 one line of answer for each line
"""


def add(commands: Any) -> None:
    parser = common.subcommand(commands, "resolve", "say what a pronoun stands for", _EXAMPLES)
    about = "a sentence with one pronoun; - reads one a line"
    parser.add_argument("sentence", nargs="+", type=common.readable, help=about)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from foveate.tasks.resolve import resolve

    failures = 0
    for sentence in _sentences(arguments.sentence):
        if not sentence and arguments.sentence == ["-"]:
            print(flush=True)
            continue
        try:
            print(resolve(sentence).line(), flush=True)
        except ValueError as error:
            if arguments.sentence != ["-"]:
                raise UserError(str(error)) from None
            failures += 1
            print(f"? {error}", flush=True)
    if failures:
        print(f"foveate: {failures} of the sentences could not be resolved", file=sys.stderr)
    return 1 if failures else 0


def _sentences(given: list[str]) -> Iterator[str]:
    """The sentences; an empty line of standard input stays an empty line of output, so that lines correspond."""
    if given == ["-"]:
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8", errors="replace")
        yield from (line.strip() for line in sys.stdin)
    else:
        yield " ".join(given)
