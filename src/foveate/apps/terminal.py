"""A heatmap in the terminal: words by words, shaded cells with the weight in percent, 80 columns wide at most."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

WIDTH = 80
_NAME = 24  # columns for the name beside a bar, at most
_LABEL = 12  # columns for the name of a row, at most
_WIDEST, _NARROWEST = 9, 4  # columns of a cell
_LISTED = 0.05  # a weight for which a word is listed beside a part of the source
_SHADES = " ░▒▓█"
_PLAIN_SHADES = " .:*#"
_FLOOR = (255, 255, 255), (8, 64, 129)


def heatmap(
    rows: Sequence[str], columns: Sequence[str], weights: Sequence[Sequence[float]], *, file: TextIO | None = None
) -> None:
    """Print weights (rows, columns), one line for each row; columns that do not fit are left out, which is said."""
    file = file or sys.stdout
    label = _label(rows)
    room = WIDTH - label - 1
    cell = max(_NARROWEST, min(_WIDEST, room // max(1, len(columns)), max(map(_width, columns), default=1) + 1))
    shown = min(len(columns), room // cell)
    _print(rows, columns[:shown], [line[:shown] for line in weights], [cell] * shown, label, file)
    if shown < len(columns):
        print(f"({len(columns) - shown} more words do not fit here; the page shows all)", file=file)


def alignment(
    source_words: Sequence[str],
    words: Sequence[str],
    weights: Tensor | Sequence[Sequence[float]],
    *,
    file: TextIO | None = None,
) -> None:
    """Print how much each word of a translation (rows) read of each source word (columns), in percent.

    Source words that do not fit into the width go on below, beside those words that read them.

    Args:
        weights: (words, source words), what `Translation.word_weights` is.
    """
    file = file or sys.stdout
    lines = weights.tolist() if isinstance(weights, Tensor) else weights
    label = _label(words)
    widths = [max(_NARROWEST, min(_WIDEST, _width(name) + 1)) for name in source_words]
    best = [max(range(len(line)), key=line.__getitem__, default=0) for line in lines]
    for number, (first, stop) in enumerate(_bands(widths, WIDTH - label - 1)):
        part = [line[first:stop] for line in lines]
        kept = [i for i, line in enumerate(part) if first <= best[i] < stop or max(line, default=1.0) >= _LISTED]
        if number:
            print(file=file)
        names, cells = [words[i] for i in kept], [part[i] for i in kept]
        _print(names, source_words[first:stop], cells, widths[first:stop], label, file)


def bars(entries: Sequence[tuple[str, float]], *, file: TextIO | None = None) -> None:
    """Print names with their weights in percent, and a bar for each, one line each."""
    file = file or sys.stdout
    console, block = _colours(file), "█" if _can_write(file, "█") else "#"
    wide = min(_NAME, max((_width(name) for name, _ in entries), default=1))
    for name, weight in entries:
        known = min(max(weight, 0.0), 1.0) if weight == weight else 0.0
        start, bar = f"  {_fit(name, wide, wide)} {100 * known:5.1f} ", block * round(known * (WIDTH - wide - 9))
        if console is None:
            print((start + bar).rstrip(), file=file)
        else:
            from rich.text import Text

            console.print(Text(start).append(bar, style="rgb({},{},{})".format(*_FLOOR[1])))


def listed(pairs: Sequence[tuple[str, str]], *, file: TextIO | None = None) -> None:
    """Print two columns, a pair a line."""
    pairs = [(printable(name), printable(told)) for name, told in pairs]
    wide = max((_width(name) for name, _ in pairs), default=0)
    for name, told in pairs:
        print(name + " " * (wide - _width(name)), told, sep="  ", file=file or sys.stdout)


def printable(text: str) -> str:
    """A text in one line, without characters that tell a terminal something."""
    return "".join(character if character.isprintable() else "?" for character in text)


def highlighted(words: Sequence[str], weights: Sequence[float], *, file: TextIO | None = None) -> None:
    """Print a text, each word the darker the larger its weight, the largest darkest; without colours with a bar below.

    Lines end at 80 columns.
    """
    file = file or sys.stdout
    console, most = _colours(file), max([w for w in weights if w == w], default=0.0) or 1.0
    shown = [_fit(word, WIDTH, 0) for word in words]
    shares = [min(max(weight / most, 0.0), 1.0) if weight == weight else 0.0 for weight in weights]
    for first, stop in _bands([_width(word) + 1 for word in shown], WIDTH):
        line = list(zip(shown[first:stop], shares[first:stop], strict=True))
        if console is not None:
            from rich.text import Text

            text = Text()
            for word, share in line:
                text.append(word, style=_paint(share)).append(" ")
            console.print(text)
            continue
        shades = _SHADES if _can_write(file, _SHADES) else _PLAIN_SHADES
        print(" ".join(word for word, _ in line), file=file)
        below = " ".join(shades[round(share * (len(shades) - 1))] * _width(word) for word, share in line)
        if below.strip():
            print(below.rstrip(), file=file)


def picture(pixels: NDArray[np.uint8], weights: Sequence[Sequence[float]], *, file: TextIO | None = None) -> None:
    """Print a picture, a cell for each part, and the weight of each in percent; without colours the weights alone.

    Args:
        pixels: (rows, columns, 3), the colour of each part.
        weights: (rows, columns).
    """
    file = file or sys.stdout
    console, best = _colours(file), max(map(max, weights))
    for colours, line in zip(pixels.tolist(), weights, strict=True):
        if console is None:
            print("".join((_percent(weight) or ".").rjust(_NARROWEST) for weight in line), file=file)
            continue
        from rich.text import Text

        text = Text()
        for (red, green, blue), weight in zip(colours, line, strict=True):
            ink = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 128 else "white"
            shown = f"[{_percent(weight):>2}]" if weight == best else _percent(weight).center(_NARROWEST)
            text.append(shown, style=f"{ink} on rgb({red},{green},{blue})")
        console.print(text)


def _bands(widths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Columns (first, one past the last) that fit beside each other, from left to right."""
    found, first, used = [], 0, 0
    for i, width in enumerate(widths):
        if used + width > room:
            found.append((first, i))
            first, used = i, 0
        used += width
    return [*found, (first, len(widths))]


