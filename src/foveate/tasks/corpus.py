"""Parallel text: pairs of sentences from a TSV file or from two line-aligned files, `.gz` or not.

A line that breaks a rule is an error that names file, line and rule; or, with `skip_bad`, is counted. Files are read
line by line, and never more of a line than `MAX_BYTES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from .rows import Malformed, Rows, decoded, lines_of

__all__ = ["Corpus", "Pair", "read_lines", "read_pairs", "reference_streams", "references"]

SIDES = ("source", "target")


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence and its translation."""

    source: str
    target: str


class Corpus(Rows[Pair]):
    """The pairs that were read, and what was skipped."""

    @property
    def pairs(self) -> list[Pair]:
        return self.items


def read_pairs(
    paths: Sequence[str | Path],
    *,
    skip_bad: bool = False,
    max_words: int = 250,
    columns: int = 2,
    sides: tuple[str, str] = SIDES,
) -> Corpus:
    """Read pairs from one TSV file (source, tab, target) or from two files (sources, targets) with a line each.

    Text is UTF-8; a byte-order mark at the beginning is dropped, and so is white space around a sentence.

    Args:
        paths: one path, or two; those that end in `.gz` are unpacked while they are read.
        skip_bad: skip and count the lines that break a rule, instead of raising.
        max_words: the most white-space words that a side may have.
        columns: how many columns a TSV file has; the first two are read.
        sides: what the two are called in errors.

    Raises:
        Malformed: a line breaks a rule; or, whatever `skip_bad` says, a file cannot be read, is empty, is cut off or
            is no UTF-8 text at all, two files have different numbers of lines, or no line can be used.
        ValueError: there are not one or two paths, or less than two columns.
    """
    corpus = Corpus.of(read_lines(paths, skip_bad=skip_bad, max_words=max_words, columns=columns, sides=sides))
    return corpus.used(Path(paths[0]).name)


def read_lines(
    paths: Sequence[str | Path],
    *,
    skip_bad: bool = False,
    max_words: int = 250,
    columns: int = 2,
    sides: tuple[str, str] = SIDES,
) -> Iterator[Pair | Malformed]:
    """What stands in each line, as in `read_pairs`: a pair, or with `skip_bad` the rule that the line breaks."""
    files = [Path(path) for path in paths]
    if len(files) not in (1, 2):
        raise ValueError(f"parallel text is one TSV file or two line-aligned files; got {len(files)} paths")
    if columns < 2:
        raise ValueError(f"a TSV file of pairs has at least 2 columns; got columns={columns}")
    for number, raw in enumerate(_rows(files), 1):
        try:
            yield _pair(files, raw, number, max_words, columns, sides)
        except Malformed as error:
            if not skip_bad:
                raise
            yield error


def references(pairs: Iterable[Pair]) -> tuple[list[str], list[list[str]]]:
    """Each source once, in the order in which they are first seen, and all its different targets, in order as well."""
    found: dict[str, dict[str, None]] = {}
    for pair in pairs:
        found.setdefault(pair.source, {})[pair.target] = None
    return list(found), [list(targets) for targets in found.values()]


def reference_streams(of_each: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """References of each sentence -> what `sacrebleu.corpus_bleu` takes: stream r holds reference r of every sentence.

    Sentences with fewer references than others are filled up with None, which sacrebleu leaves out. It promises the
    same of an empty string, but (2.6) counts that as one more reference, of length 0, in the brevity penalty.
    """
    most = max(map(len, of_each), default=0)
    return [[of_one[r] if r < len(of_one) else None for of_one in of_each] for r in range(most)]


def _rows(files: Sequence[Path]) -> Iterator[tuple[bytes, ...]]:
    """The lines of one file, or of two side by side.

    Raises:
        Malformed: one of two files has fewer lines than the other.
    """
    streams = [lines_of(path) for path in files]
    for number, row in enumerate(zip_longest(*streams)):
        if None in row:
            have = [number + (line is not None) + sum(1 for _ in rest) for line, rest in zip(row, streams, strict=True)]
            names = " and ".join(path.name for path in files)
            raise Malformed(names, f"line-aligned files need equally many lines; got {have[0]:,} and {have[1]:,}")
        yield row


def _pair(
    files: Sequence[Path], raw: Sequence[bytes], number: int, max_words: int, columns: int, sides: tuple[str, str]
) -> Pair:
    """The pair in line `number` of one file, or of two.

    Raises:
        Malformed: the line breaks a rule.
    """
    places = [f"{path.name}:{number}" for path in files]
    texts = [decoded(line, place, number) for line, place in zip(raw, places, strict=True)]
    if len(files) == 1:
        texts = texts[0].split("\t")
        if len(texts) != columns:
            message = f"expected {columns} columns separated by a tab; got {len(texts)}"
            raise Malformed(places[0], message, f"not {columns} columns")
        places *= 2
    source, target = (text.strip() for text in texts[:2])
    for side, text, place in ((sides[0], source, places[0]), (sides[1], target, places[1])):
        if not text:
            raise Malformed(place, f"the {side} is empty", "empty side")
        words = len(text.split())
        if words > max_words:
            message = f"the {side} has {words:,} words; at most {max_words:,} are allowed"
            raise Malformed(place, message, f"more than {max_words:,} words")
    return Pair(source, target)
