"""A report in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .curves import SHARES, probability
from .judging import Chance, spread

if TYPE_CHECKING:
    from .judging import Verdict
    from .result import Report, Score

__all__ = ["in_words"]

_AT = SHARES.index(0.2)  # the step that is told
_SAID: dict[Verdict, str] = {
    "explains": "Attention explains this prediction",
    "partly": "Attention explains this prediction in part",
    "does not": "Attention does not explain this prediction",
    "cannot tell": "Whether attention explains this prediction cannot be told",
}
_OF_A_SCORE = {"explains": "explains", "partly": "in part", "does not": "no better than chance"}


def in_words(report: Report) -> str:
    """The verdict with the figures it stands on, then links, all scores, and what to know about them."""
    parts = [_verdict(report), _alone(report), _links(report), _scores(report), _how(report)]
    return "\n".join([part for part in parts if part] + [f"Note: {note}." for note in report.notes])


def _verdict(report: Report) -> str:
    score, gradient, before = report.attention, report.gradient, _p(report.probability)
    after, many = _p(score.curve.probabilities[_AT]), score.curve.counts[_AT]
    became = f"stays at {before}" if after == before else f"goes from {before} to {after}"
    found = (
        f"{_SAID[report.verdict]}: without {_named(report, score)} read most, p({report.target}) {became}; without "
        f"{'a random one' if many == 1 else f'{many} random ones'}, to {_chance(spread(report.random, _AT))}"
    )
    if gradient is not None:
        found += f"; without what the gradient finds, {_named(report, gradient)}, "
        found += f"to {_p(gradient.curve.probabilities[_AT])}"
    if report.verdict == "cannot tell":
        found += ". No order of tokens does better than chance, not even by single removals or gradients"
    elif not report.reaches:
        found += ". Nothing that attention reads reaches the prediction: it has no gradient there"
    return found + "."


def _alone(report: Report) -> str:
    score, gradient = report.attention, report.gradient
    found = (
        f"With nothing but what is read most, p is {_p(probability(score.curve.alone[_AT]))}; with as many random "
        f"tokens, {_chance(spread(report.random, _AT, alone=True))}"
    )
    if gradient is not None:
        found += f"; with what the gradient finds, {_p(probability(gradient.curve.alone[_AT]))}"
    return found + "."


def _links(report: Report) -> str:
    links = report.links
    if links is None:
        return ""
    most, least, gradient = (curve.probabilities[_AT] for curve in (links.most, links.least, links.gradient))
    return (
        f"Links: without the {links.most.counts[_AT]:,} of {links.count:,} with most weight, p is {_p(most)}; with "
        f"least, {_p(least)}; with the largest gradient x attention, {_p(gradient)}; without random ones, "
        f"{_chance(spread(links.random, _AT))}."
    )


def _scores(report: Report) -> str:
    """A table: what p falls by without the first tokens (large is good) and with nothing but them (small is good)."""
    chance = report.rows()[-1]
    return "\n".join(
        [
            f"  {'mean fall of p':<26}{'without':>8}{'alone':>8}{'agrees':>8}",
            *(_line(score) for score in report.scores.values()),
            f"  {'random':<26}{chance['comprehensiveness']:8.2f}{chance['sufficiency']:8.2f}",
        ]
    )


def _line(score: Score) -> str:
    numbers = f"{score.curve.comprehensiveness:8.2f}{score.curve.sufficiency:8.2f}"
    agreement = "-" if score.agreement is None else f"{score.agreement:.2f}"
    return f"  {score.label:<26}{numbers}{agreement:>8}  {_OF_A_SCORE[score.verdict]}"


def _how(report: Report) -> str:
    if report.how == "replace":
        return f"Tokens were removed by putting {report.replacement} in their place."
    return "Tokens were removed by hiding them: no other token can read them, in any layer or head."


def _named(report: Report, score: Score) -> str:
    count = score.curve.counts[_AT]
    names = [report.tokens[place] for place in score.order[:count]]
    shown = ", ".join(names[:4]) + (", ..." if count > 4 else "")
    return f"the token {shown}" if count == 1 else f"the {count} tokens {shown}"


def _chance(chance: Chance) -> str:
    error = f"± {chance.error:.2f}" if chance.error >= 0.005 else "± less than 0.01"
    return f"{_p(chance.mean)} ({error})"


def _p(value: float) -> str:
    """Two digits, and more where p is small or nearly 1."""
    return f"{value:.2f}" if 0.1 <= value <= 0.995 else f"{value:.3g}" if value < 0.1 else f"{value:.4f}"