def _print(
    rows: Sequence[str],
    columns: Sequence[str],
    weights: Sequence[Sequence[float]],
    widths: Sequence[int],
    label: int,
    file: TextIO,
) -> None:
    console = _colours(file)
    shades = _SHADES if _can_write(file, _SHADES) else _PLAIN_SHADES
    header = "".join(_fit(name, width - 1, width) for name, width in zip(columns, widths, strict=True))
    print(f"{' ' * (label + 1)}{header}".rstrip(), file=file)
    for name, line in zip(rows, weights, strict=True):
        start = f"{_fit(name, label, label)} "
        if console is not None:
            _print_rich(console, start, line, widths)
        else:
            cells = (_plain_cell(w, width, shades) for w, width in zip(line, widths, strict=True))
            print((start + "".join(cells)).rstrip(), file=file)


def _label(rows: Sequence[str]) -> int:
    return min(_LABEL, max(map(_width, rows), default=1))


def _plain_cell(weight: float, cell: int, shades: str) -> str:
    percent = _percent(weight)
    shade = shades[0] if not percent else shades[min(len(shades) - 1, 1 + int(weight * (len(shades) - 1)))]
    return f"{shade}{percent}".rjust(cell)


def _print_rich(console: Any, start: str, line: Sequence[float], widths: Sequence[int]) -> None:
    from rich.text import Text

    text = Text(start)
    for weight, cell in zip(line, widths, strict=True):
        share = min(max(weight, 0.0), 1.0) ** 0.5 if weight == weight else 0.0
        text.append(_percent(weight).rjust(cell), style=_paint(share))
    console.print(text)


def _paint(share: float) -> str:
    """Ink on a ground that is the darker the larger a share is."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(*_FLOOR, strict=True))
    return f"{'white' if share > 0.55 else 'black'} on rgb({red},{green},{blue})"


def _percent(weight: float) -> str:
    """Whole percent; nothing below half of one."""
    number = round(100 * weight) if weight == weight else 0
    return str(number) if number else ""


def _fit(name: str, most: int, width: int) -> str:
    """A name cut to `most` columns, at the right of `width` of them."""
    name = printable(name)
    while _width(name) > max(1, most):
        name = name[:-1]
    return " " * (width - _width(name)) + name


def _width(name: str) -> int:
    """Columns that a name takes: two for the characters of East Asia, none for marks on other characters."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in name)


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
