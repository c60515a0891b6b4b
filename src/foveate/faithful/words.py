"""A report in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .curves import Curve, probability
from .judging import Chance, spread

if TYPE_CHECKING:
    from .judging import Verdict
    from .result import Report, Score

__all__ = ["in_words"]

_SHARE = 0.2  # of the tokens: the step that is told
_SAID: dict[Verdict, str] = {
    "explains": "Attention explains this prediction",
    "partly": "Attention explains this prediction in part",
    "does not": "Attention does not explain this prediction",
    "cannot tell": "Whether attention explains this prediction cannot be told",
}
_OF_A_SCORE = {"explains": "explains", "partly": "in part", "does not": "no better than chance", "cannot tell": ""}


def in_words(report: Report) -> str:
    """The verdict with the figures it stands on, then links, all scores, and what to know about them."""
    parts = [_verdict(report), _alone(report), _links(report), _scores(report), _how(report)]
    return "\n".join([part for part in parts if part] + [f"Note: {note}." for note in report.notes])


def _verdict(report: Report) -> str:
    score, gradient, before = report.attention, report.gradient, _p(report.probability)
    after, many = _p(_without(score.curve)), _many(score.curve)
    became = f"stays at {before}" if after == before else f"goes from {before} to {after}"
    found = (
        f"{_SAID[report.verdict]}: without {_named(report, score)} read most, p({_shown(report.target)}) {became}; "
        f"without {'a random one' if many == 1 else f'{many} random ones'}, to {_chance(spread(report.random, _SHARE))}"
    )
    if gradient is not None:
        found += f"; without what the gradient finds, {_named(report, gradient)}, "
        found += f"to {_p(_without(gradient.curve))}"
    if report.verdict == "cannot tell":
        found += f". {_why_not(report)}"
    elif not report.reaches:
        found += ". Nothing that attention reads reaches the prediction: it has no gradient there"
    return found + "."


def _why_not(report: Report) -> str:
    if report.attention.verdict == "cannot tell":
        return "Hardly anything that was removed moves the prediction"
    return "No order of tokens does better than chance, not even by single removals or gradients"


def _alone(report: Report) -> str:
    score, gradient = report.attention, report.gradient
    found = (
        f"With nothing but what is read most, p is {_p(_left(score.curve))}; with as many random "
        f"tokens, {_chance(spread(report.random, _SHARE, alone=True))}"
    )
    if gradient is not None:
        found += f"; with what the gradient finds, {_p(_left(gradient.curve))}"
    return found + "."


def _links(report: Report) -> str:
    links = report.links
    if links is None:
        return ""
    most, least, gradient = (_without(curve) for curve in (links.most, links.least, links.gradient))
    return (
        f"Links: without the {_many(links.most):,} of {links.count:,} with most weight, p is {_p(most)}; with "
        f"least, {_p(least)}; with the largest gradient x attention, {_p(gradient)}; without random ones, "
        f"{_chance(spread(links.random, _SHARE))}."
    )


def _scores(report: Report) -> str:
    """A table: what p falls by without the first tokens (large is good) and with nothing but them (small is good)."""
    chance = report.rows()[-1]
    digits = 2 if report.probability >= 0.1 else 4
    return "\n".join(
        [
            f"  {'mean fall of p':<27}{'without':>8}{'alone':>8}{'agrees':>8}",
            *(_line(score, digits) for score in report.scores.values()),
            f"  {'random':<27}{_falls(chance['comprehensiveness'], chance['sufficiency'], digits)}",
        ]
    )


def _line(score: Score, digits: int) -> str:
    numbers = _falls(score.curve.comprehensiveness, score.curve.sufficiency, digits)
    agreement = "-" if score.agreement is None else f"{score.agreement:.2f}"
    return f"  {score.label:<27}{numbers}{agreement:>8}  {_OF_A_SCORE[score.verdict]}".rstrip()


def _falls(without: float, alone: float, digits: int) -> str:
    """Both as columns, and never -0.00."""
    return "".join(f"{round(value, digits) + 0.0:8.{digits}f}" for value in (without, alone))


def _how(report: Report) -> str:
    if report.how == "replace":
        return f"Tokens were removed by putting {_shown(str(report.replacement))} in their place."
    return "Tokens were removed by hiding them: no other token can read them, in any layer or head."


def _named(report: Report, score: Score) -> str:
    count = _many(score.curve)
    names = [_shown(report.tokens[place]) for place in score.order[:count]]
    shown = ", ".join(names[:4]) + (", ..." if count > 4 else "")
    return f"the token {shown}" if count == 1 else f"the {count} tokens {shown}"


def _many(curve: Curve) -> int:
    return curve.counts[curve.step(_SHARE)]


def _without(curve: Curve) -> float:
    return probability(curve.without[curve.step(_SHARE)])


def _left(curve: Curve) -> float:
    return probability(curve.alone[curve.step(_SHARE)])


def _shown(name: str) -> str:
    """A name without what could move a terminal's cursor."""
    return "".join(character if character.isprintable() else "?" for character in name)


def _chance(chance: Chance) -> str:
    error = f"± {chance.error:.2f}" if chance.error >= 0.005 else "± less than 0.01"
    return f"{_p(chance.mean)} ({error})"


def _p(value: float) -> str:
    """Two digits, and a third where p is small or large."""
    if value < 0.001 or value > 0.999:
        return "under 0.001" if value < 0.5 else "over 0.999"
    return f"{value:.2f}" if 0.1 <= value <= 0.995 else f"{value:.3f}"
