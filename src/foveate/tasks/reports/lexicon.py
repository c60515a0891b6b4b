"""Read `lexicon/*.txt`: stories, how they are told, and which of their facts make a headline.

The format of each file is explained in its first lines. A mistake raises ValueError with file, line and remedy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from ..facts.lexicon import Kind, kinds, sections, words_of
from ..facts.lexicon import load as load_facts

__all__ = ["Lexicon", "Story", "load"]

FOLDER = resources.files(__package__) / "lexicon"
STEPS = ("1", "2", "3")
SLOT = re.compile(r"{(\w+)}")


@dataclass(frozen=True)
class Story:
    """`slots` are what it is about, by kind; each of `steps` must be told, in one of several ways."""

    name: str
    slots: Mapping[str, str]
    headline: str
    steps: tuple[tuple[str, ...], ...]
    details: tuple[str, ...]  # with {kind}s of their own
    openings: tuple[str, ...]  # the same, and before the news


@dataclass(frozen=True)
class Lexicon:
    """Everything that reports are drawn from."""

    kinds: Mapping[str, Kind]
    stories: tuple[Story, ...]
    fillers: tuple[str, ...]
    words: frozenset[str]  # that stand in any of its lines, in lower case: no invented word is one of them


@cache
def load() -> Lexicon:
    facts, files = load_facts(), [FOLDER / name for name in ("kinds.txt", "stories.txt")]
    known = {**facts.kinds, **dict(kinds(files[0]))}
    return Lexicon(known, tuple(_stories(files[1], known)), facts.fillers, facts.words | words_of(files))


def _stories(file: Traversable, known: Mapping[str, Kind]) -> Iterator[Story]:
    for place, name, lines in sections(file, ("=", "^", *STEPS, ".", "-")):
        slots: dict[str, str] = {}
        for line in lines["="]:
            slot, _, kind = line.partition(" ")
            if kind not in known or slot in known:
                raise ValueError(f"{place}: lines with = name a slot, then a kind of kinds.txt; got {line!r}")
            slots[slot] = kind
        steps = tuple(tuple(lines[step]) for step in STEPS if lines[step])
        if len(lines["^"]) != 1 or not steps:
            raise ValueError(f"{place}: a story needs one headline (^) and sentences that tell it (1, 2, ...)")
        headline, loose = lines["^"][0], {*lines["."], *lines["-"]}
        for line in [headline, *(line for step in steps for line in step), *loose]:
            fitting = known.keys() if line in loose else known.keys() | slots.keys()
            if other := set(SLOT.findall(line)) - fitting:
                raise ValueError(f"{place}: there is no slot or kind {'{' + min(other) + '}'} for {line!r}")
        told = set().union(*(set.intersection(*(set(SLOT.findall(line)) for line in step)) for step in steps))
        if missing := set(SLOT.findall(headline)) - told:
            raise ValueError(f"{place}: the headline has {'{' + min(missing) + '}'}, which not every report would tell")
        yield Story(name, slots, headline, steps, tuple(lines["."]), tuple(lines["-"]))
