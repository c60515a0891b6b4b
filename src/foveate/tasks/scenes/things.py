"""Scenes of shapes: what stands where. Lengths are pixels; y grows downwards."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COLOURS", "SHAPES", "SIDE", "SIZES", "Box", "Scene", "Thing"]

SIDE = 96  # of a scene
COLOURS = {
    "red": (214, 40, 40),
    "orange": (245, 130, 32),
    "yellow": (240, 208, 44),
    "green": (46, 150, 62),
    "cyan": (48, 190, 206),
    "blue": (44, 84, 204),
    "purple": (126, 52, 166),
    "pink": (240, 130, 186),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
SIZES = {"small": (7.0, 8.5), "large": (12.0, 14.0)}  # half of a side of the box around it
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Thing:
    """One shape: its middle (x, y), half the side of its box, and its colour as it is painted."""

    colour: str
    shape: str
    size: str
    x: float
    y: float
    half: float
    rgb: tuple[int, int, int]

    @property
    def box(self) -> Box:
        return self.x - self.half, self.y - self.half, self.x + self.half, self.y + self.half


@dataclass(frozen=True)
class Scene:
    """Things on a plain ground, with noise from `seed`."""

    things: tuple[Thing, ...]
    ground: tuple[int, int, int]
    seed: int
