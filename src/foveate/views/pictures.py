"""A picture whose parts are tokens: equal parts of a grid, one after the other, row by row."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.extras import need
from foveate.views.words import Tokens

__all__ = ["LARGEST", "Picture"]

LARGEST = 2048  # pixels of a side


@dataclass(frozen=True, eq=False)
class Picture:
    """What a model saw of a picture.

    Args:
        pixels: (height, width, 3) uint8, sRGB; at most 2,048 pixels high and wide.
        rows, columns: of the grid of parts (patches, regions).
        first: the token of the part at the top left; those before it, and any after the last part, are of no place
            ("[CLS]", registers).

    Raises:
        ValueError: pixels of another shape or type or too many, a grid without parts or finer than the pixels.
    """

    pixels: NDArray[np.uint8]
    rows: int
    columns: int
    first: int = 0

    def __post_init__(self) -> None:
        shape, kind = self.pixels.shape, self.pixels.dtype
        if kind != np.uint8 or len(shape) != 3 or shape[2] != 3:
            raise ValueError(f"a picture has pixels (height, width, 3) of uint8; got {tuple(shape)} of {kind}")
        if not max(shape[:2]) <= LARGEST:
            raise ValueError(f"a picture is at most {LARGEST} pixels high and wide; got {shape[0]} x {shape[1]}")
        if not (1 <= self.rows <= shape[0] and 1 <= self.columns <= shape[1]):
            raise ValueError(
                f"a grid has from 1 part to one for each pixel, here {shape[0]} x {shape[1]}; "
                f"got {self.rows} x {self.columns}"
            )
        if self.first < 0:
            raise ValueError(f"first is the token of the first part, 0 or more; got {self.first}")

    @property
    def parts(self) -> int:
        """How many tokens have a place in it."""
        return self.rows * self.columns

    def tokens(self, length: int) -> Tokens:
        """Names for `length` tokens: parts by row and column, from 1; others as special tokens.

        Raises:
            ValueError: the parts do not all fit.
        """
        after = length - self.first - self.parts
        if after < 0:
            raise ValueError(
                f"a grid of {self.rows} x {self.columns} parts from token {self.first} on needs "
                f"{self.first + self.parts} tokens; there are {length}"
            )
        names = [f"{row},{column}" for row in range(1, self.rows + 1) for column in range(1, self.columns + 1)]
        before = ["[CLS]" if place == 0 else f"[{place}]" for place in range(self.first)]
        rest = [f"[{self.first + self.parts + place}]" for place in range(after)]
        special = (True,) * self.first + (False,) * self.parts + (True,) * after
        return Tokens((*before, *names, *rest), tuple(range(length)), special)

    def apart(self, tokens: Tokens) -> Tokens:
        """These tokens with each part a word of its own, whatever words they made up.

        Raises:
            ValueError: the parts do not all fit.
        """
        self.tokens(len(tokens))
        parts = range(self.first, self.first + self.parts + 1)  # and what comes after begins a word
        begins = [at in parts or at == 0 or tokens.word[at] != tokens.word[at - 1] for at in range(len(tokens))]
        return Tokens(tokens.text, tuple(number - 1 for number in accumulate(begins)), tokens.special)

    def png(self) -> bytes:
        """The pixels as a PNG file.

        Raises:
            MissingExtraError: Pillow is not installed.
        """
        file = io.BytesIO()
        need("PIL.Image", "view").fromarray(self.pixels).save(file, format="PNG")
        return file.getvalue()

    def as_json(self) -> dict[str, Any]:
        height, width = self.pixels.shape[:2]
        return {
            "height": height,
            "width": width,
            "rows": self.rows,
            "columns": self.columns,
            "first": self.first,
            "png": base64.b64encode(self.png()).decode(),
        }
