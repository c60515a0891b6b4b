"""Lines of standard input or a file in groups: many at once where many are there, each at once where somebody types."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol, cast

from foveate.apps.errors import UserError
from foveate.tasks.rows import NOT_UTF8, UTF16

__all__ = ["Unreadable", "groups", "opened"]

CHUNK = 1 << 16
MOST_BYTES = 1 << 20  # of a line


class Arriving(Protocol):
    """A buffered binary file."""

    def read1(self, size: int, /) -> bytes:
        """What has arrived, at most `size` bytes; waits for the first of them, and is empty at the end."""


@dataclass(frozen=True)
class Unreadable:
    """A line that is no text, and why."""

    why: str


@contextmanager
def opened(path: str) -> Iterator[Arriving]:
    """A file, unpacked if its name ends in .gz; standard input for "-".

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
        yield cast(Arriving, gzip.GzipFile(fileobj=file)) if path.endswith(".gz") else file


def groups(stream: Arriving, most: int, *, full: bool = False) -> Iterator[list[str | Unreadable]]:
    """Lines without white space at their ends, at most `most` in a group: all that have arrived when it is asked for.

    Args:
        full: wait until there are `most`, or the end: so groups do not depend on how fast lines come.

    Raises:
        UserError: the whole is no text: UTF-16, or packed and broken.
    """
    lines: list[str | Unreadable] = []
    for arrived in _arriving(stream):
        lines += arrived
        while len(lines) >= most or (lines and not full):
            yield lines[:most]
            del lines[:most]
    if lines:
        yield lines


def _arriving(stream: Arriving) -> Iterator[Iterable[str | Unreadable]]:
    rest, start = b"", True
    while chunk := _read(stream):
        *whole, rest = (rest + chunk).split(b"\n")
        rest = rest[: MOST_BYTES + 1]
        if whole:
            yield _texts(whole, start)
            start = False
    if rest:
        yield _texts([rest], start)


def _read(stream: Arriving) -> bytes:
    try:
        return stream.read1(CHUNK)
    except EOFError:
        raise UserError("the file is cut off in the middle; copy it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"the file is broken, or not packed by gzip ({error})") from None
    except OSError as error:
        raise UserError(f"cannot read on: {error.strerror or error}") from None


def _texts(lines: list[bytes], start: bool) -> list[str | Unreadable]:
    if start and lines[0].startswith(UTF16):
        raise UserError(NOT_UTF8)
    if start and lines[0].startswith(b"\x1f\x8b"):
        raise UserError("expected UTF-8 text; this is packed by gzip. Let its name end in .gz")
    texts = [_text(line) for line in lines]
    if start and isinstance(texts[0], str):
        texts[0] = texts[0].removeprefix("\ufeff").strip()
    return texts


def _text(line: bytes) -> str | Unreadable:
    if len(line) > MOST_BYTES:
        return Unreadable(f"a line may have {MOST_BYTES:,} bytes; got more")
    if b"\0" in line:
        return Unreadable(f"expected text; byte {line.index(0) + 1} of the line is 0x00")
    try:
        return line.decode().strip()
    except UnicodeDecodeError as error:
        return Unreadable(f"expected UTF-8 text; byte {error.start + 1} of the line is 0x{line[error.start]:02X}")
