"""Attention as lines between two columns of tokens, as Vig (2019, "A Multiscale Visualization of Attention in the
Transformer Model") draws it.

Axes: H heads, Q queries, K keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .given import Floats, numbers
from .style import COLOURS, COLUMN, LINE, POINTS, drawing, paper, wide
from .tokens import named

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["lines"]

_DASHES: tuple[Any, ...] = ("-", (0, (3, 1)), (0, (1, 1)))  # colours begin again, dashed, then dotted
_MOST_TOKENS = 400  # a figure of four feet
_EDGE, _TICK = 0.03, 0.05  # inches
_THIN, _THICK = 0.3, 2.5  # points, of lines of weight 0 and 1
_GREY = "#6b7078"


def lines(
    weights: Any,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    head: int | Sequence[int] | None = None,
    threshold: float = 0.1,
    top: int = 3,
    row: int | None = None,
    ax: Axes | None = None,
    width: float = COLUMN,
    title: str | None = None,
) -> Figure | Axes:
    """Queries at the left, keys at the right, and a line where a query reads a key, thicker for more weight.

    Args:
        weights: (Q, K), or (H, Q, K): a colour for each head, and a legend.
        rows: the tokens of the queries; default: their numbers.
        columns: the tokens of the keys; default: their numbers.
        head: which head, or heads, of several; default: all.
        threshold: no line for weights below it.
        top: of each query and head only the lines of so many largest weights.
        row: only the lines of this query.
        ax: draw here; tokens are then written as far as there is room. Default: a new figure as high as it must be.
        width: inches, of the new figure.
        title: written above.

    Returns:
        The figure, or `ax` if it was given.

    Raises:
        TypeError: weights are no numbers.
        IndexError: there is no such head or row.
        ValueError: the batch is not chosen, names are not one for each row and column, or there are more tokens or
            heads than can be told apart.
        MissingExtraError: matplotlib is not installed.
    """
    weights_HQK, heads = _heads(weights, head)
    _, queries, keys = weights_HQK.shape
    if max(queries, keys) > _MOST_TOKENS:
        raise ValueError(
            f"lines draws at most {_MOST_TOKENS} tokens in a column; got {max(queries, keys)}: take a part"
        )
    left = named(rows, queries, "rows") or [str(i) for i in range(queries)]
    right = named(columns, keys, "columns") or [str(i) for i in range(keys)]
    found = _links(weights_HQK, threshold, top, row)
    with drawing():
        axes: Any = _sheet(left, right, width, title is not None, len(heads)) if ax is None else ax
        _tokens(axes, left, right)
        _draw(axes, found, queries, keys, len(heads))
        if len(heads) > 1:
            _legend(axes, heads)
        if title is not None:
            axes.set_title(title, fontsize=POINTS + 1, pad=4 + POINTS * 1.3)
    return axes.figure if ax is None else axes


def _heads(weights: Any, head: int | Sequence[int] | None) -> tuple[Floats, list[int]]:
    """(H, Q, K) of the chosen heads, and their numbers."""
    found = numbers(weights)
    while found.ndim > 3 and len(found) == 1:
        found = found[0]
    if found.ndim == 2 and head is None:
        found = found[None]
    if found.ndim != 3 or not found.size:
        raise ValueError(
            f"weights must have the axes (queries, keys) or (heads, queries, keys), none of them empty; got shape "
            f"{found.shape}: choose a sequence of the batch, as in weights[0]"
        )
    count = len(found)
    chosen = list(range(count)) if head is None else [head] if isinstance(head, int) else list(head)
    for h in chosen:
        if not -count <= h < count:
            raise IndexError(f"head must be from 0 to {count - 1}; got {h}")
    most = len(COLOURS) * len(_DASHES)
    if not 1 <= len(chosen) <= most:
        raise ValueError(f"lines can tell 1 to {most} heads apart; got {len(chosen)}: choose with head=")
    chosen = [h % count for h in chosen]
    return found[chosen], chosen


def _links(weights_HQK: Floats, threshold: float, top: int, row: int | None) -> list[tuple[float, int, int, int]]:
    """(weight, place of the head, query, key) of every line, thin ones first."""
    if top < 1:
        raise ValueError(f"top must be at least 1; got {top}")
    queries, keys = weights_HQK.shape[1:]
    if row is not None and not -queries <= row < queries:
        raise IndexError(f"row must be from 0 to {queries - 1}; got {row}")
    known = np.nan_to_num(weights_HQK)
    best = np.argsort(-known, axis=-1, kind="stable")[..., : min(top, keys)]
    found = []
    for h, q, k in np.ndindex(best.shape):
        key = int(best[h, q, k])
        weight = float(known[h, q, key])
        if weight >= threshold and weight > 0 and (row is None or q == row % queries):
            found.append((weight, h, q, key))
    return sorted(found)


def _sheet(left: list[str], right: list[str], width: float, titled: bool, heads: int) -> Any:
    """New axes between the columns, so high that no token touches another."""
    sides = [_EDGE + max(wide(names), wide([word])) + _TICK for names, word in ((left, "query"), (right, "key"))]
    across = width - sum(sides)
    if across < 0.5:
        raise ValueError(f"width must leave half an inch between the columns: {sum(sides) + 0.5:.1f} or more here")
    high = max(len(left), len(right)) * LINE * 1.15
    above = _EDGE + 1.5 * LINE + (1.6 * LINE if titled else 0)
    below = _EDGE + (0 if heads == 1 else LINE * (1.6 + 1.3 * -(-heads // _per_line(width))))
    whole = above + high + below
    figure = paper(width, whole)
    return figure.add_axes((sides[0] / width, below / whole, across / width, high / whole))


def _per_line(width: float) -> int:
    """Heads in a line of the legend."""
    return max(1, int(width / 0.4))


def _tokens(ax: Any, left: list[str], right: list[str]) -> None:
    """Both columns as labels of axes that run from top to bottom."""
    from .figures import name_ticks

    other = ax.twinx()
    for axes, names, word, x, align in ((ax, left, "query", 0, "right"), (other, right, "key", 1, "left")):
        axes.set(ylim=(len(names) - 0.5, -0.5), xlim=(0, 1))
        axes.spines[:].set_visible(False)
        name_ticks(axes.yaxis, names, LINE)
        axes.yaxis.set_tick_params(labelsize=POINTS, length=0, pad=_TICK * 72)
        at = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
        shift = -_TICK * 72 if align == "right" else _TICK * 72
        axes.annotate(word, (x, 1), (shift, 2), ha=align, va="bottom", fontsize=POINTS, color=_GREY, **at)
    ax.xaxis.set_visible(False)


def _draw(ax: Any, found: list[tuple[float, int, int, int]], queries: int, keys: int, heads: int) -> None:
    """Lines in the coordinates of the left column; those of several heads end a little above each other."""
    from matplotlib.collections import LineCollection

    segments, colours, widths, dashes = [], [], [], []
    for weight, h, q, k in found:
        shift = 0.0 if heads == 1 else 0.5 * ((h + 0.5) / heads - 0.5)
        end = (k + 0.5 + shift) * queries / keys - 0.5
        segments.append([(0.0, q + shift), (1.0, end)])
        colours.append(COLOURS[h % len(COLOURS)])
        widths.append(_THIN + (_THICK - _THIN) * min(weight, 1))
        dashes.append(_DASHES[h // len(COLOURS)])
    drawn = LineCollection(segments, colors=colours, linewidths=widths, linestyles=dashes, capstyle="butt")
    ax.add_collection(drawn, autolim=False)


def _legend(ax: Any, heads: list[int]) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for place, h in enumerate(heads):
        style: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)], "linestyle": _DASHES[place // len(COLOURS)]}
        handles.append(Line2D([], [], linewidth=1.8, label=str(h), **style))
    wanted = min(len(heads), _per_line(ax.figure.get_figwidth()))
    ax.legend(
        handles=[handles[i] for first in range(wanted) for i in range(first, len(handles), wanted)],  # by lines
        title="head",
        title_fontsize=POINTS,
        fontsize=POINTS,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        ncols=wanted,
        frameon=False,
        handlelength=1.2,
        handletextpad=0.4,
        columnspacing=0.8,
        borderpad=0.1,
        labelspacing=0.3,
    )
