"""Read `lexicon/*.txt`: kinds of things and how they are named, relations between them and how they are said.

`kinds`, `lines` and `sections` read files of this format from other folders, too.

The format of each file is explained in its first lines. A mistake raises ValueError with file, line and remedy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

__all__ = ["Kind", "Lexicon", "Relation", "kinds", "lines", "load", "sections", "words_of"]

FOLDER = resources.files(__package__) / "lexicon"
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
    files = [FOLDER / name for name in ("kinds.txt", "relations.txt", "fillers.txt")]
    known = dict(kinds(files[0]))
    relations = list(_relations(files[1], known))
    of = {name: tuple(one for one in relations if one.subject == name) for name, kind in known.items() if kind.says}
    return Lexicon(known, of, tuple(line for _, line in lines(files[2])), words_of(files))


def words_of(files: Iterable[Traversable]) -> frozenset[str]:
    """All words of these files, in lower case; what begins with a digit is none."""
    text = " ".join(line for file in files for _, line in lines(file))
    return frozenset(re.findall(r"\b[^\W\d]\w*", text.lower()))


def kinds(file: Traversable) -> Iterator[tuple[str, Kind]]:
    """Kinds by their names.

    Raises:
        ValueError: a line breaks a rule (file, line, rule).
    """
    for place, header, lines in sections(file, ("name", "word", ".")):
        if not header.isidentifier() or not (lines["name"] or lines["word"]):
            raise ValueError(f"{place}: a kind is one word in brackets, with a name or word below")
        yield header, Kind(header, *(tuple(lines[mark]) for mark in ("name", "word", ".")))


def _relations(file: Traversable, kinds: dict[str, Kind]) -> Iterator[Relation]:
    for place, header, lines in sections(file, ("?", "!", ".", "+")):
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


def sections(file: Traversable, marks: tuple[str, ...]) -> Iterator[tuple[str, str, dict[str, list[str]]]]:
    """Place, header and lines by their marks of each section.

    Raises:
        ValueError: a line is no header and has no mark (file, line, rule).
    """
    section: tuple[str, str, dict[str, list[str]]] | None = None
    for number, line in lines(file):
        place = f"{file.name}:{number}"
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


def lines(file: Traversable) -> Iterator[tuple[int, str]]:
    """Lines and their numbers, without those that are empty or begin with #."""
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line and not line.startswith("#"):
            yield number, line
