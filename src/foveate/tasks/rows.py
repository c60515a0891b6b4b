"""Rows of text files that break a rule, counted or refused.

A task whose rows are lines gives `Rows.of_lines` what makes an item of one. Whoever reads rows of another kind
(`lines_of`, `decoded`) raises `Malformed`, or yields it where bad rows are skipped, and has `Rows.of` count them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Self, TypeVar

from ..lines import MAX_BYTES, Malformed, decoded, lines_of, report

__all__ = ["MAX_BYTES", "Malformed", "Rows", "decoded", "lines_of"]

T = TypeVar("T")


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

    @classmethod
    def of_lines(cls, path: Path, make: Callable[[str, str], T], *, skip_bad: bool) -> Self:
        """The items of a file, one a line: `make` takes a line and its place ("file:line"), or raises Malformed.

        Raises:
            Malformed: a row breaks a rule, without `skip_bad`; the whole file does; or no row can be used.
        """

        def found() -> Iterator[T | Malformed]:
            for number, line in enumerate(lines_of(path), 1):
                place = f"{path.name}:{number}"
                try:
                    yield make(decoded(line, place, number), place)
                except Malformed as error:
                    if not skip_bad:
                        raise
                    yield error

        return cls.of(found()).used(path.name)

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
        """One line: how many were read, or which were skipped and why."""
        if not self.skipped:
            return f"read {self.lines:,} {self.unit}, skipped none"
        return report(self.skipped, self.lines, self.unit, self.first)
