"""Invented names, made of syllables. Each word belongs to one split, so what is held out stays unheard of."""

from __future__ import annotations

import random
import re
from collections.abc import Set
from zlib import crc32

from .lexicon import Kind, load

__all__ = ["SPLITS", "name_of", "split_of"]

SPLITS = ("train", "valid", "test")
ONSETS, VOWELS, CODAS = (line.split(" ") for line in (
    "b br c ch d dr f fl g gr h j k kl l m n p pr qu r s sh sk sl st t th tr v w y z",
    "a a e e i i o o u ai au ea ie oa",
    "   l m n r s t ck nd rk ld sk x",
))  # fmt: skip
NUMBERS = (2, 999)
YEARS = (1100, 2020)
RANGE = re.compile(r"#(\d+)-(\d+)")


def split_of(word: str) -> str:
    """The only split that this invented word may occur in: a tenth is valid, a tenth is test."""
    return {0: "valid", 1: "test"}.get(crc32(word.lower().encode()) % 10, "train")


def name_of(kind: Kind, split: str, draw: random.Random, words: Set[str] | None = None) -> str:
    """A name of this kind, whose invented words are of this split; numbers and closed lists have none.

    Args:
        words: those that no invented word may be, in lower case; default: the words of facts.
    """
    if kind.words:
        return draw.choice(kind.words)
    pattern = RANGE.sub(lambda ends: str(draw.randint(int(ends[1]), int(ends[2]))), draw.choice(kind.patterns))
    if pattern == "#":
        return str(draw.randint(*YEARS))
    pattern = pattern.replace("#", str(draw.randint(*NUMBERS)))
    known = load().words if words is None else words
    return " ".join(_word(part, split, draw, known) for part in pattern.split())


def _word(part: str, split: str, draw: random.Random, words: Set[str]) -> str:
    if part != "*" and not part.startswith("+"):
        return part
    while True:
        syllables = draw.choice((1, 2, 2, 3)) if part == "*" else draw.choice((1, 2))
        stem = "".join(_syllable(draw) for _ in range(syllables))
        if part != "*":
            stem = re.sub("[aeiou]+$", "", stem) if part[1] in "aeiou" else stem
        word = (stem + part[1:] if part != "*" else stem).capitalize()
        if len(word) > 3 and split_of(word) == split and word.lower() not in words:
            return word


def _syllable(draw: random.Random) -> str:
    return draw.choice(ONSETS) + draw.choice(VOWELS) + draw.choice(CODAS)
