"""Phrases that tell things of a scene apart, whether they are true, and how they are said.

A phrase names a size, a colour, a shape, or less, and may say where the thing is: left of, right of, above or below
another one. It fits a scene if something in it is like that; for things that stand nearly level nothing is said.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from .things import Scene, Thing

__all__ = ["RELATIONS", "Kind", "Phrase", "fitting", "said"]

CLEAR = 10.0  # pixels that one middle lies beyond another, so that one may say so
RELATIONS = {  # how each is said; the first is the usual one
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
WORDS = {"small": ("small", "little"), "large": ("large", "big")}
ANYTHING = ("shape", "thing")
BARE = 0.12  # of phrases: without their article
OTHERWISE = 0.25  # of words with a second way to say them: said so


@dataclass(frozen=True)
class Kind:
    """What a thing may be like; None: whatever it is."""

    size: str | None = None
    colour: str | None = None
    shape: str | None = None

    def of(self, thing: Thing) -> bool:
        return all(
            wanted in (None, getattr(thing, name))
            for name, wanted in (("size", self.size), ("colour", self.colour), ("shape", self.shape))
        )


@dataclass(frozen=True)
class Phrase:
    """A thing of a kind, or one that is `relation` a landmark: the only thing of its kind in the scene."""

    kind: Kind
    relation: str | None = None
    landmark: Kind | None = None


def _beyond(relation: str, one: Thing, other: Thing) -> float:
    """How many pixels one is left of, right of, above or below another."""
    return {
        "left": other.x - one.x,
        "right": one.x - other.x,
        "above": other.y - one.y,
        "below": one.y - other.y,
    }[relation]


def fitting(phrase: Phrase, scene: Scene, *, perhaps: bool = False) -> Iterator[Thing]:
    """The things that a phrase fits; `perhaps`: also those that nearly stand level with the landmark."""
    alike = [thing for thing in scene.things if phrase.kind.of(thing)]
    if phrase.relation is None or phrase.landmark is None:
        yield from alike
        return
    landmarks = [thing for thing in scene.things if phrase.landmark.of(thing)]
    if len(landmarks) != 1 and not perhaps:
        return
    least = -CLEAR if perhaps else CLEAR
    for thing in alike:
        if any(other is not thing and _beyond(phrase.relation, thing, other) > least for other in landmarks):
            yield thing


def said(phrase: Phrase, draw: random.Random) -> str:
    """In words, not always the same ones."""
    head = _named(phrase.kind, draw)
    if draw.random() >= BARE:
        head = f"the {head}"
    if phrase.relation is None or phrase.landmark is None:
        return head
    return f"{head} {_one_of(RELATIONS[phrase.relation], draw)} the {_named(phrase.landmark, draw)}"


def _named(kind: Kind, draw: random.Random) -> str:
    size = _one_of(WORDS[kind.size], draw) if kind.size else ""
    return " ".join(word for word in (size, kind.colour, kind.shape or draw.choice(ANYTHING)) if word)


def _one_of(ways: tuple[str, ...], draw: random.Random) -> str:
    return ways[0] if draw.random() >= OTHERWISE else draw.choice(ways[1:])
