"""What a user asks for: sizes that every measurement shares, and the lengths n."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from foveate.apps.errors import UsageError

__all__ = ["DTYPES", "Settings", "parse_lengths"]

DTYPES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}  # bytes of a number
LONGEST = 1 << 26


@dataclass(frozen=True)
class Settings:
    """Sizes of the inputs (1, heads, n, width) and the threads; measurements of other settings are not comparable."""

    heads: int = 8
    width: int = 64
    dtype: str = "float32"
    threads: int = 1

    def __post_init__(self) -> None:
        for name, most in (("heads", 4096), ("width", 4096), ("threads", 1024)):
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise UsageError(f"--{name} is a number from 1 to {most:,}; got {value}")
        if self.dtype not in DTYPES:
            raise UsageError(f"unknown dtype {self.dtype!r}; expected one of {', '.join(DTYPES)}")

    @property
    def size(self) -> int:
        """Bytes of one number."""
        return DTYPES[self.dtype]

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.heads} heads of width {self.width}, {self.dtype}, {threads}"


def parse_lengths(text: str) -> list[int]:
    """Lengths of "512,1000,4096", or "512..16384", which doubles from the first and ends with the last.

    Raises:
        UsageError: a part is no length, or they do not increase.
    """
    lengths: list[int] = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        lengths += _doubling(_length(first, part), _length(last, part)) if dots else [_length(part, part)]
    _check_increase(lengths)
    return lengths


def _length(text: str, part: str) -> int:
    digits = text.strip().replace("_", "")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 12 and 1 <= int(digits) <= LONGEST):
        raise UsageError(
            f"--lengths takes numbers from 1 to {LONGEST:,} such as 512,1024 or 512..16384; got {part.strip()!r}"
        )
    return int(digits)


def _doubling(first: int, last: int) -> list[int]:
    if first > last:
        raise UsageError(f"--lengths must increase; got {first}..{last}")
    found = [first]
    while 2 * found[-1] <= last:
        found.append(2 * found[-1])
    return found if found[-1] == last else [*found, last]


def _check_increase(lengths: Sequence[int]) -> None:
    for before, after in itertools.pairwise(lengths):
        if after <= before:
            raise UsageError(f"--lengths must increase; got {after} after {before}")
