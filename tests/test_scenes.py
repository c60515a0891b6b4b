"""Drawn scenes: what is true of them, what is kept for the test, and how they are painted."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from foveate.tasks.scenes import COLOURS, HELD_OUT, PHRASES, SHAPES, SIDE, Described, Scene, Thing, paint, scenes
from foveate.tasks.scenes.phrases import Kind, Phrase, fitting


def one(shape: str = "circle", x: float = 48.0, y: float = 48.0, size: str = "large", colour: str = "red") -> Thing:
    return Thing(colour, shape, size, x, y, 13.0 if size == "large" else 8.0, COLOURS[colour])


def scene(*things: Thing) -> Scene:
    return Scene(things, (30, 30, 30), 7)


def pairs_of(described: Described) -> set[tuple[str, str]]:
    return {(thing.colour, thing.shape) for thing in described.scene.things}


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_half_of_the_phrases_fit_one_thing_and_its_box_is_that_of_the_thing(split: str) -> None:
    for described in scenes(3, 40, split=split):
        boxes = [thing.box for thing in described.scene.things]
        assert len(described.phrases) == len(described.boxes) == PHRASES
        assert sum(box is not None for box in described.boxes) == PHRASES // 2
        assert all(box in boxes for box in described.boxes if box is not None)
        assert all(0 <= edge <= SIDE for box in boxes for edge in box)


def test_training_neither_shows_nor_names_a_pair_that_is_kept() -> None:
    kept = HELD_OUT["valid"] | HELD_OUT["test"]
    assert not HELD_OUT["valid"] & HELD_OUT["test"]
    assert {colour for colour, _ in HELD_OUT["test"]} == set(COLOURS)
    seen: set[tuple[str, str]] = set()
    for described in scenes(5, 300):
        seen |= pairs_of(described)
        told = " ".join(described.phrases)
        assert not any(f"{colour} {shape}" in told for colour, shape in kept)
    assert seen == {(colour, shape) for colour in COLOURS for shape in SHAPES} - kept


@pytest.mark.parametrize("split", ["valid", "test"])
def test_what_a_test_asks_for_is_a_kept_pair_and_named(split: str) -> None:
    for described in scenes(5, 60, split=split):
        things = {thing.box: thing for thing in described.scene.things}
        for phrase, box in zip(described.phrases, described.boxes, strict=True):
            if box is not None:
                thing = things[box]
                assert (thing.colour, thing.shape) in HELD_OUT[split]
                assert f"{thing.colour} {thing.shape}" in phrase


def test_a_phrase_that_does_not_fit_names_a_landmark_that_is_there() -> None:
    """So that nobody can tell by the landmark alone."""
    seen = 0
    for described in scenes(6, 80):
        colours, shapes = ({getattr(thing, name) for thing in described.scene.things} for name in ("colour", "shape"))
        for phrase, box in zip(described.phrases, described.boxes, strict=True):
            landmark = re.split(r" (?:left of|right of|above|over|below|under) ", phrase)[1:]
            if box is None and landmark:
                seen += 1
                words = set(landmark[0].split())
                assert words & set(COLOURS) <= colours
                assert words & set(SHAPES) <= shapes
    assert seen > 50


def test_the_same_seed_draws_the_same_and_splits_differ() -> None:
    assert list(scenes(1, 5)) == list(islice(scenes(1, 9), 5))
    assert list(scenes(1, 2)) != list(scenes(2, 2))
    assert list(scenes(1, 2, split="valid")) != list(scenes(1, 2, split="test"))
    with pytest.raises(ValueError, match="unknown split 'dev'; expected 'train', 'valid' or 'test'"):
        scenes(1, 1, split="dev").__next__()
    with pytest.raises(ValueError, match="must not be negative; got -1"):
        scenes(1, -1).__next__()


def test_where_a_thing_is_said_to_be() -> None:
    left, right, small = one(x=20), one(x=70), one("square", x=45, y=80, size="small", colour="blue")
    drawn = scene(left, right, small)
    circle, square = Kind(shape="circle"), Kind(shape="square")
    assert list(fitting(Phrase(circle), drawn)) == [left, right]
    assert list(fitting(Phrase(circle, "left", square), drawn)) == [left]
    assert list(fitting(Phrase(circle, "right", square), drawn)) == [right]
    assert list(fitting(Phrase(circle, "above", square), drawn)) == [left, right]
    assert list(fitting(Phrase(square, "below", Kind(size="large")), drawn)) == []  # two are large
    level = scene(one(x=48, y=40), small)
    assert list(fitting(Phrase(circle, "right", square), level)) == []
    assert list(fitting(Phrase(circle, "right", square), level, perhaps=True)) == [level.things[0]]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_painted_inside_its_box_in_its_colour(shape: str) -> None:
    thing = one(shape)
    plain = paint(scene()).astype(int)
    changed = np.abs(paint(scene(thing)).astype(int) - plain).max(-1) > 20
    left, top, right, bottom = (round(edge) for edge in thing.box)
    inside = np.zeros_like(changed)
    inside[top:bottom, left:right] = True
    assert not changed[~inside].any()
    share = changed[inside].mean()
    assert 0.2 < share < 0.9
    rows, columns = np.nonzero(changed)
    assert rows.max() - rows.min() > 20 and columns.max() - columns.min() > 20
    assert abs(np.median(paint(scene(thing))[changed], 0) - COLOURS["red"]).max() < 25


def test_shapes_look_different_and_noise_follows_the_seed() -> None:
    painted = [paint(scene(one(shape))) for shape in SHAPES]
    for i, mine in enumerate(painted):
        for other in painted[i + 1 :]:
            assert (np.abs(mine.astype(int) - other) > 40).any(-1).sum() > 40
    assert np.array_equal(paint(scene()), paint(scene()))
    assert not np.array_equal(paint(scene()), paint(replace(scene(), seed=8)))
