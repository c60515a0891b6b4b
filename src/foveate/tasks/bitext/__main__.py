"""Write sentence pairs: `python -m foveate.tasks.bitext --count 10 --seed 3`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from .drawing import SPLITS, generate

__all__ = ["main"]


def lengths(text: str) -> tuple[int, int]:
    """ "3-60" -> (3, 60)"""
    shortest, dash, longest = text.partition("-")
    if not dash or not shortest.isdecimal() or not longest.isdecimal():
        raise argparse.ArgumentTypeError(f"expected SHORTEST-LONGEST, as in 3-60; got '{text}'")
    return int(shortest), int(longest)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m foveate.tasks.bitext", description=__doc__)
    parser.add_argument("--count", type=int, default=10, help="how many pairs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    parser.add_argument("--lengths", type=lengths, default=(3, 60), help="English words, full stop included (3-60)")
    parser.add_argument("--split", choices=SPLITS, default="train", help="default: %(default)s")
    parser.add_argument("-o", "--output", type=Path, help="TSV of English and French (default: standard output)")
    parser.add_argument("--pharaoh", type=Path, help="file for the gold links, a line per pair: 0-0 sure, 1p2 possible")
    given = parser.parse_args(arguments)
    try:
        with ExitStack() as files:
            pairs = sys.stdout if given.output is None else files.enter_context(open_text(given.output))
            links = None if given.pharaoh is None else files.enter_context(open_text(given.pharaoh))
            for sentence in generate(given.seed, given.count, lengths=given.lengths, split=given.split):
                pairs.write(f"{' '.join(sentence.source)}\t{' '.join(sentence.target)}\n")
                if links is not None:
                    links.write(sentence.pharaoh() + "\n")
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None


def open_text(path: Path) -> TextIO:
    return path.open("w", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
