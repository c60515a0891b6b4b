"""What a report says, as numbers: every score of every token, and how it fared."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..extras import need
from .curves import SHARES, Curve, Order, probability
from .judging import RANKS, Chance, Verdict
from .links import Links

__all__ = ["LABELS", "Report", "Score"]

LABELS = {
    "attention": "attention, last layer",
    "attention_mean": "attention, mean of layers",
    "rollout": "attention rollout",
    "flow": "attention flow",
    "value_norm": "value norms, last layer",
    "value_norm_mean": "value norms, mean of layers",
    "gradient_attention": "gradient x attention",
    "gradient_norm": "gradient norm",
    "gradient_input": "gradient x input",
    "leave_one_out": "leaving one out",
}


@dataclass(frozen=True)
class Score:
    """One way to say which tokens matter.

    `values` is a number for each token (None: it is never removed), `order` the places of tokens from the one that
    matters most, `agreement` their rank correlation with leaving
    out one token at a time, and `verdict` what `docs/faithful.md` says is to be said of it.
    """

    name: str
    values: tuple[float | None, ...]
    order: Order
    curve: Curve
    agreement: float | None
    verdict: Verdict

    @property
    def label(self) -> str:
        return LABELS[self.name]


@dataclass(frozen=True)
class Report:
    """Whether attention explains one prediction. `print` it to read it in words.

    `scores` are by name, the names those of `LABELS`. `how` is "replace" or "hide": how tokens were removed.
    `replacement` is what took their place. `random` are orders by chance.
    """

    model: str
    tokens: tuple[str, ...]
    target: str
    probability: float
    verdict: Verdict
    scores: Mapping[str, Score]
    random: tuple[Curve, ...]
    links: Links | None
    how: str
    replacement: str | None
    reaches: bool
    notes: tuple[str, ...]

    @property
    def text(self) -> str:
        """What was found, in words, a line for each thing."""
        from .words import in_words  # which knows Report

        return in_words(self)

    def __str__(self) -> str:
        """`text`, with long lines broken."""
        lines = self.text.split("\n")
        return "\n".join(line if line.startswith(" ") else textwrap.fill(line, 100) for line in lines)

    @property
    def attention(self) -> Score:
        """The better of the plain readings of attention, of which the verdict speaks."""
        plain = [self.scores[name] for name in ("attention", "attention_mean") if name in self.scores]
        return max(plain, key=lambda score: (RANKS.index(score.verdict), score.curve.comprehensiveness))

    @property
    def gradient(self) -> Score | None:
        """The better of the two gradients of the input; None where the embedded tokens are not known."""
        plain = [self.scores[name] for name in ("gradient_norm", "gradient_input") if name in self.scores]
        return max(plain, key=lambda score: score.curve.comprehensiveness, default=None)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each score, and one for random orders."""
        found = [
            {
                "score": score.name,
                "verdict": score.verdict,
                "comprehensiveness": score.curve.comprehensiveness,
                "sufficiency": score.curve.sufficiency,
                "log_odds_lost": score.curve.log_odds_lost,
                "agreement": score.agreement,
                **_steps(score.curve),
            }
            for score in self.scores.values()
        ]
        mean = {name: _mean(self.random, name) for name in ("comprehensiveness", "sufficiency", "log_odds_lost")}
        steps = [_steps(curve) for curve in self.random]
        means = {name: Chance.of([one[name] for one in steps]).mean for name in steps[0]}
        return [*found, {"score": "random", "verdict": None, **mean, "agreement": None, **means}]

    def to_pandas(self, what: str = "scores") -> Any:
        """A DataFrame of "scores" (`rows`), or of "tokens": one row each, a column for each score."""
        pandas = need("pandas", "heads")

        if what == "scores":
            return pandas.DataFrame(self.rows())
        if what != "tokens":
            raise ValueError(f"unknown table {what!r}; expected 'scores' or 'tokens'")
        return pandas.DataFrame({"token": self.tokens, **{name: score.values for name, score in self.scores.items()}})


def _steps(curve: Curve) -> dict[str, float]:
    steps = [(share, curve.step(share)) for share in SHARES]
    named = [(share, probability(curve.without[step]), probability(curve.alone[step])) for share, step in steps]
    return {
        f"{what}_{share:.0%}": p for share, *both in named for what, p in zip(("without", "alone"), both, strict=True)
    }


def _mean(curves: tuple[Curve, ...], name: str) -> float:
    return Chance.of([getattr(curve, name) for curve in curves]).mean
