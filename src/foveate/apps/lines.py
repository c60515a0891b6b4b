"""Lines of standard input or a file in groups: many at once where many are there, each at once where somebody types."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from foveate.apps.errors import UserError
from foveate.tasks.corpus import NOT_UTF8, UTF16

__all__ = ["groups", "opened"]

CHUNK = 1 << 16
MOST_BYTES = 1 << 20  # of a line; the rest of a longer one is dropped


class Arriving(Protocol):
    """A buffered binary file."""

    def read1(self, size: int, /) -> bytes:
        """What has arrived, at most `size` bytes; waits for the first of them, and is empty at the end."""


@contextmanager
def opened(path: str) -> Iterator[Arriving]:
    """A file; standard input for "-".

    Raises:
        UserError: it cannot be read.
    """
    if path == "-":
        stdin = sys.stdin
        yield stdin.buffer if isinstance(stdin, io.TextIOWrapper) else io.BytesIO(stdin.read().encode())
        return
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from None
        yield file


def groups(stream: Arriving, most: int, *, full: bool = False) -> Iterator[list[str]]:
    """Lines without white space at their ends, at most `most` in a group: all that have arrived when it is asked for.

    Bytes that are no UTF-8 read U+FFFD.

    Args:
        full: wait until there are `most`, or the end: so groups do not depend on how fast lines come.

    Raises:
        UserError: the text is UTF-16.
    """
    lines: list[str] = []
    for arrived in _arriving(stream):
        lines += arrived
        while len(lines) >= most or (lines and not full):
            yield lines[:most]
            del lines[:most]
    if lines:
        yield lines


def _arriving(stream: Arriving) -> Iterator[Iterable[str]]:
    rest, start = b"", True
    while chunk := stream.read1(CHUNK):
        *whole, rest = (rest + chunk).split(b"\n")
        rest = rest[:MOST_BYTES]
        if whole:
            yield _texts(whole, start)
            start = False
    if rest:
        yield _texts([rest], start)


def _texts(lines: list[bytes], start: bool) -> list[str]:
    if start and lines[0].startswith(UTF16):
        raise UserError(NOT_UTF8)
    texts = [line[:MOST_BYTES].decode("utf-8", "replace") for line in lines]
    if start:
        texts[0] = texts[0].removeprefix("\ufeff")
    return [text.strip() for text in texts]
