"""Lines of standard input or a file in groups: many at once where many are there, each at once where somebody types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from foveate.lines import MAX_BYTES, Malformed, check_beginning, decoded, explained

__all__ = ["Unreadable", "groups"]

CHUNK = 1 << 16


class Arriving(Protocol):
    """A buffered binary file."""

    def read1(self, size: int, /) -> bytes:
        """What has arrived, at most `size` bytes; waits for the first of them, and is empty at the end."""


@dataclass(frozen=True)
class Unreadable:
    """A line that is no text, and why."""

    why: str


def groups(stream: Arriving, most: int, *, path: str = "-", full: bool = False) -> Iterator[list[str | Unreadable]]:
    """Lines without white space at their ends, at most `most` in a group: all that have arrived when it is asked for.

    Args:
        path: where they come from.
        full: wait until there are `most`, or the end: so groups do not depend on how fast lines come.

    Raises:
        Malformed: the whole is no text: UTF-16, or packed and broken.
    """
    lines: list[str | Unreadable] = []
    for arrived in _arriving(stream, path):
        lines += arrived
        while len(lines) >= most or (lines and not full):
            yield lines[:most]
            del lines[:most]
    if lines:
        yield lines


def _arriving(stream: Arriving, path: str) -> Iterator[Iterable[str | Unreadable]]:
    rest, first = b"", 1
    while True:
        with explained(path):
            chunk = stream.read1(CHUNK)
        *whole, rest = (rest + chunk).split(b"\n")
        rest = rest[: MAX_BYTES + 1]
        if not chunk:
            whole, rest = [rest] if rest else [], b""
        if whole and first == 1:
            check_beginning(path, whole[0])
        if whole:
            yield [_text(line, number) for number, line in enumerate(whole, first)]
        if not chunk:
            return
        first += len(whole)


def _text(line: bytes, number: int) -> str | Unreadable:
    try:
        return decoded(line, "", number).strip()
    except Malformed as error:
        return Unreadable(error.message)
