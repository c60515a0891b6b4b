"""Tokens as they are drawn: white space made visible, long ones shortened."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from ..pieces import decoded, is_byte_level, written

__all__ = ["named", "shortened", "visible"]

LONGEST = 14  # characters of a token that are drawn
_SHOWN = {" ": "␣", "\xa0": "␣", "\n": "⏎", "\t": "⇥"}


def named(given: Any, size: int, which: str, *, pieces: bool = True) -> list[str] | None:
    """The names of one axis, ready to be drawn; None for none.

    Args:
        given: a sequence of `size` names, or None.
        which: what the axis is called in errors, such as "rows".
        pieces: they may be the pieces of a tokenizer, whose marks for white space are then shown as white space is.

    Raises:
        ValueError: they are one string, or not one name for each entry.
    """
    if given is None:
        return None
    if isinstance(given, str):
        raise ValueError(f"{which} must be a list of {size} names; got one string")
    names = [str(name) for name in given]
    if len(names) != size:
        raise ValueError(f"{which} must name each of the {size} {which} of weights; got {len(names)}")
    return [shortened(name) for name in visible(names, pieces=pieces)]


def visible(tokens: Sequence[str], *, pieces: bool = True) -> list[str]:
    """Tokens with what cannot be seen written out.

    >>> visible([" a", "\\n", "New York", ""]), visible(["Ġcaf", "Ã©"]), visible(["▁the"])
    (['␣a', '⏎', 'New York', '∅'], ['␣caf', 'é'], ['␣the'])
    """
    if pieces and is_byte_level(tokens):
        tokens = decoded(written(token, byte_level=True) for token in tokens)
    return [_visible(token, pieces) for token in tokens]


def _visible(token: str, piece: bool) -> str:
    if piece and token.startswith("▁"):
        token = " " + token[1:]
    start = len(token) - len(token.lstrip())
    stop = len(token.rstrip())
    shown = [c if c == " " and start <= i < stop else _character(c) for i, c in enumerate(token)]
    return "".join(shown) or "∅"


def _character(c: str) -> str:
    if c in _SHOWN:
        return _SHOWN[c]
    return c if c.isprintable() else f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}"


def shortened(text: str, most: int = LONGEST) -> str:
    """The text, or its beginning and an ellipsis; letters of East Asia count twice, as they are twice as wide.

    >>> shortened("internationalisation"), shortened("international")
    ('internationa…', 'international')
    """
    widths = [2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text]
    if sum(widths) <= most:
        return text
    kept = 0
    while sum(widths[: kept + 1]) <= most - 1:
        kept += 1
    return text[:kept].rstrip() + "…"
