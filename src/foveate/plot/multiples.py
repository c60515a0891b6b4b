"""Every head of every layer in one picture: small multiples, layers downwards, heads to the right.

Axes: L layers, B sequences of a batch, H heads, Q queries, K keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..map import AttentionMap
from .given import CELLS, Grid, matrices, numbers
from .matrix import BAR, EDGE, TICK, bar_room, paint, scale_top, show_bar, with_note
from .style import COLUMN, LINE, POINTS, drawing, paper, wide
from .tokens import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["head_grid"]

_GAP = 0.05  # of a panel's side, left free on each side
_SHARP = 150  # cells per inch, two dots each
_MARGIN = "#8a8f98"


@dataclass(frozen=True)
class _Layer:
    """A layer to draw: weights (H, Q, K) or (B, H, Q, K), and the part of them that is no padding."""

    name: str
    label: str
    weights: Any
    rows: slice
    columns: slice

    @property
    def heads(self) -> int:
        return int(self.weights.shape[-3])


def head_grid(
    maps: Any,
    *,
    layers: Sequence[int | str] | None = None,
    heads: Sequence[int] | None = None,
    sequence: int = 0,
    step: int = 0,
    ax: Axes | None = None,
    width: float = COLUMN,
    title: str | None = None,
    vmax: float | None = None,
    cmap: Any = "Blues",
    bar: bool = True,
    cells: int | None = None,
) -> Figure | Axes:
    """Small heatmaps of all heads of all layers for one sequence, in the same colours.

    In each, queries go downwards and keys to the right. Long sequences are pooled to the largest weight of each cell.

    Args:
        maps: a `Recording`, or names with maps; or a list of layers, each a map, tensor or array (H, Q, K) or
            (B, H, Q, K); or one layer alone.
        layers: which ones, by number from 0 or by name; default: all.
        heads: which ones, by number from 0; default: all.
        sequence: which sequence of the batch; its padding, where a recording knows of it, is left out.
        step: which call of a module that was called several times.
        ax: draw here; default: a new figure.
        width: inches, of the new figure.
        title: written above.
        vmax: the weight of the darkest colour; default: the next of 1, 0.5, 0.2, 0.1, ... above the largest weight.
        cmap: matplotlib's name of a colour map.
        bar: draw the colour bar.
        cells: rows and columns of each heatmap, at most; default: as many as can be told apart in print.

    Returns:
        The figure, or `ax` if it was given.

    Raises:
        TypeError: weights are no numbers.
        KeyError: no layer has that name.
        IndexError: there is no such layer, head or sequence.
        ValueError: there is nothing to draw, or weights have other axes.
        MissingExtraError: matplotlib is not installed.
    """
    chosen = _chosen(_layers(maps, sequence, step), layers)
    numbered = _numbered(chosen, heads)
    with drawing():
        labels = [shortened(layer.label, 20) for layer in chosen]
        sheet: Any = (ax, None) if ax is not None else _sheet(labels, len(numbered), width, title is not None, bar)
        axes, bar_ax = sheet
        fine = _cells(axes, len(chosen), len(numbered)) if cells is None else cells
        panels = _panels(chosen, numbered, sequence, fine)
        top = scale_top([grid.weights for grid in panels.values()]) if vmax is None else vmax
        image = _fill(axes, panels, top, cmap)
        _label(axes, labels, [str(h) for h in numbered], max((g.note for g in panels.values()), key=len))
        if title is not None:
            axes.set_title(title, fontsize=POINTS + 1, pad=4)
        if bar:
            show_bar(axes, bar_ax, image, top)
    return axes.figure if ax is None else axes


def _layers(maps: Any, sequence: int, step: int) -> list[_Layer]:
    """All layers, in the order given."""
    if isinstance(maps, Mapping):
        return _recorded(maps, sequence, step)
    alone = isinstance(maps, AttentionMap) or getattr(maps, "ndim", 5) < 5
    found = [_plain(one, number, sequence) for number, one in enumerate([maps] if alone else maps)]
    if not found:
        raise ValueError("there is no attention to draw: the list of layers is empty")
    return found


def _plain(weights: Any, number: int, sequence: int) -> _Layer:
    weights = weights if isinstance(weights, AttentionMap) else numbers(weights)
    shape = tuple(weights.shape)
    if len(shape) not in (3, 4):
        raise ValueError(
            f"a layer must have the axes (heads, queries, keys), or a batch before them; got shape {shape}"
        )
    if len(shape) == 4:
        _within(sequence, shape[0], "sequence")
    return _Layer(str(number), str(number), weights, slice(0, shape[-2]), slice(0, shape[-1]))


def _recorded(maps: Mapping[str, Any], sequence: int, step: int) -> list[_Layer]:
    """The calls of a recording, without padding."""
    from ..views.source import Source

    source = Source(maps)
    document = source.document()
    _within(sequence, len(document.sequences), "sequence")
    found = []
    for call in document.calls:
        if call.step == step:
            rows, columns = source.axes(call.index, sequence)
            spans = rows.at(0, rows.length), columns.at(0, columns.length)
            label = call.label.removeprefix("layer ")
            found.append(_Layer(call.name, label, source.maps[call.index], *spans))
    if not found:
        raise IndexError(f"no module was called {step + 1} times; step must be lower")
    return found


def _chosen(layers: list[_Layer], wanted: Sequence[int | str] | None) -> list[_Layer]:
    if wanted is None:
        return layers
    by_name = {layer.name: layer for layer in layers}
    found = []
    for one in wanted:
        if isinstance(one, str):
            if one not in by_name:
                raise KeyError(f"no layer {one!r}; there is {', '.join(map(repr, list(by_name)[:3]))} ...")
            found.append(by_name[one])
        else:
            found.append(layers[_within(one, len(layers), "layers")])
    if not found:
        raise ValueError("layers must name at least one layer")
    return found


def _numbered(layers: list[_Layer], heads: Sequence[int] | None) -> list[int]:
    """The heads to draw; a layer may have fewer."""
    most = max(layer.heads for layer in layers)
    found = list(range(most)) if heads is None else [_within(h, most, "heads") for h in heads]
    if not found:
        raise ValueError("heads must name at least one head")
    return found


def _within(number: int, size: int, which: str) -> int:
    if not -size <= number < size:
        raise IndexError(f"{which} must be numbers from 0 to {size - 1}; got {number}")
    return number % size


def _cells(ax: Any, layers: int, heads: int) -> int:
    """Rows and columns of a panel that can be told apart in print."""
    from .figures import inches

    return min(CELLS, max(16, int(_SHARP * max(inches(ax.xaxis) / heads, inches(ax.yaxis) / layers))))


def _panels(layers: list[_Layer], heads: list[int], sequence: int, cells: int) -> dict[tuple[int, int], Grid]:
    """(row, column) of the picture -> its matrix; layers may have unlike numbers of heads."""
    found: dict[tuple[int, int], Grid] = {}
    for row, layer in enumerate(layers):
        there = [(column, h) for column, h in enumerate(heads) if h < layer.heads]
        lead = () if len(layer.weights.shape) == 3 else (sequence % layer.weights.shape[0],)
        grids = matrices(layer.weights, [(*lead, h) for _, h in there], layer.rows, layer.columns, cells)
        found |= {(row, column): grid for (column, _), grid in zip(there, grids, strict=True)}
    return found


def _fill(ax: Any, panels: dict[tuple[int, int], Grid], top: float, cmap: Any) -> Any:
    """Every matrix as an image in its place, with a thin frame."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    frames = []
    half = 0.5 - _GAP
    for (row, column), grid in panels.items():
        image = paint(ax, grid, (column - half, column + half, row + half, row - half), top, cmap)
        frames.append(Rectangle((column - half, row - half), 2 * half, 2 * half))
    ax.add_collection(PatchCollection(frames, facecolor="none", edgecolor=_MARGIN, linewidth=0.4), autolim=False)
    return image


