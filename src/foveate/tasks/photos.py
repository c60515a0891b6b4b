"""Pictures as a model sees them: files of any usual format, and scenes, as squares of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..extras import need
from .scenes import SIDE, Scene, paint

__all__ = ["Photo", "pixels_of", "shown_of", "size_of"]

MOST_PIXELS = 64_000_000
SHOWN = 768  # pixels of the longer side


@dataclass(frozen=True)
class Photo:
    """A file with a picture, and how wide and high that is, in pixels, once it stands upright."""

    path: Path
    size: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> Photo:
        """Raises ValueError if there is no picture in it, or one of more than 64 million pixels."""
        with _opened(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) > 4  # lies on its side (EXIF, Orientation)
        return cls(path, (height, width) if turned else (width, height))


def _opened(path: Path) -> Any:
    image_of = need("PIL.Image", "train")
    try:
        image = image_of.open(path)
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except (OSError, ValueError, image_of.DecompressionBombError) as error:
        raise ValueError(f"{path.name} is no picture that can be read ({error})") from None
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise ValueError(f"{path.name} has {image.width} x {image.height} pixels; at most {MOST_PIXELS:,} are read")
    return image


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
    image_of = need("PIL.Image", "train")
    image = image_of.fromarray(paint(picture)) if isinstance(picture, Scene) else _upright(picture.path)
    return np.asarray(image.resize((width, height), image_of.Resampling.BICUBIC))


def _upright(path: Path) -> Any:
    """Without transparency: on white."""
    image_of, operations = need("PIL.Image", "train"), need("PIL.ImageOps", "train")
    with _opened(path) as image:
        try:
            upright = operations.exif_transpose(image).convert("RGBA")
        except (OSError, SyntaxError) as error:
            raise ValueError(f"{path.name} is no picture that can be read ({error})") from None
    ground = image_of.new("RGBA", upright.size, "white")
    ground.alpha_composite(upright)
    return ground.convert("RGB")
