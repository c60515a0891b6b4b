"""Draw scenes, and phrases that fit them or do not: deterministic in the seed.

Some pairs of colour and shape are kept for validation and test: training neither shows nor names one of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .phrases import RELATIONS, Kind, Phrase, fitting, said
from .things import COLOURS, SHAPES, SIDE, SIZES, Box, Scene, Thing

__all__ = ["HELD_OUT", "PHRASES", "SPLITS", "Described", "scenes"]

SPLITS = ("train", "valid", "test")
PHRASES = 6  # of a scene: as many that fit as that do not
APART = 2.0  # pixels between boxes
TINT = 22  # how far a colour is from its usual one, of 255 in each part
TRIES = 60
PLACED = 0.5  # of phrases that fit: say where, if they can
NEEDED = 0.7  # of those: must
ANYTHING = 0.2  # of those, in training: of a thing of any kind, so that nothing but where it stands counts
TURNED = 0.8  # of phrases that say where, and are changed: by another direction
FOREIGN = 0.3  # of phrases that do not fit: fitted another scene
HERE = 0.75  # of changed words: by another of the scene, so that only both words together are false
_KINDS = list(COLOURS)
HELD_OUT = {
    "test": frozenset((colour, SHAPES[i % len(SHAPES)]) for i, colour in enumerate(_KINDS)),
    "valid": frozenset((colour, SHAPES[(i + 3) % len(SHAPES)]) for i, colour in enumerate(_KINDS[:4])),
}
KEPT = HELD_OUT["test"] | HELD_OUT["valid"]


@dataclass(frozen=True)
class Described:
    """A scene, phrases, and for each the box of what it fits; None: it fits nothing."""

    scene: Scene
    phrases: tuple[str, ...]
    boxes: tuple[Box | None, ...]


def scenes(seed: int, count: int, *, split: str = "train") -> Iterator[Described]:
    """`count` scenes of 3 to 6 things with phrases; one that fits is of one thing only.

    Of "valid" and "test" each phrase that fits is about a thing whose pair of colour and shape is that split's, and
    names both.

    Raises:
        ValueError: an unknown split, or a negative count.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; expected 'train', 'valid' or 'test'")
    if count < 0:
        raise ValueError(f"count must not be negative; got {count}")
    draw = random.Random(f"scenes/{split}/{seed}")
    others = _true_of(draw, _scene(draw, split), split)
    for _ in range(count):
        described, others = _described(draw, split, others)
        yield described


def _described(draw: random.Random, split: str, others: list[Phrase]) -> tuple[Described, list[Phrase]]:
    """A scene, and the phrases that fit it; `others`: phrases that fitted another one, of which some will not fit."""
    while True:
        scene = _scene(draw, split)
        true = _true_of(draw, scene, split)
        false = [phrase for one in true if (phrase := _false(draw, scene, one, split, others))]
        if len(true) == len(false) == PHRASES // 2:
            both = [*true, *false]
            draw.shuffle(both)
            found = [next(fitting(one, scene), None) for one in both]
            boxes = tuple(one.box if one else None for one in found)
            return Described(scene, tuple(said(one, draw) for one in both), boxes), true


