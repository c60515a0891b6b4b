"""Pictures of coloured shapes that the project draws, with phrases that fit them or do not."""

from .drawing import HELD_OUT, PHRASES, SPLITS, Described, scenes
from .painting import paint
from .things import COLOURS, SHAPES, SIDE, SIZES, Box, Scene, Thing

__all__ = [
    "COLOURS",
    "HELD_OUT",
    "PHRASES",
    "SHAPES",
    "SIDE",
    "SIZES",
    "SPLITS",
    "Box",
    "Described",
    "Scene",
    "Thing",
    "paint",
    "scenes",
]