def _label(ax: Any, layers: list[str], heads: list[str], note: str) -> None:
    from .figures import name_ticks

    ax.set(xlim=(-0.5, len(heads) - 0.5), ylim=(len(layers) - 0.5, -0.5))
    ax.spines[:].set_visible(False)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_tick_params(labelsize=POINTS, length=0, pad=1.5)
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    name_ticks(ax.xaxis, heads, wide(heads) + LINE / 3)
    name_ticks(ax.yaxis, layers, LINE)
    ax.set_xlabel(with_note("head", note), fontsize=POINTS, labelpad=2)
    ax.set_ylabel("layer", fontsize=POINTS, labelpad=2)


def _sheet(layers: list[str], heads: int, width: float, titled: bool, bar: bool) -> tuple[Any, Any]:
    """New axes in a figure with room for labels, panels square unless there are too many of them above each other."""
    left = EDGE + wide(layers) + TICK + LINE
    right = EDGE + (bar_room() if bar else 0)
    across = width - left - right
    if across < 0.5:
        raise ValueError(f"width must leave half an inch beside the labels: {left + right + 0.5:.1f} or more here")
    high = min(len(layers) * across / heads, 2.2 * across)
    above = EDGE + 2 * LINE + TICK + (1.6 * LINE if titled else 0)
    below = LINE / 2  # the lowest number of the colour bar hangs over
    whole = above + high + below
    figure = paper(width, whole)
    ax = figure.add_axes((left / width, below / whole, across / width, high / whole))
    if not bar:
        return ax, None
    tall = min(high, 1.5)
    at = ((width - right + BAR[0]) / width, (below + (high - tall) / 2) / whole, BAR[1] / width, tall / whole)
    return ax, figure.add_axes(at)
