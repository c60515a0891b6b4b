"""Which reading of a translator's attention aligns best, found on pairs without links, and where that is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.tasks.alignment import Alone, Best, Reading, choose, choose_alone, same_words
from foveate.tasks.corpus import Pair
from foveate.tasks.files import save_text

if TYPE_CHECKING:
    from foveate.tasks.translation import Translator

__all__ = ["best_reading", "best_readings", "save_reading", "texts"]


def texts(pairs: Sequence[Pair], *, turned: bool = False) -> list[tuple[str, str]]:
    """As a translator takes them; with `turned`, source and target exchanged."""
    return [(pair.target, pair.source) if turned else (pair.source, pair.target) for pair in pairs]


def best_readings(forward: Translator, backward: Translator, pairs: Sequence[Pair]) -> Best[Reading, Reading]:
    """The readings of two models, of which one translates back, that agree most on these pairs."""
    return choose(zip(forward.candidates(texts(pairs)), backward.candidates(texts(pairs, turned=True)), strict=True))


def best_reading(translator: Translator, pairs: Sequence[tuple[str, str]]) -> Alone[Reading]:
    """The reading of one model that agrees most with itself, and with words that are the same in both languages."""
    anchors = (same_words(source.split(), target.split()) for source, target in pairs)
    return choose_alone(translator.candidates(pairs), anchors)


def save_reading(folder: Path, reading: Reading) -> None:
    """From now on the model in this folder is read so; its description is replaced in one step."""
    path = folder / "model.json"
    facts = {**json.loads(path.read_text(encoding="utf-8")), "reading": reading.as_json()}
    save_text(path, json.dumps(facts, ensure_ascii=False, indent=1) + "\n")
