"""Write reports with their headlines: `python -m foveate.tasks.reports --count 10 --seed 3`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .drawing import SPLITS, reports

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m foveate.tasks.reports", description=__doc__)
    parser.add_argument("--count", type=int, default=10, help="how many reports (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default: %(default)s)")
    about = "how long reports are at least, drawn between two numbers (25 60)"
    parser.add_argument("--words", type=int, nargs=2, default=(25, 60), metavar=("SHORTEST", "LONGEST"), help=about)
    parser.add_argument("--split", choices=SPLITS, default="train", help="default: %(default)s")
    parser.add_argument("-o", "--output", type=Path, help="TSV of report and headline (default: standard output)")
    given = parser.parse_args(arguments)
    try:
        shortest, longest = given.words
        made = reports(given.seed, given.count, words=(shortest, longest), split=given.split)
        text = "".join(f"{one.text}\t{one.headline}\n" for one in made)
        if given.output is None:
            sys.stdout.write(text)
        else:
            given.output.write_text(text, encoding="utf-8", newline="\n")
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
