"""What becomes of a prediction when tokens are taken away in the order of a score: the figures of a report, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from ..faithful import LABELS, Report
from ..faithful.curves import Curve, probability
from .style import COLOURS, COLUMN, LINE, MARKERS, drawing, paper

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["removals"]

_SHOWN = ("attention", "attention_mean", "gradient_norm", "gradient_input", "leave_one_out")
_GREY = "#8a9099"
_ENTRY = 1.6  # inches across, of the legend


def removals(report: Report, scores: Sequence[str] | None = None, *, width: float = 2 * COLUMN) -> Figure:
    """The target's probability without the tokens that a score puts first, and with nothing but them.

    The grey band is one standard deviation of random orders around their mean.

    Args:
        report: of `fv.faithful.report`.
        scores: names of scores, a line each; default: attention, the gradients and leaving one out.
        width: inches.

    Raises:
        ValueError: the report has no such score, or there are more than can be told apart.
        MissingExtraError: matplotlib is not installed.
    """
    names = [name for name in _SHOWN if name in report.scores] if scores is None else list(scores)
    if unknown := [name for name in names if name not in report.scores]:
        raise ValueError(f"the report has no score {unknown[0]!r}; it has {', '.join(report.scores)}")
    if len(names) > len(COLOURS):
        raise ValueError(f"{len(COLOURS)} scores can be told apart; got {len(names)}")
    with drawing(open_axes=True):
        columns = max(1, int(width / _ENTRY))
        figure = paper(width, 1.2 + 0.17 * width + LINE * 1.3 * -(-(len(names) + 1) // columns), layout="constrained")
        both: Any = figure.subplots(1, 2, sharey=True)
        for axes, what in zip(both, ("without", "alone"), strict=True):
            _band(axes, report.random, what)
            for name, colour, marker in zip(names, COLOURS, MARKERS, strict=False):
                curve = report.scores[name].curve
                style = {"color": colour, "marker": marker, "markersize": 3, "linewidth": 1.0}
                axes.plot(*_points(curve, what), label=LABELS[name], clip_on=False, **style)
            axes.locator_params(axis="x", integer=True)
        highest = max(axes.dataLim.y1 for axes in both)
        both[0].set_ylim(0, 1 if highest > 0.5 else 1.1 * highest)  # what most next words have is small
        both[0].set(title="taken away", xlabel=f"tokens of {report.random[0].total}")
        both[1].set(title="left alone", xlabel=f"tokens of {report.random[0].total}")
        both[0].set_ylabel(f"p({_literal(report.target)})")
        handles = both[0].get_legend_handles_labels()
        figure.legend(*handles, frameon=False, loc="outside lower center", ncols=columns)
    return figure


def _points(curve: Curve, what: str) -> tuple[list[int], list[float]]:
    """Numbers of tokens and probabilities. With no tokens taken away, p is what it was."""
    heights = [probability(x) for x in getattr(curve, what)]
    counts = list(curve.counts)
    return ([0, *counts], [probability(curve.log_odds), *heights]) if what == "without" else (counts, heights)


def _band(axes: Any, random: Sequence[Curve], what: str) -> None:
    counts = _points(random[0], what)[0]
    columns = list(zip(*(_points(curve, what)[1] for curve in random), strict=True))
    means, spread = [fmean(column) for column in columns], [stdev(column) for column in columns]
    low = [max(0.0, m - s) for m, s in zip(means, spread, strict=True)]
    high = [min(1.0, m + s) for m, s in zip(means, spread, strict=True)]
    axes.fill_between(counts, low, high, color=_GREY, alpha=0.25, linewidth=0)
    axes.plot(counts, means, color=_GREY, linewidth=1.0, linestyle="--", label="random")


def _literal(name: str) -> str:
    return name.replace("$", r"\$")  # a dollar sign would start a formula
