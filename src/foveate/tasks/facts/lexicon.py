"""Read `lexicon/*.txt`: kinds of things and how they are named, relations between them and how they are said.

The format of each file is explained in its first lines. A mistake raises ValueError with file, line and remedy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

__all__ = ["Kind", "Lexicon", "Relation", "load"]

RELATION = re.compile(r"(\w+) of (\w+): (\w+)")


@dataclass(frozen=True)
class Kind:
    """Names are made by `patterns`, or taken from `words`; `says` introduces one."""

    name: str
    patterns: tuple[str, ...]
    words: tuple[str, ...]
    says: tuple[str, ...]


@dataclass(frozen=True)
class Relation:
    """What is said of a thing of kind `subject`, and asked about it; the other end is of kind `answer`."""

    name: str
    subject: str
    answer: str
    questions: tuple[str, ...]  # about {s}
    turned: tuple[str, ...]  # about {a}
    sentences: tuple[str, ...]  # with both
    following: tuple[str, ...]  # without {s}


@dataclass(frozen=True)
class Lexicon:
    """Everything the grammar draws from. `of[kind]`: the relations that are about a kind."""

    kinds: dict[str, Kind]
    of: dict[str, tuple[Relation, ...]]
    fillers: tuple[str, ...]
    words: frozenset[str]  # that stand in any of its lines, in lower case: no invented word is one of them


@cache
def load() -> Lexicon:
    kinds = dict(_kinds())
    relations = list(_relations(kinds))
    of = {name: tuple(one for one in relations if one.subject == name) for name, kind in kinds.items() if kind.says}
    lines = [line for name in ("kinds.txt", "relations.txt", "fillers.txt") for _, line in _lines(name)]
    words = frozenset(re.findall(r"\w+", " ".join(lines).lower()))
    return Lexicon(kinds, of, tuple(line for _, line in _lines("fillers.txt")), words)


def _kinds() -> Iterator[tuple[str, Kind]]:
    for place, header, lines in _sections("kinds.txt", ("name", "word", ".")):
        if not header.isidentifier() or not (lines["name"] or lines["word"]):
            raise ValueError(f"{place}: a kind is one word in brackets, with a name or word below")
        yield header, Kind(header, *(tuple(lines[mark]) for mark in ("name", "word", ".")))


def _relations(kinds: dict[str, Kind]) -> Iterator[Relation]:
    for place, header, lines in _sections("relations.txt", ("?", "!", ".", "+")):
        found = RELATION.fullmatch(header)
        if found is None or not {found[2], found[3]} <= kinds.keys() or not kinds[found[2]].says:
            raise ValueError(f"{place}: expected [NAME of KIND: KIND], both kinds of kinds.txt; got [{header}]")
        for mark, slots in (("?", "s"), ("!", "a"), (".", "as"), ("+", "a")):
            for line in lines[mark]:
                if "".join(sorted(set(re.findall(r"{(\w)}", line)))) != slots:
                    raise ValueError(f"{place}: lines with {mark} have the slots {slots!r}; got {line!r}")
        if not lines["?"] or not lines["."]:
            raise ValueError(f"{place}: a relation needs a question (?) and a sentence (.)")
        yield Relation(found[1], found[2], found[3], *(tuple(lines[mark]) for mark in ("?", "!", ".", "+")))


def _sections(name: str, marks: tuple[str, ...]) -> Iterator[tuple[str, str, dict[str, list[str]]]]:
    """Place, header and lines by their marks of each section."""
    section: tuple[str, str, dict[str, list[str]]] | None = None
    for number, line in _lines(name):
        place = f"{name}:{number}"
        if line.startswith("["):
            if section is not None:
                yield section
            section = place, line.strip("[]"), {mark: [] for mark in marks}
            continue
        mark, _, rest = line.partition(" ")
        if section is None or mark not in marks or not rest:
            raise ValueError(f"{place}: expected [a header], then lines that begin with {' or '.join(marks)}")
        section[2][mark].append(rest)
    if section is not None:
        yield section


def _lines(name: str) -> Iterator[tuple[int, str]]:
    text = (resources.files(__package__) / "lexicon" / name).read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        if line and not line.startswith("#"):
            yield number, line
