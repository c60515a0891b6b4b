"""Pictures as a model sees them: files of any usual format, and scenes, as squares of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..extras import need
from ..picturefile import read
from .scenes import SIDE, Scene, paint

__all__ = ["Photo", "pixels_of", "shown_of", "size_of"]

SHOWN = 768  # pixels of the longer side


@dataclass(frozen=True)
class Photo:
    """A file with a picture, and how wide and high that is, in pixels, once it stands upright."""

    path: Path
    size: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> Photo:
        """Raises UnreadableError, a ValueError, if there is no picture in it, or one that is too large."""
        return cls(path, read(path).size)


def size_of(picture: Scene | Photo) -> tuple[int, int]:
    """Width and height in pixels."""
    return (SIDE, SIDE) if isinstance(picture, Scene) else picture.size


def pixels_of(picture: Scene | Photo, side: int) -> NDArray[np.uint8]:
    """(side, side, 3) uint8: what a model sees, stretched to a square.

    Raises:
        ValueError: the file cannot be read any more.
    """
    if isinstance(picture, Scene) and side == SIDE:
        return paint(picture)
    return _resized(picture, side, side)


def shown_of(picture: Scene | Photo) -> NDArray[np.uint8]:
    """(height, width, 3) uint8: what people see, at most 768 pixels high and wide; raises as `pixels_of`."""
    width, height = size_of(picture)
    if isinstance(picture, Scene):
        return paint(picture)
    shrink = min(1.0, SHOWN / max(width, height))
    return _resized(picture, max(1, round(width * shrink)), max(1, round(height * shrink)))


def _resized(picture: Scene | Photo, width: int, height: int) -> NDArray[np.uint8]:
    image = need("PIL.Image", "train")
    given = image.fromarray(paint(picture)) if isinstance(picture, Scene) else read(picture.path)
    return np.asarray(given.resize((width, height), image.Resampling.BICUBIC))
