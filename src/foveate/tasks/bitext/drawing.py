"""Draw sentence pairs: deterministic in the seed, no source twice, and splits that share no source."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from zlib import crc32

from .draft import Draft, view
from .relatives import relative_clause
from .sentence import Sentence, finish
from .sentences import write_sentence

__all__ = ["SHORTEST", "SPLITS", "generate", "split_of"]

SPLITS = ("train", "valid", "test")
SHORTEST = 3
PATIENCE = 20_000  # drafts in a row that give nothing new before we say so


def split_of(source: str) -> str:
    """The only split that this source, words joined by blanks, may occur in: a tenth is valid, a tenth is test."""
    return {0: "valid", 1: "test"}.get(crc32(source.encode()) % 10, "train")


def generate(seed: int, count: int, *, lengths: tuple[int, int] = (3, 60), split: str = "train") -> Iterator[Sentence]:
    """`count` different sentence pairs.

    Source lengths, in words with the full stop, are spread evenly over `lengths` (both ends included), as far as there
    are different sentences so short. The first n pairs of a longer run are those of a shorter one. Raises ValueError
    for arguments out of range at once, and while iterating if no further sentence is found.
    """
    shortest, longest = lengths
    if split not in SPLITS:
        raise ValueError(f"unknown split '{split}'; expected 'train', 'valid' or 'test'")
    if not SHORTEST <= shortest <= longest:
        raise ValueError(f"lengths must be (shortest, longest) with {SHORTEST} <= shortest <= longest; got {lengths}")
    if count < 0:
        raise ValueError(f"count must not be negative; got {count}")
    return _generate(random.Random(f"{split}/{seed}").random, count, shortest, longest, split)


def _generate(draw: Callable[[], float], count: int, shortest: int, longest: int, split: str) -> Iterator[Sentence]:
    seen = view(split == "test")
    known: set[str] = set()
    failed = 0
    while len(known) < count:
        draft = Draft(seen, draw, relative_clause)
        tokens = write_sentence(draft, shortest + int(draw() * (longest - shortest + 1)))
        source = " ".join(draft.english)
        if len(draft.english) >= shortest and source not in known and split_of(source) == split:
            failed = 0
            known.add(source)
            yield finish(draft.english, tokens, seen.lexicon.aspirated)
            continue
        failed += 1
        if failed > PATIENCE:
            found = f"found only {len(known)} {split} sentences of {shortest} to {longest} words"
            raise ValueError(f"{found}; ask for fewer, or for longer ones")
