"""What a text is turned into: a translation, or a summary. Everything else about the two is the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .metrics import Bleu, Metric, Rouge

__all__ = ["GOALS", "SUMMARISATION", "TRANSLATION", "Goal"]


@dataclass(frozen=True)
class Goal:
    """How translation and summarisation differ.

    Args:
        task: how `model.json` says it.
        verb, doing, result, maker: for people.
        sides: what the two columns of a file are called.
        max_words: the most words that a side of a training pair may have.
        max_tokens: the most tokens that a text may have.
        metric: what validation counts, given how BLEU is to cut words.
        copies: any sub-word may come out, not only those of training's targets: names are taken over from the text.
        grows: a target may be twice as long as its source, whatever it is; else, twice as long as the longest of
            training.
    """

    task: str
    verb: str
    doing: str
    result: str
    maker: str
    sides: tuple[str, str]
    max_words: int
    max_tokens: int
    metric: Callable[[str], Metric]
    copies: bool
    grows: bool

    @property
    def rules(self) -> dict[str, Any]:
        """How its files are read: options of `foveate.tasks.corpus.read_pairs`."""
        return {"max_words": self.max_words, "sides": self.sides}


TRANSLATION = Goal(
    task="translation",
    verb="translate",
    doing="Translating",
    result="translation",
    maker="translator",
    sides=("source", "target"),
    max_words=250,
    max_tokens=511,
    metric=Bleu,
    copies=False,
    grows=True,
)
SUMMARISATION = Goal(
    task="summarisation",
    verb="summarise",
    doing="Summarising",
    result="summary",
    maker="summariser",
    sides=("text", "summary"),
    max_words=1000,
    max_tokens=2047,
    metric=lambda tokenize: Rouge(),
    copies=True,
    grows=False,
)
GOALS = {goal.task: goal for goal in (TRANSLATION, SUMMARISATION)}
