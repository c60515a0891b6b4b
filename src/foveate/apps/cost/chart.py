"""The plot: time and memory over n, both axes logarithmic, each line named at its end with its exponent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foveate.apps.cost.machine import sentence
from foveate.apps.cost.study import Study
from foveate.plot.style import COLOURS, MARKERS, both, drawing, paper

__all__ = ["draw", "spread"]

_WIDE, _HIGH, _DOTS = 8.0, 3.6, 200  # inches, inches, per inch
_POINTS = 9.0


def draw(study: Study, folder: Path, busy: bool = False) -> list[Path]:
    """Write cost.png and cost.svg.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with drawing(_POINTS, open_axes=True):
        figure = paper(_WIDE, _HIGH, dpi=_DOTS)
        lines = _lines(study, busy)
        left, right = _panels(figure, [_label(name, p) for name, *_, time, memory in lines for p in (time, memory)])
        title = "processor time of a call, ms" if busy else "time of a call, ms"
        _panel(left, study, title, [(name, n, time, p) for name, n, time, _, p, _ in lines])
        _panel(right, study, "peak memory beyond inputs, MB", [(name, n, m, p) for name, n, _, m, _, p in lines])
        figure.text(0.01, 0.02, _footer(study), fontsize=7.5, color="#555555")
        return both(figure, folder / "cost")


def spread(places: Sequence[float], apart: float) -> list[float]:
    """Places near those given, in the same order, that are at least `apart` from each other."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    groups: list[list[int]] = []
    for i in order:  # groups of neighbours are set evenly around their mean; those that then touch become one
        groups.append([i])
        while len(groups) > 1 and _ends(groups[-2], places, apart)[1] + apart > _ends(groups[-1], places, apart)[0]:
            last = groups.pop()
            groups[-1] += last
    found = list(places)
    for group in groups:
        low = _ends(group, places, apart)[0]
        for step, i in enumerate(group):
            found[i] = low + step * apart
    return found


def _ends(group: list[int], places: Sequence[float], apart: float) -> tuple[float, float]:
    middle, half = sum(places[i] for i in group) / len(group), (len(group) - 1) * apart / 2
    return middle - half, middle + half


def _lines(study: Study, busy: bool) -> list[tuple[Any, ...]]:
    """Name, lengths, milliseconds, megabytes, and the two exponents of each form that was measured."""
    found = []
    for name in study.plan.forms:
        points, growth = study.points(name), study.growth(name, busy)
        if points:
            ms = [1e3 * point.seconds(busy) for point in points]
            mb = [point.bytes / 1e6 if point.bytes else math.nan for point in points]
            powers = (growth.time, growth.memory) if growth else (None, None)
            found.append((name, [point.n for point in points], ms, mb, *powers))
    return found


def _panels(figure: Any, labels: list[str]) -> tuple[Any, Any]:
    """Two panels, each with room for the widest label to its right."""
    width = 0.0
    for label in labels:
        text = figure.text(0, 0, label)
        width = max(width, text.get_window_extent().width / (figure.dpi * _WIDE))
        text.remove()
    scale, tie, end = 0.078, 0.03, 0.005  # of the figure: the numbers at a panel's left, the lines to the labels
    panel = 0.5 - scale - tie - width - end
    boxes = [(start + scale, 0.19, panel, 0.71) for start in (0.0, 0.5)]
    return figure.add_axes(boxes[0]), figure.add_axes(boxes[1])


def _label(name: str, power: float | None) -> str:
    return name if power is None else f"{name}  $n^{{{power:.2f}}}$"


def _panel(ax: Any, study: Study, title: str, lines: list[tuple[str, list[int], list[float], float | None]]) -> None:
    ax.set_title(title, loc="left", fontsize=_POINTS + 0.5)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    order = study.plan.forms
    for name, lengths, costs, _ in lines:
        i = order.index(name)
        style = {"color": COLOURS[i % 8], "marker": MARKERS[i % 8], "markersize": 4, "linewidth": 1.4}
        ax.plot(lengths, costs, **style)
    _axes(ax, study.plan.lengths)
    ends = [(name, lengths[-1], costs[-1], power) for name, lengths, costs, power in lines if costs[-1] == costs[-1]]
    ax.figure.canvas.draw()  # so that places on the page are known
    heights = [ax.transData.transform((n, cost))[1] for _, n, cost, _ in ends]
    apart = _POINTS * 1.3 * ax.figure.dpi / 72
    for (name, n, cost, power), y in zip(ends, spread(heights, apart), strict=True):
        _name(ax, name, power, (n, cost), y, COLOURS[order.index(name) % 8])


def _axes(ax: Any, lengths: Sequence[int]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    step = -(-len(lengths) // 7)
    shown = list(lengths)[::-1][::step]
    ax.set_xticks(shown, [_short(n) for n in shown])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}" if y >= 1 else f"{y:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.grid(axis="y", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel("n, queries and keys", labelpad=2)
    ax.margins(x=0.04, y=0.06)


def _name(ax: Any, name: str, power: float | None, end: tuple[int, float], y: float, colour: str) -> None:
    """The form's name right of the panel, at height `y` of the page, tied to its last point."""
    inverse = ax.transData.inverted()
    right = ax.transAxes.transform((1.0, 0.0))[0]
    gap = 5 * ax.figure.dpi / 72
    place = inverse.transform((right + gap * 2.2, y))
    tie = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3}
    ax.annotate(
        _label(name, power),
        xy=end,
        xytext=place,
        color=colour,
        va="center",
        ha="left",
        annotation_clip=False,
        arrowprops=tie | {"relpos": (0, 0.5)},
    )


def _short(n: int) -> str:
    return f"{n // 1024}k" if n >= 1024 and n % 1024 == 0 else f"{n:,}"


def _footer(study: Study) -> str:
    machine = study.store.machine
    return f"{study.plan.settings}; {sentence(machine)}, torch {str(machine['torch']).partition('+')[0]}"
