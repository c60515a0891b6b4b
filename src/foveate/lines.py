"""Lines of text files, `.gz` or not, and what is said where one breaks a rule: the file, the line and the rule.

A file is read line by line, and never much more of a line than is allowed.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from .errors import UserError

__all__ = [
    "MAX_BYTES",
    "Malformed",
    "check_beginning",
    "decoded",
    "explained",
    "lines_in",
    "lines_of",
    "name_of",
    "opened",
    "report",
]

MAX_BYTES = 1 << 20  # of a line, where nobody allows more


class Malformed(UserError):  # noqa: N818  # an adjective says it
    """Text that breaks a rule; the error names the file, the line and the rule, and `message` only the rule."""

    def __init__(self, place: str, message: str, rule: str = "") -> None:
        super().__init__(f"{place}: {message}")
        self.place, self.message = place, message
        self.rule = rule  # in a few words; empty if it is of a whole file, which cannot be skipped


def name_of(path: str | Path) -> str:
    """What a file is called where something is said of it."""
    return "standard input" if str(path) == "-" else Path(path).name or str(path)


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Around what reads a file.

    Raises:
        Malformed: in the place of errors of the system, or of what unpacks it.
    """
    name = name_of(path)
    try:
        yield
    except FileNotFoundError:
        raise Malformed(name, f"there is no file {path}") from None
    except EOFError:
        raise Malformed(name, "the file is cut off in the middle; copy it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise Malformed(name, f"the file is broken, or not packed by gzip ({error})") from None
    except OSError as error:
        raise Malformed(name, f"the file cannot be read: {error.strerror or error}") from None


@contextmanager
def opened(path: str | Path) -> Iterator[tuple[io.BufferedIOBase, BinaryIO]]:
    """A file, unpacked where its name ends in .gz, and the same as it is on the disk; standard input for "-".

    Raises:
        Malformed: it cannot be opened.
    """
    if str(path) == "-":
        stdin = sys.stdin
        stream = stdin.buffer if isinstance(stdin, io.TextIOWrapper) else io.BytesIO(stdin.read().encode())
        yield cast(io.BufferedIOBase, stream), cast(BinaryIO, stream)
        return
    with ExitStack() as stack:
        with explained(path):
            plain = stack.enter_context(Path(path).open("rb"))
        yield gzip.GzipFile(fileobj=plain) if str(path).endswith(".gz") else plain, plain


def lines_of(path: str | Path, most: int = MAX_BYTES) -> Iterator[bytes]:
    """The lines of a file without their ends; see `lines_in`.

    Raises:
        Malformed: the file cannot be read, is empty, cut off, or obviously something else.
    """
    with opened(path) as (file, _):
        for line in lines_in(file, path, most):
            yield line.rstrip(b"\r\n")


def lines_in(file: io.BufferedIOBase, path: str | Path, most: int = MAX_BYTES) -> Iterator[bytes]:
    """The lines of an open file; of one of more than `most` bytes only one byte more than that, and no end.

    Raises:
        Malformed: as `lines_of`.
    """
    with explained(path):
        line = file.readline(most + 1)
        if not line:
            raise Malformed(name_of(path), "the file is empty")
        check_beginning(path, line)
        while line:
            yield line
            while len(line) == most + 1 and not line.endswith(b"\n"):
                line = file.readline(most + 1)
            line = file.readline(most + 1)


def check_beginning(path: str | Path, start: bytes) -> None:
    """Whether a file may be text, by its first bytes.

    Raises:
        Malformed: it is in another encoding, or packed.
    """
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Malformed(name_of(path), "expected UTF-8 text; this is UTF-16. Save it as UTF-8")
    if start.startswith(b"\x1f\x8b"):
        raise Malformed(name_of(path), "expected UTF-8 text; this is packed by gzip. Let its name end in .gz")


def decoded(line: bytes, place: str, number: int, most: int = MAX_BYTES, what: str = "line") -> str:
    """The text of line `number` of a file; of the first without a byte-order mark.

    Raises:
        Malformed: it has more than `most` bytes, is no UTF-8, or has a zero byte; `what` says what was read.
    """
    if len(line) > most:
        raise Malformed(place, f"a {what} may have {most:,} bytes; got more", f"more than {most:,} bytes")
    if b"\0" in line:
        raise Malformed(place, f"expected text; byte {line.index(0) + 1} of the {what} is 0x00", "zero byte")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"expected UTF-8 text; byte {error.start + 1} of the {what} is 0x{line[error.start]:02X}"
        raise Malformed(place, message, "bad UTF-8") from None
    return text.removeprefix("\ufeff") if number == 1 else text


def report(skipped: Counter[str], total: int, unit: str, first: str) -> str:
    """One line, such as `skipped 3 of 1,000 lines: 2 x empty side, 1 x bad UTF-8 (first: train.tsv:17)`."""
    rules = ", ".join(f"{count:,} x {rule}" for rule, count in skipped.most_common())
    return f"skipped {skipped.total():,} of {total:,} {unit}: {rules} (first: {first})"
