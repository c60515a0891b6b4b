"""A report in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .curves import SHARES, probability
from .judging import spread

if TYPE_CHECKING:
    from .judging import Verdict
    from .links import Links
    from .result import Report, Score

__all__ = ["in_words"]

_AT = SHARES.index(0.2)  # the step that is told
_SAID: dict[Verdict, str] = {
    "explains": "Attention explains this prediction",
    "partly": "Attention explains this prediction in part",
    "does not": "Attention does not explain this prediction",
    "cannot tell": "Whether attention explains this prediction cannot be told",
}


def in_words(report: Report) -> str:
    """The verdict with the figures it stands on, then links, the other scores, and what to know about both."""
    parts = [_verdict(report), _sufficiency(report), _links(report), _scores(report), _how(report)]
    return "\n".join([part for part in parts if part] + [f"Note: {note}" for note in report.notes])


def _verdict(report: Report) -> str:
    score, gradient = report.attention, report.gradient
    chance = spread(report.random, _AT)
    found = (
        f"{_SAID[report.verdict]}: without {_named(report, score)} read most, p({report.target}) goes from "
        f"{_p(report.probability)} to {_p(score.curve.probabilities[_AT])}; without {_many(score)} random "
        f"{'one' if score.curve.counts[_AT] == 1 else 'ones'} to {_p(chance.mean)} (± {chance.error:.2g})"
    )
    if gradient is not None:
        found += f"; without {_named(report, gradient)} that the gradient finds, "
        found += f"to {_p(gradient.curve.probabilities[_AT])}"
    if report.verdict == "cannot tell":
        found += ". No order of tokens that was tried, by single removals or gradients either, does better than chance"
    elif not report.reaches:
        found += ". Nothing that attention reads reaches the prediction: it has no gradient there"
    return found + "."


def _sufficiency(report: Report) -> str:
    score, gradient = report.attention, report.gradient
    chance = spread(report.random, _AT, alone=True)
    found = (
        f"With nothing but {_many(score)} of the tokens read most, p is {_p(probability(score.curve.alone[_AT]))}; "
        f"with random ones {_p(chance.mean)} (± {chance.error:.2g})"
    )
    if gradient is not None:
        found += f"; with the gradient's {_p(probability(gradient.curve.alone[_AT]))}"
    return found + "."


def _links(report: Report) -> str:
    links: Links | None = report.links
    if links is None:
        return ""
    chance = spread(links.random, _AT)
    most, least, gradient = (curve.probabilities[_AT] for curve in (links.most, links.least, links.gradient))
    return (
        f"Links: without the {links.most.counts[_AT]:,} of {links.count:,} links between tokens with most weight, p is "
        f"{_p(most)}; with least weight {_p(least)}; random ones {_p(chance.mean)} (± {chance.error:.2g}); with the "
        f"largest gradient x attention {_p(gradient)}."
    )


def _scores(report: Report) -> str:
    lines = [
        "Comprehensiveness (high is good), sufficiency (low is good), agreement with leaving one out:",
        *(_line(score) for score in report.scores.values()),
    ]
    rows = report.rows()[-1]
    lines.append(f"  {'random':<27}{rows['comprehensiveness']:6.2f}{rows['sufficiency']:7.2f}")
    return "\n".join(lines)


def _line(score: Score) -> str:
    agreement = "      -" if score.agreement is None else f"{score.agreement:7.2f}"
    said = {"explains": "explains", "partly": "in part", "does not": "no better than chance"}[score.verdict]
    numbers = f"{score.curve.comprehensiveness:6.2f}{score.curve.sufficiency:7.2f}"
    return f"  {score.label:<27}{numbers}{agreement}  {said}"


def _how(report: Report) -> str:
    if report.how == "replace":
        return f"Tokens were removed by putting {report.replacement} in their place."
    return "Tokens were removed by hiding them: no other token can read them, in any layer or head."


def _many(score: Score) -> str:
    return str(score.curve.counts[_AT])


def _named(report: Report, score: Score) -> str:
    """ "the 3 tokens (a, b, c)" """
    count = score.curve.counts[_AT]
    names = [report.tokens[place] for place in score.order[:count]]
    shown = ", ".join(names[:4]) + (", ..." if count > 4 else "")
    return f"the token {shown}" if count == 1 else f"the {count} tokens {shown}"


def _p(value: float) -> str:
    """Two digits, and more where p is small or nearly 1."""
    return f"{value:.2f}" if 0.1 <= value <= 0.995 else f"{value:.3g}" if value < 0.1 else f"{value:.5f}".rstrip("0")
