"""One head in the terminal: the weights of a short text as a heatmap, and what one word reads and is read by."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from foveate.apps import terminal
from foveate.apps.errors import UserError
from foveate.views.axes import Axis
from foveate.views.document import Call, Direction
from foveate.views.source import Source

__all__ = ["Place", "look"]

SHORT = 24  # words of a text whose weights are all shown
LONG = 8192  # tokens from which on it is not asked who reads a word: that takes a pass over all rows
LINKS, LEAST = 8, 0.0005  # of a word that are listed at most, and their least weight


@dataclass(frozen=True)
class Place:
    """Where to look: number of the layer, of the head, and the word (its number from 0, or itself)."""

    layer: int | None = None
    head: int | None = None
    word: str | None = None


def look(source: Source, place: Place, *, file: TextIO | None = None) -> None:
    """Print what one head of one call does with the first sequence.

    Raises:
        UserError: there is no such layer, head or word; the text says which there are.
    """
    file = file or sys.stdout
    document = source.document()
    call = _call(source, place)
    head = _head(source, call, place)
    rows, columns = source.axes(call.index, 0)
    names = _words(rows), _words(columns)
    if not (names[0] and names[1]):
        raise UserError(f"{call.label} has nothing to show: no query or no key")
    word = _word(source, place, call, names[0])
    if document.message:
        print(document.message, file=file)
    few = " recorded" if call.numbers is not None else ""
    which = f"head {call.number_of(head)} of {call.heads}{few}"
    print(f"{call.label} of {_layers(source)}, {which}: --layer, --head and --token choose", file=file)
    if max(map(len, names)) <= SHORT:
        print(file=file)
        terminal.alignment(names[1], names[0], _all(source, call, head, len(names[0])), file=file)
    print(file=file)
    _links(source, call, head, word, "reads", names, file)
    if max(rows.length, columns.length) <= LONG and call.rows == call.columns:
        print(file=file)
        _links(source, call, head, word, "read_by", names, file)


def _links(
    source: Source,
    call: Call,
    head: int,
    word: int,
    direction: Direction,
    names: tuple[Sequence[str], Sequence[str]],
    file: TextIO,
) -> None:
    """The strongest links of a word, best first."""
    here, there = names if direction == "reads" else names[::-1]
    if word >= len(here):
        return
    indices, weights, rest = source.topk(call.index, 0, word, direction, "word", min(LINKS, len(there)))
    print(f"{here[word]} ({word}) {'reads' if direction == 'reads' else 'is read by'}", file=file)
    found = [(i, w) for i, w in zip(indices[head].tolist(), weights[head].tolist(), strict=True) if w >= LEAST]
    terminal.bars([(f"{there[i]} ({i})", w) for i, w in found], file=file)
    if not found:
        print("  nothing", file=file)
    others = float(weights[head].sum() + rest[head]) - sum(w for _, w in found)
    if direction == "reads" and others >= 0.005:
        print(f"and {others:.0%} from {len(there) - len(found):,} others", file=file)


def _all(source: Source, call: Call, head: int, rows: int) -> list[list[float]]:
    return [source.row(call.index, 0, i, "reads", "word")[head].tolist() for i in range(rows)]


def _words(axis: Axis) -> list[str]:
    """The words of an axis, each of its tokens together."""
    return [
        "".join(axis.tokens.text[axis.offset + a : axis.offset + b]).strip() or "·"
        for a, b in zip(axis.starts, axis.starts[1:], strict=False)
    ] if axis.length else []  # fmt: skip


def _layers(source: Source) -> str:
    count = len({call.name for call in source.document().calls})
    return f"{count} layer{'s' * (count != 1)}"


def _call(source: Source, place: Place) -> Call:
    calls = source.document().calls
    if place.layer is None:
        focus = source.document().focus
        return calls[focus.call if focus is not None else 0]
    firsts = [call for call in calls if call.step == 0]
    if place.layer >= len(firsts):
        raise UserError(f"there is no layer {place.layer}; there are 0 to {len(firsts) - 1}: {_some(firsts)}")
    return firsts[place.layer]


def _some(calls: Sequence[Call]) -> str:
    labels = [call.label for call in calls]
    return ", ".join(labels if len(labels) <= 6 else [*labels[:3], "...", labels[-1]])


def _head(source: Source, call: Call, place: Place) -> int:
    focus = source.document().focus
    if place.head is None:
        return focus.head if focus is not None and focus.head is not None and focus.head < call.heads else 0
    numbers = [call.number_of(head) for head in range(call.heads)]
    if place.head not in numbers:
        there = f"0 to {call.heads - 1}" if call.numbers is None else ", ".join(map(str, numbers))
        raise UserError(f"there is no head {place.head}; {call.label} has heads {there}")
    return numbers.index(place.head)


def _word(source: Source, place: Place, call: Call, names: Sequence[str]) -> int:
    """The number of the word; without one that of the document's focus, or the last that is a word."""
    if place.word is None:
        focus = source.document().focus
        if focus is not None and focus.token is not None and focus.call == call.index and focus.level == "word":
            return min(focus.token, len(names) - 1)
        return next((i for i in reversed(range(len(names))) if any(c.isalnum() for c in names[i])), len(names) - 1)
    if place.word.isdecimal():
        if int(place.word) >= len(names):
            raise UserError(f"there is no word {place.word}; there are 0 to {len(names) - 1}")
        return int(place.word)
    same = [i for i, name in enumerate(names) if name.casefold() == place.word.casefold()]
    if not same:
        raise UserError(
            f"there is no word {place.word!r} in the text; a number from 0 to {len(names) - 1} names one too"
        )
    return same[0]
