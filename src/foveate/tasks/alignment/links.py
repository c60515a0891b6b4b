"""Word links, and the text formats in which aligners exchange them: one line a sentence, `source-target` from 0.

| format | example | read by |
|---|---|---|
| Pharaoh (Moses, fast_align, eflomal, ...) | `0-0 1-2` | `parse_links`, `read_links` |
| the same with weights | `0-0:0.83 1-2:0.6` | `parse_soft`, `read_soft` |
| gold, possible links marked (`p`, `?`; `s` or `-` are sure) | `0-0 1p2 2?2` | `parse_gold`, `read_gold` |
| NAACL (Mihalcea and Pedersen 2003): one link a line, from 1 | `7 2 3 P` | `read_naacl` |

Some gold files count words from 1, or write the target first: `first=1` and `swap`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..rows import Malformed, decoded, lines_of

__all__ = [
    "Gold",
    "Link",
    "Links",
    "format_gold",
    "format_links",
    "format_soft",
    "parse_gold",
    "parse_links",
    "parse_soft",
    "read_gold",
    "read_links",
    "read_naacl",
    "read_soft",
    "swap",
]

Link = tuple[int, int]
Links = frozenset[Link]
Read = TypeVar("Read")

_HARD = re.compile(r"([0-9]+)-([0-9]+)")
_SOFT = re.compile(r"([0-9]+)-([0-9]+):([0-9.eE+-]+)")
_GOLD = re.compile(r"([0-9]+)([-sSpP?])([0-9]+)")


@dataclass(frozen=True)
class Gold:
    """What people say of a sentence pair: links that must be there, and those that may be (a sure link always may)."""

    sure: Links
    possible: Links

    def __post_init__(self) -> None:
        object.__setattr__(self, "sure", frozenset(self.sure))
        object.__setattr__(self, "possible", frozenset(self.possible) | self.sure)

    @classmethod
    def of(cls, links: Iterable[Link]) -> Gold:
        """Another aligner's links taken as gold: all of them sure, no others possible."""
        sure = frozenset(links)
        return cls(sure, sure)


def swap(links: Iterable[Link]) -> Links:
    """Links with source and target exchanged."""
    return frozenset((target, source) for source, target in links)


def parse_links(text: str, *, first: int = 0) -> Links:
    """`0-0 1-2` as links; `first` is the number of the first word in the text."""
    return frozenset(_link(_match(_HARD, part, "source-target, as in 0-0"), first) for part in text.split())


def format_links(links: Iterable[Link]) -> str:
    """Links in Pharaoh format, sorted."""
    return " ".join(f"{source}-{target}" for source, target in sorted(set(links)))


def parse_soft(text: str, *, first: int = 0) -> dict[Link, float]:
    """`0-0:0.83 1-2:0.6` as weights by link."""
    weights: dict[Link, float] = {}
    for part in text.split():
        found = _match(_SOFT, part, "source-target:weight, as in 0-0:0.83")
        link, weight = _link(found, first), _number(found[3])
        if not 0 <= weight < math.inf:
            raise ValueError(f"a weight is a number from 0 up; got {part!r}")
        if link in weights:
            raise ValueError(f"each link may be there once; got {part!r} again")
        weights[link] = weight
    return weights


def format_soft(weights: Mapping[Link, float], *, digits: int = 3) -> str:
    """Weights by link as `0-0:0.830`, sorted by link."""
    return " ".join(f"{source}-{target}:{weights[source, target]:.{digits}f}" for source, target in sorted(weights))


def parse_gold(text: str, *, first: int = 0) -> Gold:
    """`0-0 1p2 2?2` as sure (`-`, `s`) and possible (`p`, `?`) links."""
    sure: set[Link] = set()
    possible: set[Link] = set()
    for part in text.split():
        found = _match(_GOLD, part, "source-target (sure) or sourceptarget (possible), as in 0-0 or 1p2")
        link = _link([found[0], found[1], found[3]], first)
        (possible if found[2] in "pP?" else sure).add(link)
    return Gold(frozenset(sure), frozenset(possible))


def format_gold(gold: Gold, *, mark: str = "p") -> str:
    """Gold links, sorted, those that are only possible with `mark` (`p` or `?`) in the place of the dash."""
    return " ".join(f"{link[0]}{'-' if link in gold.sure else mark}{link[1]}" for link in sorted(gold.possible))


def read_links(path: Path, *, first: int = 0) -> list[Links]:
    """Links of every line of a file; an empty line is a sentence without any.

    Raises:
        Malformed: file, line and rule, as in `a.txt:17: expected source-target, as in 0-0; got '0_0'`.
    """
    return _lines(path, lambda line: parse_links(line, first=first))


def read_soft(path: Path, *, first: int = 0) -> list[dict[Link, float]]:
    """Weights by link of every line of a file; see `read_links`."""
    return _lines(path, lambda line: parse_soft(line, first=first))


def read_gold(path: Path, *, first: int = 0) -> list[Gold]:
    """Sure and possible links of every line of a file; see `read_links`."""
    return _lines(path, lambda line: parse_gold(line, first=first))


def read_naacl(path: Path, *, count: int = 0) -> list[Gold]:
    """Gold links in NAACL format: `sentence source target [S|P] [confidence]`, all counted from 1, word 0 is "no word".

    A link without a letter is sure. Returns one `Gold` per sentence up to the last one named, or up to `count`.

    Raises:
        Malformed: file, line and rule.
    """
    links = [link for link in _lines(path, _naacl) if link is not None]
    sure: list[set[Link]] = [set() for _ in range(max([count, *(sentence for sentence, _, _ in links)]))]
    possible: list[set[Link]] = [set() for _ in sure]
    for sentence, link, is_sure in links:
        if min(link) >= 0:
            (sure if is_sure else possible)[sentence - 1].add(link)
    return [Gold(frozenset(a), frozenset(b)) for a, b in zip(sure, possible, strict=True)]


def _naacl(line: str) -> tuple[int, Link, bool] | None:
    columns = line.split()
    if not columns:
        return None
    letter = columns[3].upper() if len(columns) > 3 else "S"
    numbers = [int(column) for column in columns[:3] if re.fullmatch("[0-9]+", column)]
    if len(numbers) < 3 or not numbers[0] or letter not in ("S", "P") or len(columns) > 5:
        raise ValueError(f"expected sentence source target [S|P] [confidence], sentences from 1; got {line.strip()!r}")
    return numbers[0], (numbers[1] - 1, numbers[2] - 1), letter == "S"


def _lines(path: Path, parse: Callable[[str], Read]) -> list[Read]:
    found = []
    for number, line in enumerate(lines_of(path), 1):
        place = f"{path.name}:{number}"
        text = decoded(line, place, number)
        try:
            found.append(parse(text))
        except ValueError as error:
            raise Malformed(place, str(error)) from None
    return found


def _match(pattern: re.Pattern[str], part: str, rule: str) -> list[str]:
    found = pattern.fullmatch(part)
    if not found:
        raise ValueError(f"expected {rule}; got {part!r}")
    return [part, *found.groups()]


def _link(found: list[str], first: int) -> Link:
    link = int(found[1]) - first, int(found[2]) - first
    if min(link) < 0:
        raise ValueError(f"words are counted from {first}; got {found[0]!r}")
    return link


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
