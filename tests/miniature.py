"""A language of a few templates, and translators of it that learn in seconds on one core."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foveate.tasks.corpus import Pair
from foveate.tasks.training import Options
from foveate.tasks.translation import Shape
from foveate.tasks.translation.task import TranslationTask, prepare

NUMBERS = {"two": "deux", "three": "trois", "four": "quatre", "five": "cinq", "six": "six", "seven": "sept"}
NOUNS = {"cats": "chats", "dogs": "chiens", "birds": "oiseaux", "books": "livres", "apples": "pommes"}
COLOURS = {"red": "rouges", "blue": "bleus", "green": "verts"}
WHO = {"I have": "j'ai", "you have": "vous avez", "they have": "ils ont"}

RNN = Shape(arch="rnn", width=32, hidden=48, dropout=0.0, state_dropout=0.1)
TRANSFORMER = Shape(arch="transformer", width=48, heads=4, layers=2, inner=96, dropout=0.0)
OPTIONS = Options(epochs=2, peak=1e-2, warmup=10, patience=0, average=2, precision="float32", save_every=5, log_every=3)


def pairs(count: int = 240, seed: int = 1) -> list[Pair]:
    """Adjectives come behind nouns in the second language, so that not every word stays where it is."""
    draw, found = random.Random(seed), []
    for _ in range(count):
        who, (first, second), (one, other) = (
            draw.choice(list(WHO)), draw.sample(list(NUMBERS), 2), draw.sample(list(NOUNS), 2),
        )  # fmt: skip
        colour = draw.choice(list(COLOURS))
        source = f"{who} {first} {colour} {one} and {second} {other}."
        target = f"{WHO[who]} {NUMBERS[first]} {NOUNS[one]} {COLOURS[colour]} et {NUMBERS[second]} {NOUNS[other]}."
        found.append(Pair(source, target))
    return found


def write(path: Path, given: Sequence[Pair]) -> Path:
    path.write_text("".join(f"{pair.source}\t{pair.target}\n" for pair in given), encoding="utf-8")
    return path


def task(
    *, extra: Sequence[tuple[str, str]] = (), dropout: float = 0.1, subword_dropout: float = 0.0, **options: Any
) -> TranslationTask:
    """Of a few pairs, untrained and tiny."""
    some = [*pairs(24), *(Pair(*texts) for texts in extra)]
    shape = replace(RNN, width=8, hidden=12, dropout=dropout, state_dropout=dropout)
    data = prepare(some, some[:6], 600, dropout=subword_dropout)
    return TranslationTask(data, shape, **{"tokens": 96, "pictures": 0, **options})
