"""What all pictures share: sizes, colours, and matplotlib's settings while one is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extras import need

if TYPE_CHECKING:
    from .figures import PaperFigure

__all__ = ["COLOURS", "COLUMN", "LINE", "MARKERS", "OUTPUT", "POINTS", "both", "drawing", "paper", "wide"]

COLUMN = 3.3  # inches, a column of a paper
POINTS = 7.0  # of text; titles are a point larger
LINE = 1.1 * POINTS / 72  # inches from one line of text to the next, so that they do not touch
DOTS = 300  # per inch

# Okabe and Ito's colours, which can be told apart by the colour-blind, and markers for those who see none.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

# Settings that matplotlib reads when a file is written.
OUTPUT: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "foveate",
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
}
_STYLE: Any = {**OUTPUT, "axes.grid": False, "text.usetex": False}
_SIZES = ("font.size", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize")


@contextmanager
def drawing(points: float = POINTS, *, open_axes: bool = False, extra: str = "plot") -> Iterator[None]:
    """Inside, matplotlib has our settings; outside, those that it had before. The font is the user's own.

    Args:
        points: of text; titles are a point larger.
        open_axes: leave out the lines above and right of the axes.

    Raises:
        MissingExtraError: matplotlib is not installed; `extra` of foveate brings it.
    """
    matplotlib = need("matplotlib", extra)
    settings = {**_STYLE, **dict.fromkeys(_SIZES, points), "axes.titlesize": points + 1}
    settings |= {f"axes.spines.{side}": not open_axes for side in ("top", "right")}
    settings |= {"axes.linewidth": 0.8 if open_axes else 0.5}
    with matplotlib.rc_context(settings):
        yield


def paper(width: float, height: float, *, dpi: float = DOTS, layout: Any = "none") -> PaperFigure:
    """An empty figure of so many inches that `pyplot` does not know of. Only inside `drawing`."""
    from .figures import PaperFigure

    return PaperFigure(figsize=(width, height), dpi=dpi, layout=layout)


def both(figure: PaperFigure, path: Path) -> list[Path]:
    """Write a figure as PNG and as SVG."""
    paths = [path.with_suffix(".png"), path.with_suffix(".svg")]
    for one in paths:
        figure.savefig(one)
    return paths


def wide(texts: Sequence[str], points: float = POINTS) -> float:
    """How many inches the widest of some texts takes. Only inside `drawing`."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=points)
    longest = sorted(set(texts), key=len)[-64:]
    sizes = [text_to_path.get_text_width_height_descent(text, font, False)[0] for text in longest]
    return max(sizes, default=0.0) / 72
