"""A scene as pixels: each shape from a formula, its edge smooth.

In coordinates of its own, u to the right and v downwards, a shape fills the square from -1 to 1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .things import SIDE, Scene, Thing

__all__ = ["paint"]

FINE = 3  # points of a pixel, in each direction, that are inside or not
NOISE = 5.0  # standard deviation, of 255
POINTS, DEPTH = 5, 0.42  # of a star: how many, and how far from the middle it is between them

Floats = NDArray[np.float32]


def paint(scene: Scene) -> NDArray[np.uint8]:
    """(SIDE, SIDE, 3), the same for the same scene."""
    noise = np.random.default_rng(scene.seed).standard_normal((SIDE, SIDE, 3), np.float32)
    canvas = np.broadcast_to(np.array(scene.ground, np.float32), (SIDE, SIDE, 3)).copy()
    for thing in scene.things:
        _add(canvas, thing)
    return np.clip(np.rint(canvas + NOISE * noise), 0, 255).astype(np.uint8)


def _add(canvas: Floats, thing: Thing) -> None:
    left, top, right, bottom = thing.box
    rows, columns = (slice(max(0, math.floor(a)), min(SIDE, math.ceil(b))) for a, b in ((top, bottom), (left, right)))
    u, v = (_points(part, middle, thing.half) for part, middle in ((columns, thing.x), (rows, thing.y)))
    inside = _inside(thing.shape, u[None, :], v[:, None])
    height, width = rows.stop - rows.start, columns.stop - columns.start
    cover = inside.reshape(height, FINE, width, FINE).mean((1, 3), dtype=np.float32)[..., None]
    canvas[rows, columns] += cover * (np.array(thing.rgb, np.float32) - canvas[rows, columns])


def _points(part: slice, middle: float, half: float) -> Floats:
    places = np.arange((part.stop - part.start) * FINE, dtype=np.float32)
    return (part.start - middle + (places + 0.5) / FINE) / half


def _inside(shape: str, u: Floats, v: Floats) -> NDArray[np.bool_]:
    if shape == "circle":
        return u**2 + v**2 <= 1
    if shape == "ring":
        return (u**2 + v**2 <= 1) & (u**2 + v**2 >= 0.3)
    if shape == "square":
        return np.maximum(abs(u), abs(v)) <= 0.88
    if shape == "cross":
        return np.minimum(abs(u), abs(v)) <= 0.3
    if shape == "triangle":
        return (abs(u) <= 0.55 * (v + 1)) & (v <= 0.82)
    if shape == "star":
        return _in_star(u, v)
    raise ValueError(f"unknown shape {shape!r}")


def _in_star(u: Floats, v: Floats) -> NDArray[np.bool_]:
    """In polar coordinates around the middle, the edge between a point and the next notch is a straight line."""
    turn = 2 * math.pi / POINTS
    angle = np.mod(np.arctan2(u, -v), turn)
    angle = np.minimum(angle, turn - angle)  # from the nearest point
    along, across = (np.hypot(u, v) * part(angle) for part in (np.cos, np.sin))
    notch = DEPTH * math.cos(turn / 2), DEPTH * math.sin(turn / 2)
    return (along - 1) * notch[1] + across * (1 - notch[0]) <= 0
