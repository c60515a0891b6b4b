"""What we add to matplotlib's own classes.

The only module here that imports matplotlib at its top; it is itself imported inside functions, after `need`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from os import PathLike, fspath
from pathlib import PurePath
from typing import Any

from matplotlib import rc_context, rcParams
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator

from .style import OUTPUT

__all__ = ["PaperFigure", "TokenLocator", "count_ticks", "inches", "name_ticks"]

_UNDATED: dict[str, dict[str, None]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
}


class PaperFigure(Figure):
    """A figure whose files keep text as text and hold no date: the same picture gives the same bytes."""

    def savefig(self, fname: Any, **options: Any) -> None:
        """As `Figure.savefig`."""
        with rc_context(OUTPUT):
            kind = options.get("format") or _kind(fname)
            if kind in _UNDATED:
                options.setdefault("metadata", _UNDATED[kind])
            super().savefig(fname, **options)

    def _repr_svg_(self) -> str:
        """How a notebook shows the figure."""
        file = BytesIO()
        self.savefig(file, format="svg")
        return file.getvalue().decode()


def _kind(fname: Any) -> str:
    suffix = PurePath(fspath(fname)).suffix if isinstance(fname, str | PathLike) else ""
    return suffix[1:].lower() or str(rcParams["savefig.format"])


class TokenLocator(Locator):
    """Ticks at the whole numbers 0 .. count - 1, or as many of them as have room, the first and the last among them.

    Room is looked for whenever the axes are drawn, so labels do not touch at any size.

    Args:
        apart: inches that two labels must be apart.
    """

    def __init__(self, count: int, apart: float) -> None:
        self.count, self.apart = count, apart

    def __call__(self) -> list[int]:
        axis: Any = self.axis
        low, high = sorted(axis.get_view_interval())
        return self.tick_values(float(low), float(high))

    def tick_values(self, vmin: float, vmax: float) -> list[int]:
        first, last = max(0, math.ceil(vmin)), min(self.count - 1, math.floor(vmax))
        pitch = inches(self.axis) / (vmax - vmin)
        step = max(1, math.ceil(self.apart / pitch - 1e-9)) if pitch > 0 else self.count
        places = list(range(first, last + 1, step))
        if len(places) > 1:
            places[-1] = last
        return places


def inches(axis: Any) -> float:
    """How long an axis is on the page."""
    box = axis.axes.bbox
    length: float = box.width if axis.axis_name == "x" else box.height
    return length / float(axis.axes.figure.dpi)


def name_ticks(axis: Any, names: Sequence[str], apart: float) -> None:
    """Label the whole numbers of an axis with names, where there is room."""
    axis.set_major_locator(TokenLocator(len(names), apart))
    literal = [name.replace("$", r"\$") for name in names]  # a dollar sign would start a formula
    axis.set_major_formatter(FuncFormatter(lambda x, _: literal[round(x)] if 0 <= round(x) < len(literal) else ""))


def count_ticks(axis: Any) -> None:
    """Label a few round numbers of an axis."""
    axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
