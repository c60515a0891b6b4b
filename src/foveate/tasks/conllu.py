"""Sentences of a CoNLL-U file (universaldependencies.org/format.html): words and their universal part of speech.

A syntactic word has a whole number as its ID. A multiword token (2-3) is how its words are spelled together, and an
empty node (1.1) is no word of the text: both are checked and left out. Comments begin with #; a blank line ends a
sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .rows import Malformed, decoded, lines_of

__all__ = ["MOST_WORDS", "TAGS", "Tagged", "read_conllu"]

MOST_WORDS = 2000
COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
TAGS = ("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ",
        "SYM", "VERB", "X")  # fmt: skip
_ID = re.compile(r"([1-9][0-9]*)(?:-([1-9][0-9]*))?|([0-9]+)\.([1-9][0-9]*)")


@dataclass(frozen=True)
class Tagged:
    """A sentence: its words, and the tag of each."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


def read_conllu(path: Path, *, skip_bad: bool = False) -> Iterator[Tagged | Malformed]:
    """The sentences of a file, `.gz` or not; with `skip_bad` the rule that a sentence breaks in its place.

    Raises:
        Malformed: a line breaks a rule; or, whatever `skip_bad` says, the whole file does.
    """
    for block in _blocks(path):
        sentence = _Sentence()
        try:
            for number, line in block:
                place = f"{path.name}:{number}"
                sentence.add(decoded(line, place, number), place)
            found: Tagged | Malformed | None = sentence.ended()
        except Malformed as error:
            if not skip_bad:
                raise
            found = error
        if found is not None:
            yield found


def _blocks(path: Path) -> Iterator[list[tuple[int, bytes]]]:
    """Lines with their numbers, from 1, as blank lines part them."""
    block: list[tuple[int, bytes]] = []
    for number, line in enumerate(lines_of(path), 1):
        if line.strip():
            block.append((number, line))
        elif block:
            yield block
            block = []
    if block:  # a file may end without a blank line
        yield block


class _Sentence:
    """The lines of a sentence so far."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.tags: list[str] = []
        self.covered = 0  # the last word that a multiword token is made of
        self.begun = ""  # where

    def add(self, line: str, place: str) -> None:
        """Take in one line; raises Malformed if it breaks a rule."""
        if line.startswith("#"):
            if self.begun:
                raise Malformed(place, "a comment stands before the words of a sentence; put it there", "late comment")
            return
        self.begun = self.begun or place
        columns = line.split("\t")
        if len(columns) != len(COLUMNS):
            message = f"expected 10 columns separated by a tab, {', '.join(COLUMNS)}; got {len(columns)}"
            raise Malformed(place, message, "not 10 columns")
        if empty := next((n for n, value in zip(COLUMNS, columns, strict=True) if not value.strip()), None):
            raise Malformed(place, f"{empty} is empty; what is not known is written _", "empty column")
        which = _ID.fullmatch(columns[0])
        if which is None:
            message = f"expected an ID such as 1, 1-2 or 1.1; got {columns[0]!r}"
            raise Malformed(place, message, "bad ID")
        first, last, before, _ = which.groups()
        if before is not None:
            self._expect(int(before), len(self.words), f"the empty node {columns[0]}", place)
        elif last is not None:
            self._expect(int(first), len(self.words) + 1, f"the multiword token {columns[0]}", place)
            if not self.covered < int(first) < int(last):
                message = f"a multiword token covers several words, none of them twice; got {columns[0]}"
                raise Malformed(place, message, "bad ID")
            self.covered = int(last)
        else:
            self._expect(int(first), len(self.words) + 1, "the word", place)
            self._word(columns[1], columns[3], place)

    def _expect(self, number: int, wanted: int, what: str, place: str) -> None:
        if number != wanted:
            message = f"words are numbered 1, 2, 3 ...; {what} has {number} where {wanted} stands in turn"
            raise Malformed(place, message, "bad ID")

    def _word(self, form: str, tag: str, place: str) -> None:
        if tag not in TAGS:
            told = "has no UPOS" if tag == "_" else f"has the UPOS {tag!r}, which is none"
            raise Malformed(place, f"{form!r} {told}; expected one of {', '.join(TAGS)}", "bad UPOS")
        self.words.append(form)
        self.tags.append(tag)

    def ended(self) -> Tagged | None:
        """The sentence; None if nothing was begun. Raises Malformed if it is not whole."""
        if not self.begun:
            return None
        if self.covered > len(self.words):
            message = f"a multiword token ends with word {self.covered}; the sentence has {len(self.words)}"
            raise Malformed(self.begun, message, "bad ID")
        if not 0 < len(self.words) <= MOST_WORDS:
            message = f"a sentence has from 1 to {MOST_WORDS:,} words; got {len(self.words):,}"
            raise Malformed(self.begun, message, "too many or no words")
        return Tagged(tuple(self.words), tuple(self.tags))