def _true_of(draw: random.Random, scene: Scene, split: str) -> list[Phrase]:
    """Different phrases that fit, at most half of what is wanted in all."""
    drawn = [_true(draw, scene, split) for _ in range(PHRASES)]
    return list(dict.fromkeys(one for one in drawn if one))[: PHRASES // 2]


def _scene(draw: random.Random, split: str) -> Scene:
    """Few colours and shapes in each, so that no word alone tells its things apart."""
    allowed = {(colour, shape) for colour in COLOURS for shape in SHAPES} - KEPT | HELD_OUT.get(split, frozenset())
    while True:
        colours, shapes = draw.sample(_KINDS, draw.choice((2, 3, 4))), draw.sample(SHAPES, draw.choice((2, 3, 3)))
        pairs = [(colour, shape) for colour in colours for shape in shapes if (colour, shape) in allowed]
        wanted = HELD_OUT.get(split, allowed)
        if not wanted.intersection(pairs):
            continue
        first = draw.choice([pair for pair in pairs if pair in wanted])
        things: list[Thing] = []
        for pair in [first, *(draw.choice(pairs) for _ in range(draw.randint(2, 5)))]:
            _place(draw, things, *pair)
        if len(things) >= 3:
            draw.shuffle(things)
            ground = draw.choice((draw.randint(20, 70), draw.randint(185, 250)))
            tinted = [max(0, min(255, ground + draw.randint(-10, 10))) for _ in range(3)]
            return Scene(tuple(things), (tinted[0], tinted[1], tinted[2]), draw.getrandbits(32))


def _place(draw: random.Random, things: list[Thing], colour: str, shape: str) -> None:
    """Adds a thing where there is room; nothing where there is none."""
    size = draw.choice(list(SIZES))
    half = round(draw.uniform(*SIZES[size]), 1)
    red, green, blue = (max(0, min(255, part + draw.randint(-TINT, TINT))) for part in COLOURS[colour])
    for _ in range(TRIES):
        x, y = (round(draw.uniform(half + 1, SIDE - half - 1), 1) for _ in range(2))
        if all(max(abs(x - one.x), abs(y - one.y)) >= half + one.half + APART for one in things):
            things.append(Thing(colour, shape, size, x, y, half, (red, green, blue)))
            return


def _kind(draw: random.Random, thing: Thing, named: float, *, both: bool = False) -> Kind:
    """Some of what a thing is like; `both`: its colour and its shape in any case."""
    size, colour, shape = (
        getattr(thing, name) if draw.random() < share else None
        for name, share in (("size", 0.4), ("colour", named), ("shape", named))
    )
    return Kind(size, thing.colour, thing.shape) if both else Kind(size, colour, shape)


def _true(draw: random.Random, scene: Scene, split: str) -> Phrase | None:
    """A phrase that fits one thing; if it says where that is, then mostly because others are like it."""
    pairs = HELD_OUT.get(split)
    heads = [one for one in scene.things if pairs is None or (one.colour, one.shape) in pairs]
    for placed in (True, False) if draw.random() < PLACED else (False,):
        needed = placed and draw.random() < NEEDED
        anything = placed and pairs is None and draw.random() < ANYTHING
        for _ in range(TRIES):
            thing = draw.choice(heads)
            kind = Kind() if anything else _kind(draw, thing, 0.55 if placed else 0.7, both=pairs is not None)
            if needed and sum(map(kind.of, scene.things)) < 2:
                continue
            phrase = _where(draw, scene, kind, thing) if placed else Phrase(kind)
            if not _said_in(phrase, split):
                continue
            if list(fitting(phrase, scene)) == list(fitting(phrase, scene, perhaps=True)) == [thing]:
                return phrase
    return None


def _where(draw: random.Random, scene: Scene, kind: Kind, thing: Thing) -> Phrase:
    landmark = draw.choice([one for one in scene.things if one is not thing])
    return Phrase(kind, draw.choice(list(RELATIONS)), _kind(draw, landmark, 0.75))


def _said_in(phrase: Phrase, split: str) -> bool:
    """Whether a split may name it: training no pair that is kept, the others none of each other's."""
    kept = KEPT - HELD_OUT.get(split, frozenset())
    return not any(kind and (kind.colour, kind.shape) in kept for kind in (phrase.kind, phrase.landmark))


def _false(draw: random.Random, scene: Scene, true: Phrase, split: str, others: list[Phrase]) -> Phrase | None:
    """A phrase that fits nothing, not even nearly: one of another scene, or this one with one thing changed.

    The landmark is there in any case: else looking for it alone would tell much, and models learn no more than that.
    """
    foreign = draw.random() < FOREIGN
    for _ in range(TRIES):
        phrase = draw.choice(others) if foreign and others else _changed(draw, scene, true)
        foreign = foreign and draw.random() < 0.8
        there = phrase.landmark is None or sum(map(phrase.landmark.of, scene.things)) == 1
        if not there or phrase == true or not _said_in(phrase, split):
            continue
        if not any(fitting(phrase, scene, perhaps=True)):
            return phrase
    return None


def _changed(draw: random.Random, scene: Scene, true: Phrase) -> Phrase:
    if true.relation and draw.random() < TURNED:
        return replace(true, relation=draw.choice(list(RELATIONS)))
    return replace(true, kind=_other(draw, scene, true.kind))


def _other(draw: random.Random, scene: Scene, kind: Kind) -> Kind:
    """A kind with one word changed or added."""
    name, every = draw.choice((("size", list(SIZES)), ("colour", _KINDS), ("shape", list(SHAPES))))
    here = [getattr(thing, name) for thing in scene.things]
    return replace(kind, **{name: draw.choice(here if draw.random() < HERE else every)})
