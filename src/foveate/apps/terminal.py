"""A heatmap in the terminal: words by words, shaded cells with the weight in percent, 80 columns wide at most."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

WIDTH = 80
_LABEL = 12  # columns for the name of a row, at most
_WIDEST, _NARROWEST = 9, 4  # columns of a cell
_SHADES = " ░▒▓█"
_PLAIN_SHADES = " .:*#"
_FLOOR = (255, 255, 255), (8, 64, 129)


def heatmap(
    rows: Sequence[str], columns: Sequence[str], weights: Sequence[Sequence[float]], *, file: TextIO | None = None
) -> None:
    """Print weights (rows, columns), one line for each row; columns that do not fit are left out, which is said."""
    file = file or sys.stdout
    label = min(_LABEL, max((len(row) for row in rows), default=1))
    room = WIDTH - label - 1
    cell = max(_NARROWEST, min(_WIDEST, room // max(1, len(columns)), max(map(len, columns), default=1) + 1))
    shown = min(len(columns), room // cell)
    header = " " * (label + 1) + "".join(_fit(name, cell - 1).rjust(cell) for name in columns[:shown])
    console = _colours(file)
    shades = _SHADES if _can_write(file, _SHADES) else _PLAIN_SHADES
    print(header.rstrip(), file=file)
    for name, line in zip(rows, weights, strict=True):
        start = f"{_fit(name, label).rjust(label)} "
        if console is not None:
            _print_rich(console, start, line[:shown], cell)
        else:
            print((start + "".join(_plain_cell(w, cell, shades) for w in line[:shown])).rstrip(), file=file)
    if shown < len(columns):
        print(f"({len(columns) - shown} more words do not fit here; the page shows all)", file=file)


def _plain_cell(weight: float, cell: int, shades: str) -> str:
    percent = _percent(weight)
    shade = shades[0] if not percent else shades[min(len(shades) - 1, 1 + int(weight * (len(shades) - 1)))]
    return f"{shade}{percent}".rjust(cell)


def _print_rich(console: Any, start: str, line: Sequence[float], cell: int) -> None:
    from rich.text import Text

    text = Text(start)
    for weight in line:
        share = min(max(weight, 0.0), 1.0) ** 0.5 if weight == weight else 0.0
        low, high = _FLOOR
        red, green, blue = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
        ink = "white" if share > 0.55 else "black"
        text.append(_percent(weight).rjust(cell), style=f"{ink} on rgb({red},{green},{blue})")
    console.print(text)


def _percent(weight: float) -> str:
    """Whole percent; nothing below half of one."""
    number = round(100 * weight) if weight == weight else 0
    return str(number) if number else ""


def _fit(name: str, width: int) -> str:
    name = "".join(character if character.isprintable() else "?" for character in name)
    return name if len(name) <= width else name[: max(1, width)]


def _colours(file: TextIO) -> Any:
    """A rich console if this is a terminal of many colours that may be used, else None."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not file.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    console = Console(file=file, highlight=False, width=2 * WIDTH)
    return console if console.color_system in ("256", "truecolor") else None


def _can_write(file: TextIO, text: str) -> bool:
    encoding: Any = getattr(file, "encoding", None) or "ascii"
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
