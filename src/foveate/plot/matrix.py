"""A heatmap of one matrix of weights, and what the other pictures take from it.

Axes: Q queries, K keys; r and c: rows and columns of cells in the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .given import CELLS, Floats, Grid, matrix
from .style import COLUMN, LINE, POINTS, drawing, paper, wide
from .tokens import named

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BAR",
    "EDGE",
    "TICK",
    "Look",
    "bar_room",
    "draw",
    "heatmap",
    "paint",
    "scale_top",
    "show_bar",
    "with_note",
]

_MASKED = "#d9dce0"  # of a key that is masked; nearly white is a weight of 0
EDGE, TICK = 0.03, 0.05  # inches left free at the border, and between axes and labels
BAR = (0.07, 0.08, 0.05)  # inches: before the colour bar, its width, before its numbers
_TALLEST_CELL = 0.3  # inches
_NUMBER = 6.0  # points, of numbers in cells


@dataclass(frozen=True)
class Look:
    """What does not depend on the weights. `labels` are those of rows and columns; `below` is room for a legend."""

    title: str | None = None
    width: float = COLUMN
    labels: tuple[str, str] = ("query", "key")
    numbers: bool | None = None
    vmax: float | None = None
    cmap: Any = "Blues"
    bar: bool = True
    top: bool = False
    below: float = 0.0


def heatmap(
    weights: Any,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    index: Sequence[int] | None = None,
    ax: Axes | None = None,
    width: float = COLUMN,
    title: str | None = None,
    numbers: bool | None = None,
    vmax: float | None = None,
    cmap: Any = "Blues",
    bar: bool = True,
    cells: int = CELLS,
) -> Figure | Axes:
    """Weights (Q, K) as a heatmap: queries downwards, keys to the right, darker for more.

    A long map is not formed: what has more than `cells` rows or columns is pooled to the largest weight of each cell,
    and the axis says so. Of a map, cells whose keys are all masked are grey; so are weights that are not a number.

    Args:
        weights: (Q, K), such as `attention_map[0, 3]`; or a whole `AttentionMap` with `index`.
        rows: the tokens of the queries; as many of them are written as have room, the first and the last always.
        columns: the tokens of the keys.
        index: the batch and head of a larger map, such as `(0, 3)`: an int for each axis before the queries.
        ax: draw here; default: a new figure.
        width: inches, of the new figure.
        title: written above.
        numbers: write weights into their cells, those below 0.005 left out; default: where there is room.
        vmax: the weight of the darkest colour; default: the next of 1, 0.5, 0.2, 0.1, ... above the largest weight.
        cmap: matplotlib's name of a colour map.
        bar: draw the colour bar.
        cells: rows and columns of the picture, at most.

    Returns:
        The figure, or `ax` if it was given.

    Raises:
        TypeError: weights are no numbers, or rows of unequal lengths.
        ValueError: no batch and head is chosen, names are not one for each row and column, or weights are negative.
        MissingExtraError: matplotlib is not installed.
    """
    grid = matrix(weights, index, cells)
    names = named(rows, grid.queries, "rows"), named(columns, grid.keys, "columns")
    look = Look(title, width, numbers=numbers, vmax=vmax, cmap=cmap, bar=bar)
    drawn = draw(ax, grid, names, look)
    return drawn.figure if ax is None else drawn


def draw(ax: Any, grid: Grid, names: tuple[list[str] | None, list[str] | None], look: Look) -> Any:
    """Draw a matrix with its labels, on new axes if `ax` is None; returns the axes."""
    with drawing():
        bar_ax = None
        if ax is None:
            ax, bar_ax = _sheet(grid, names, look)
        top = scale_top([grid.weights]) if look.vmax is None else look.vmax
        extent = (-0.5, grid.keys - 0.5, grid.queries - 0.5, -0.5)
        image = paint(ax, grid, extent, top, look.cmap)
        ax.set(xlim=extent[:2], ylim=extent[2:])
        _label(ax, grid, names, look)
        if look.title is not None:
            ax.set_title(look.title, fontsize=POINTS + 1, pad=4)
        if look.bar:
            show_bar(ax, bar_ax, image, top)
        _print(ax, grid, image, look.numbers)
    return ax


def paint(ax: Any, grid: Grid, extent: tuple[float, ...], top: float, cmap: Any) -> Any:
    """Cells as an image, which files keep with their own resolution."""
    import matplotlib

    if not top > 0:
        raise ValueError(f"vmax must be above 0; got {top}")
    colours = matplotlib.colormaps.get_cmap(cmap).with_extremes(bad=_MASKED)
    return ax.imshow(
        grid.shown, cmap=colours, vmin=0, vmax=top, extent=extent, aspect="auto", interpolation="antialiased"
    )


def scale_top(weights: Sequence[Floats]) -> float:
    """The next of 1, 0.5, 0.2, 0.1, ... (or 2, 5, 10, ...) that no weight exceeds; 1 if all are 0.

    >>> import numpy as np
    >>> [scale_top([np.array([w])]) for w in (0.0, 1.0, 0.51, 0.5, 0.013, 3.0)]
    [1.0, 1.0, 1.0, 0.5, 0.02, 5.0]
    """
    import numpy as np

    largest = max((float(np.nanmax(one, initial=0)) for one in weights), default=0.0)
    if largest <= 0:
        return 1.0
    power = math.floor(math.log10(largest))
    steps = (float(f"{digit}e{power}") for digit in (1, 2, 5, 10))
    return next((step for step in steps if largest <= step * (1 + 1e-6)), float(f"2e{power + 1}"))


def show_bar(ax: Any, bar_ax: Any, image: Any, top: float) -> None:
    """The colour bar, with two or three numbers."""
    where = {"ax": ax, "fraction": 0.05, "pad": 0.03} if bar_ax is None else {"cax": bar_ax}
    bar = ax.figure.colorbar(image, **where)
    ticks = [0, top / 2, top] if bar.ax.bbox.height / ax.figure.dpi > 4 * LINE else [0, top]
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks], fontsize=POINTS)
    bar.ax.tick_params(length=1.5, width=0.5, pad=1.5)
    bar.set_label("weight", fontsize=POINTS, labelpad=2)
    bar.outline.set_linewidth(0.5)


def with_note(label: str, note: str) -> str:
    """An axis label that says what a cell stands for."""
    return f"{label} ({note})" if note else label


def bar_room() -> float:
    """Inches that the colour bar takes. Only inside `drawing`."""
    return sum(BAR) + wide(["0.25"]) + TICK + LINE


def _sheet(grid: Grid, names: tuple[list[str] | None, list[str] | None], look: Look) -> tuple[Any, Any]:
    """New axes for a matrix in a figure with room for its labels, and axes for the colour bar."""
    rows, columns = (n or [str(size - 1)] for n, size in zip(names, (grid.queries, grid.keys), strict=True))
    left = EDGE + wide(rows) + TICK + (LINE if look.labels[0] else 0)
    right = EDGE + (bar_room() if look.bar else TICK)
    across = look.width - left - right
    if across < 0.5:
        raise ValueError(f"width must leave half an inch beside the labels: {left + right + 0.5:.1f} or more here")
    high = _height(across, grid.queries, grid.keys)
    flat = names[1] is None or _fits_flat(columns, across / grid.keys)
    ticks = TICK + (LINE if flat else wide(columns))
    ticks += LINE if look.labels[1] else 0
    above = EDGE + (1.6 * LINE if look.title is not None else 0) + (ticks if look.top else LINE / 2)
    below = EDGE + look.below + (LINE / 2 if look.top else ticks)
    whole = above + high + below
    figure = paper(look.width, whole)
    ax = figure.add_axes((left / look.width, below / whole, across / look.width, high / whole))
    if not look.bar:
        return ax, None
    at = (look.width - right + BAR[0]) / look.width
    return ax, figure.add_axes((at, below / whole, BAR[1] / look.width, high / whole))


def _height(across: float, queries: int, keys: int) -> float:
    """Inches that the axes are high: square cells, unless rows would then be too thin to be labelled or too thick."""
    cell = min(across / keys, _TALLEST_CELL)
    labelled = max(cell, LINE * 1.02)
    high = queries * (labelled if queries * labelled <= 1.3 * across else cell)
    return min(max(high, 2 * LINE), 1.5 * across)


def _fits_flat(names: Sequence[str], cell: float) -> bool:
    """Whether names have room beside each other."""
    return wide(names) + LINE / 3 <= cell


def _label(ax: Any, grid: Grid, names: tuple[list[str] | None, list[str] | None], look: Look) -> None:
    from .figures import count_ticks, inches, name_ticks

    rows, columns = names
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_tick_params(labelsize=POINTS, length=1.5, width=0.5, pad=1.5)
    if columns is None:
        count_ticks(ax.xaxis)
    else:
        flat = _fits_flat(columns, inches(ax.xaxis) / len(columns))
        name_ticks(ax.xaxis, columns, wide(columns) + LINE / 3 if flat else LINE)
        ax.xaxis.set_tick_params(labelrotation=0 if flat else 90)
    if rows is None:
        count_ticks(ax.yaxis)
    else:
        name_ticks(ax.yaxis, rows, LINE)
    if look.top:
        ax.xaxis.tick_top()
        ax.xaxis.set_label_position("top")
    ax.set_xlabel(with_note(look.labels[1], grid.note), fontsize=POINTS, labelpad=2)
    ax.set_ylabel(look.labels[0], fontsize=POINTS, labelpad=2)


def _print(ax: Any, grid: Grid, image: Any, wanted: bool | None) -> None:
    """Weights as numbers in their cells."""
    from .figures import inches

    if wanted and grid.pooled:
        raise ValueError("numbers are those of single weights; this map is pooled, and numbers must be False")
    if wanted is False or grid.pooled:
        return
    texts = {
        (i, j): f"{grid.weights[i, j]:.2f}".removeprefix("0").removesuffix(".00")
        for i in range(grid.queries)
        for j in range(grid.keys)
        if grid.weights[i, j] >= 0.005 and (grid.seen is None or grid.seen[i, j])
    }
    room = inches(ax.xaxis) / grid.keys, inches(ax.yaxis) / grid.queries
    fit = min(room[0] / (wide(list(texts.values()), _NUMBER) + 0.02), room[1] / (1.1 * _NUMBER / 72)) if texts else 1
    if wanted is None and fit < 1:
        return
    for (i, j), text in texts.items():
        red, green, blue = image.cmap(image.norm(grid.weights[i, j]))[:3]
        light = 0.299 * red + 0.587 * green + 0.114 * blue
        colour = "#1a1a1a" if light > 0.55 else "white"
        ax.text(j, i, text, color=colour, fontsize=_NUMBER * min(1, fit), ha="center", va="center_baseline")
