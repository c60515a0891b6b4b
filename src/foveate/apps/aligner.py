"""Given translations read by a model, many at a time: word weights, links, and which reading of it is the best."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor

from foveate.tasks.alignment import Alone, Best, Reading, candidates, choose, choose_alone, same_words
from foveate.tasks.corpus import Pair

if TYPE_CHECKING:
    from foveate.tasks.subwords import Encoded
    from foveate.tasks.translation import Forced, Translator

__all__ = ["best_reading", "best_readings", "read", "save_reading", "turned"]

R = TypeVar("R")
GROUP = 1024  # pairs whose results are held until they are in order again
TOKENS = 4096  # of a batch, padding included


def read(translator: Translator, pairs: Sequence[Pair], take: Callable[[Forced], R]) -> Iterator[R]:
    """What `take` makes of each pair as the model reads it, in the order given; words are what white space parts.

    Pairs of about one length are read together, so that little of a batch is padding, and none is too large.

    Raises:
        ValueError: the model has no attention.
    """
    words = translator.subwords.encode_words
    for first in range(0, len(pairs), GROUP):
        group = [(words(pair.source.split()), words(pair.target.split())) for pair in pairs[first : first + GROUP]]
        found: dict[int, R] = {}
        for rows in _batches(group):
            forced = translator.force([group[row] for row in rows], rows=len(rows))
            found |= {row: take(one) for row, one in zip(rows, forced, strict=True)}
        yield from (found[row] for row in range(len(group)))


def _batches(pairs: Sequence[tuple[Encoded, Encoded]]) -> Iterator[list[int]]:
    """Numbers of pairs, shortest first, in batches of at most `TOKENS` tokens, padding included, or of one pair."""
    length = [1 + max(len(source), len(target)) for source, target in pairs]
    rows: list[int] = []
    for row in sorted(range(len(pairs)), key=length.__getitem__):
        if rows and (len(rows) + 1) * length[row] > TOKENS:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def turned(pairs: Sequence[Pair]) -> list[Pair]:
    """Source and target exchanged."""
    return [Pair(pair.target, pair.source) for pair in pairs]


def best_readings(forward: Translator, backward: Translator, pairs: Sequence[Pair]) -> Best[Reading, Reading]:
    """The readings of two models, of which one translates back, that agree most on these pairs."""
    return choose(zip(read(forward, pairs, _ways), read(backward, turned(pairs), _ways), strict=True))


def best_reading(translator: Translator, pairs: Sequence[Pair]) -> Alone[Reading]:
    """The reading of one model that agrees most with itself, and with words that are the same in both languages."""
    anchors = (same_words(pair.source.split(), pair.target.split()) for pair in pairs)
    return choose_alone(read(translator, pairs, _ways), anchors)


def _ways(one: Forced) -> dict[Reading, Tensor]:
    maps = {name: weights.dense() for name, weights in one.maps.items()}
    return candidates(maps, one.source.words, one.target.words)


def save_reading(folder: Path, reading: Reading) -> None:
    """From now on the model in this folder is read so; its description is replaced in one step."""
    path = folder / "model.json"
    facts = {**json.loads(path.read_text(encoding="utf-8")), "reading": reading.as_json()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
