"""Which reading of a translator's attention aligns best, found on pairs without links, and where that is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..alignment import Alone, Best, Reading, choose, choose_alone, same_words
from ..files import save_text
from .translator import Translator

__all__ = ["best_reading", "best_readings", "save_reading"]

Texts = Sequence[tuple[str, str]]  # words are what white space parts


def best_readings(forward: Translator, backward: Translator, pairs: Texts) -> Best[Reading, Reading]:
    """The readings of two models, of which one translates back, that agree most on these pairs."""
    return choose(zip(forward.candidates(pairs), backward.candidates([(t, s) for s, t in pairs]), strict=True))


def best_reading(translator: Translator, pairs: Texts, *, heads: bool = True) -> Alone[Reading]:
    """The reading of one model that agrees most with itself, and with words that are the same in both languages.

    Args:
        heads: as in `Translator.candidates`.
    """
    anchors = (same_words(source.split(), target.split()) for source, target in pairs)
    return choose_alone(translator.candidates(pairs, heads=heads), anchors)


def save_reading(folder: Path, reading: Reading) -> None:
    """From now on the model in this folder is read so; its description is replaced in one step."""
    path = folder / "model.json"
    facts = {**json.loads(path.read_text(encoding="utf-8")), "reading": reading.as_json()}
    save_text(path, json.dumps(facts, ensure_ascii=False, indent=1) + "\n")
