"""Which patches of a picture are read: weights as colour over the picture, a panel for each word or head.

Axes: P panels, N tokens, r and c: rows and columns of patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..views.pictures import Picture
from .given import Floats, numbers
from .matrix import BAR, EDGE, bar_room, show_bar
from .style import COLOURS, COLUMN, LINE, POINTS, drawing, paper
from .tokens import named

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["patches"]

_GAP = 0.05  # inches between panels
_PALE = 0.5  # of the way to white that the picture behind the colour goes
_GREY = (0.299, 0.587, 0.114)  # of red, green and blue
_NONE = "#dedede"  # of the bar, where the weight is 0
_STRONGEST = 0.9  # opacity of the largest weight


def patches(
    picture: Picture,
    weights: Any,
    names: Sequence[str] | None = None,
    *,
    original: bool = False,
    columns: int | None = None,
    ax: Axes | None = None,
    width: float = COLUMN,
    title: str | None = None,
    vmax: float | None = None,
    alike: bool = True,
    colour: str = COLOURS[1],
    bar: bool = True,
) -> Figure | Axes:
    """Weights over the patches of a picture: the picture in pale grey, one colour the more opaque the more is read.

    Weights of tokens without a place ("[CLS]", registers) are not drawn.

    Args:
        picture: what a model saw, as `fv.vision.pictures` gives it.
        weights: (N,) for one panel or (P, N) for several: over all tokens, such as `seen[name][0, :, 0]` (what each
            head's first token reads) or a row of `fv.faithful.rollout`, or over the patches alone.
        names: what each of the P panels is called, such as words or heads.
        original: begin with a panel of the picture as it is.
        columns: how many panels lie beside each other; default: up to 4, or 3 where that leaves no gap.
        ax: draw here, one panel; default: a new figure.
        width: inches, of the new figure.
        title: written above.
        vmax: the weight of the strongest colour; default: the largest one, rounded up to two digits.
        alike: the same colours in all panels, to compare them; else each goes up to its own largest weight.
        colour: of what is read.
        bar: draw the colour bar.

    Returns:
        The figure, or `ax` if it was given.

    Raises:
        TypeError: weights are no numbers.
        ValueError: they are not one for each token or patch, names not one for each panel, `ax` is given for several
            panels, `vmax` for panels that are not alike, or the figure is too narrow.
        MissingExtraError: matplotlib is not installed.
    """
    grids = _grids(picture, weights)
    labels, panels = named(names, len(grids), "names"), len(grids) + original
    _check(panels, ax, columns, vmax, alike)
    with drawing():
        room = labels is not None, title is not None, bar
        axes, bar_ax = _sheet(ax, picture, panels, columns, width, *room)
        if original:
            _show(axes[0], picture.pixels, None if labels is None else "picture")
        top = _rounded(grids) if vmax is None else vmax
        for n, grid in enumerate(grids):
            share = grid / (top if alike else _rounded(grid))
            _overlay(axes[n + original], picture, share, colour, None if labels is None else labels[n])
        if title is not None:
            _entitle(axes, title, ax is None)
        if bar:
            _show_bar(axes[-1], bar_ax, top, colour, alike)
    return axes[0].figure if ax is None else axes[0]


def _check(panels: int, ax: Any, columns: int | None, vmax: float | None, alike: bool) -> None:
    if ax is not None and panels > 1:
        raise ValueError(f"ax holds one panel, and there are {panels}; leave it out, or give the weights one by one")
    if columns is not None and columns < 1:
        raise ValueError(f"columns must be 1 or more; got {columns}")
    if vmax is not None and not (alike and vmax > 0):
        raise ValueError(f"vmax is above 0, and the same for all panels (alike=True); got {vmax}, alike={alike}")


def _rounded(grid: Floats) -> float:
    """The largest weight, up to two digits; 1 if all are 0.

    >>> import numpy as np
    >>> [_rounded(np.array([w])) for w in (0.0, 1.0, 0.0321, 0.13)]
    [1.0, 1.0, 0.033, 0.13]
    """
    largest = float(np.nanmax(grid, initial=0))
    if largest <= 0:
        return 1.0
    unit = 10.0 ** (math.floor(math.log10(largest)) - 1)
    return float(f"{math.ceil(round(largest / unit, 6)) * unit:.2g}")


def _grids(picture: Picture, weights: Any) -> Floats:
    """(P, r, c)"""
    found = numbers(weights)
    if found.ndim not in (1, 2) or not found.size:
        raise ValueError(
            f"weights must be (tokens,), or (panels, tokens) for several panels; got shape {found.shape}: choose a "
            "row, as in weights[0, :, 0]"
        )
    found = found.reshape(-1, found.shape[-1])
    if found.shape[1] != picture.parts:
        if found.shape[1] < picture.first + picture.parts:
            raise ValueError(
                f"weights must be one for each of {picture.parts} patches, or for each token, {picture.first} before "
                f"the patches and these; got {found.shape[1]}"
            )
        found = found[:, picture.first : picture.first + picture.parts]
    return found.reshape(-1, picture.rows, picture.columns)


def _overlay(ax: Any, picture: Picture, share: Floats, colour: str, name: str | None) -> None:
    """One panel; weights as shares (r, c) of the largest."""
    from matplotlib.colors import to_rgb

    grey = (picture.pixels @ np.asarray(_GREY)) / 255
    _show(ax, np.repeat((grey + (1 - grey) * _PALE)[..., None], 3, -1), name)
    opacity = np.nan_to_num(np.clip(share, 0, 1)) * _STRONGEST
    cells = np.concatenate([np.broadcast_to(to_rgb(colour), (*share.shape, 3)), opacity[..., None]], -1)
    high, across = picture.pixels.shape[:2]
    ax.imshow(cells, extent=(0, across, high, 0), interpolation="nearest")


def _show_bar(ax: Any, bar_ax: Any, top: float, colour: str, alike: bool) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    colours = LinearSegmentedColormap.from_list("weight", [_NONE, colour])
    show_bar(ax, bar_ax, ScalarMappable(Normalize(0, top), colours), top)
    if not alike:
        (bar_ax or ax.figure.axes[-1]).set_yticks([0, top], ["0", "max"])


def _show(ax: Any, pixels: Any, name: str | None) -> None:
    high, across = pixels.shape[:2]
    ax.imshow(pixels, extent=(0, across, high, 0), interpolation="antialiased")
    ax.set(xlim=(0, across), ylim=(high, 0), xticks=[], yticks=[])
    if name is not None:
        ax.set_title(name.replace("$", r"\$"), fontsize=POINTS, pad=2)


def _entitle(axes: Sequence[Any], title: str, new: bool) -> None:
    figure = axes[0].figure
    if not new:
        axes[0].set_title(title, fontsize=POINTS + 1, pad=4)
        return
    figure.text(0.5, 1 - EDGE / figure.get_figheight(), title, fontsize=POINTS + 1, ha="center", va="top")


def _sheet(
    ax: Any, picture: Picture, panels: int, columns: int | None, width: float, labelled: bool, titled: bool, bar: bool
) -> tuple[list[Any], Any]:
    """Axes for the panels, row by row, in a new figure, and axes for the colour bar; or the axes that were given."""
    if ax is not None:
        return [ax], None
    across = min(panels, columns or _even(panels))
    down = math.ceil(panels / across)
    right = EDGE + (bar_room() if bar else 0)
    side = (width - EDGE - right - (across - 1) * _GAP) / across
    if side < 0.3:
        raise ValueError(
            f"{across} panels need {EDGE + right + across * (0.3 + _GAP):.1f} inches; the figure has {width}"
        )
    high = side * picture.pixels.shape[0] / picture.pixels.shape[1]
    label = 1.3 * LINE if labelled else 0.0
    above = EDGE + (1.6 * LINE if titled else 0.0 if labelled or not bar else LINE / 2)
    whole = above + down * (high + label) + (down - 1) * _GAP + LINE / 2
    figure = paper(width, whole)
    axes = []
    for n in range(panels):
        row, column = divmod(n, across)
        left, top = EDGE + column * (side + _GAP), above + row * (high + label + _GAP) + label
        axes.append(figure.add_axes((left / width, 1 - (top + high) / whole, side / width, high / whole)))
    if not bar:
        return axes, None
    tall = min(high, 1.5)
    box = ((width - right + BAR[0]) / width, 1 - (above + label + tall) / whole, BAR[1] / width, tall / whole)
    return axes, figure.add_axes(box)


def _even(panels: int) -> int:
    """Up to 4 beside each other; of more the most of 4, 3 that leave no gap, or 4."""
    return next((n for n in (4, 3) if panels % n == 0), 4) if panels > 4 else panels
