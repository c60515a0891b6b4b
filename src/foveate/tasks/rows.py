"""Lines of text files, `.gz` or not, and what is said where one breaks a rule: the file, the line and the rule.

A file is read line by line, and never more of a line than `MAX_BYTES`. Whoever reads rows of a kind of its own raises
`Malformed`, or yields it where bad rows are skipped, and has `Rows.of` count them.
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Generic, Self, TypeVar, cast

__all__ = ["MAX_BYTES", "NOT_UTF8", "UTF16", "Malformed", "Rows", "decoded", "lines_of"]

MAX_BYTES = 1 << 20
UTF16, NOT_UTF8 = (b"\xff\xfe", b"\xfe\xff"), "expected UTF-8 text; this is UTF-16. Save it as UTF-8"

T = TypeVar("T")


class Malformed(ValueError):  # noqa: N818  # an adjective says it
    """Text that breaks a rule; the message names the file, the line and the rule."""

    def __init__(self, place: str, message: str, rule: str = "") -> None:
        super().__init__(f"{place}: {message}")
        self.place = place
        self.rule = rule  # in a few words; empty if it is of a whole file, which cannot be skipped


@dataclass(frozen=True)
class Rows(Generic[T]):
    """What was read: the items, how many rows there were, and how many of them were skipped under which rule."""

    items: list[T]
    lines: int
    skipped: Counter[str] = field(default_factory=Counter)
    first: str = ""  # where the first skipped row is
    unit: str = "lines"

    @classmethod
    def of(cls, found: Iterable[T | Malformed], unit: str = "lines") -> Self:
        """The items among these rows, and a count of the others."""
        items: list[T] = []
        skipped: Counter[str] = Counter()
        first = ""
        for one in found:
            if isinstance(one, Malformed):
                skipped[one.rule] += 1
                first = first or one.place
            else:
                items.append(one)
        return cls(items, len(items) + skipped.total(), skipped, first, unit)

    def __len__(self) -> int:
        return len(self.items)

    def used(self, name: str) -> Self:
        """The same.

        Raises:
            Malformed: there is no item; `name` is the file's.
        """
        if not self.items:
            raise Malformed(name, f"no {self.unit.removesuffix('s')} can be used; {self.report()}")
        return self

    def report(self) -> str:
        """One line, such as `skipped 3 of 1,000 lines: 2 x empty side, 1 x bad UTF-8 (first: train.tsv:17)`."""
        if not self.skipped:
            return f"read {self.lines:,} {self.unit}, skipped none"
        rules = ", ".join(f"{count:,} x {rule}" for rule, count in self.skipped.most_common())
        return f"skipped {self.skipped.total():,} of {self.lines:,} {self.unit}: {rules} (first: {self.first})"


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file without their ends; of one that is longer than `MAX_BYTES` only one byte more than that.

    Raises:
        Malformed: the file cannot be read, is empty, cut off, or obviously something else.
    """
    most = MAX_BYTES + 1
    try:
        with cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb") as file:
            line = file.readline(most)
            _check_beginning(path, line)
            while line:
                yield line.rstrip(b"\r\n")
                while len(line) == most and not line.endswith(b"\n"):
                    line = file.readline(most)
                line = file.readline(most)
    except FileNotFoundError:
        raise Malformed(path.name, f"there is no file {path}") from None
    except EOFError:
        raise Malformed(path.name, "the file is cut off in the middle; copy it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise Malformed(path.name, f"the file is broken, or not packed by gzip ({error})") from None
    except OSError as error:
        raise Malformed(str(path), f"the file cannot be read: {error.strerror or error}") from None


def _check_beginning(path: Path, line: bytes) -> None:
    if not line:
        raise Malformed(path.name, "the file is empty")
    if line.startswith(UTF16):
        raise Malformed(path.name, NOT_UTF8)
    if line.startswith(b"\x1f\x8b"):
        raise Malformed(path.name, "expected UTF-8 text; this is packed by gzip. Let its name end in .gz")


def decoded(line: bytes, place: str, number: int) -> str:
    """The text of line `number` of a file; of the first without a byte-order mark.

    Raises:
        Malformed: it is too long, or no UTF-8.
    """
    if len(line) > MAX_BYTES:
        raise Malformed(place, f"a line may have {MAX_BYTES:,} bytes; got more", f"more than {MAX_BYTES:,} bytes")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"expected UTF-8 text; byte {error.start + 1} of the line is 0x{line[error.start]:02X}"
        raise Malformed(place, message, "bad UTF-8") from None
    return text.removeprefix("\ufeff") if number == 1 else text
