"""A trained model that points at what a phrase is about in a picture."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .grounding import Grounding, Picture, middle, peak
from .photos import Photo, shown_of
from .pointing import MOST_WORDS
from .recipe import Answer, Predictor, opened, told
from .scenes import scenes
from .words import cut_texts

__all__ = ["Grounded", "Grounder", "load", "load_builtin", "scene"]

SCENES = 10**9  # numbers that drawn scenes have, from 1
TRIED = (1, 2, 3, 4)  # scenes whose first phrase a page offers to try
POINTS = "Of a pointer, a row is where the phrase from this word on points; the first row is the whole phrase."
_OF_SCENE = re.compile(r"\s*scene\s+(\d{1,10})\s*[:,]?\s*", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Grounded:
    """Where a phrase points in a picture.

    words: of the phrase. unknown: those of them that training never met.
    fits: how probable it is that something in the picture fits the phrase.
    weights_LYX: (words, rows, columns), float32: how the phrase from this word on points at regions; the first row is
        the whole phrase, and sums to `fits`.
    x, y: where the whole phrase points, in pixels of the picture: the middle of the weight of the strongest region and
        those around it.
    """

    picture: Picture
    words: tuple[str, ...]
    unknown: tuple[str, ...]
    fits: float
    weights_LYX: NDArray[np.float32]
    x: float
    y: float

    @property
    def place(self) -> tuple[int, int]:
        """Row and column of the strongest region, from 0."""
        row, column = divmod(int(self.weights_LYX[0].argmax()), self.weights_LYX.shape[2])
        return row, column


def scene(number: int) -> Picture:
    """A scene that the project draws, the same for the same number; training showed no colour and shape like its first.

    Raises:
        ValueError: the number is not from 1 to a billion.
    """
    if not 1 <= number <= SCENES:
        raise ValueError(f"scenes have numbers from 1 to {SCENES:,}; got {number}")
    (drawn,) = scenes(number, 1, split="test")
    return drawn.scene


class Grounder(Predictor[Grounding]):
    """A trained model; `load` makes one. `picture`: what a phrase is about that names no scene."""

    def __init__(self, recipe: Grounding, model: nn.Module, facts: dict[str, Any]) -> None:
        super().__init__(recipe, model, facts)
        self.picture: Picture | None = None

    @property
    def examples(self) -> list[str]:
        """Scenes with a phrase each; of a picture that is given, phrases of training's kind."""
        told = [_first_of(number) for number in TRIED]
        return [text.partition(": ")[2] for text in told] if self.picture is not None else told

    def look(self, text: str) -> Answer:
        """The same for a text such as "scene 7: the red circle"; without a scene, of `picture`."""
        named = _OF_SCENE.match(text)
        picture = scene(int(named[1])) if named else self.picture
        if picture is None:
            raise ValueError('a phrase is about a picture: say which scene, as in "scene 7: the red circle"')
        found = self.ground(picture, text[named.end() :] if named else text)
        grid = self.recipe.shape.grid
        notes = (POINTS, *([f"not known: {', '.join(found.unknown)}"] if found.unknown else []))
        what = "fits here" if found.fits >= 0.5 else "fits nothing"
        said = told(f"{' '.join(found.words)}: {what}", max(found.fits, 1 - found.fits))
        return Answer(("nowhere",), said, found.words, notes, shown_of(picture), (grid, grid))

    @torch.no_grad()
    def ground(self, picture: Picture | str | Path, phrase: str) -> Grounded:
        """Where a phrase points in a picture: one that the project drew (`scene`), or a file.

        Raises:
            ValueError: there is no word in the phrase, or there are too many, or no picture in the file.
        """
        if isinstance(picture, str | Path):
            picture = Photo.of(Path(picture))
        (words,) = cut_texts([phrase], MOST_WORDS)
        recipe, grid = self.recipe, self.recipe.shape.grid
        numbers = torch.tensor([[[recipe.words.number(word) for word in words]]])
        maps, _ = self.model(torch.from_numpy(recipe.pixels([picture])), numbers)
        weights: Tensor = maps[-1][...]
        weights_LYX = weights[0, 0, :, 1:].reshape(len(words), grid, grid).float().numpy()
        x, y = middle(*peak(weights_LYX[0]), grid, picture)
        unknown = tuple(word for word in words if not recipe.words.knows(word))
        fits = float(weights_LYX[0].sum())
        return Grounded(picture, tuple(words), unknown, min(1.0, fits), weights_LYX, x, y)


def _first_of(number: int) -> str:
    """A scene and the first phrase that fits it, as `look` reads it."""
    (drawn,) = scenes(number, 1, split="test")
    phrase = next(phrase for phrase, box in zip(drawn.phrases, drawn.boxes, strict=True) if box is not None)
    return f"scene {number}: {phrase}"


def load(folder: str | Path) -> Grounder:
    """The model that `foveate train ground -o folder` left.

    Raises:
        ValueError: there is none, or its files do not belong together.
    """
    return Grounder(*opened(folder, Grounding))


def load_builtin() -> Grounder:
    """The model of the package, which knows the shapes, colours and relations of drawn scenes (`tasks.scenes`)."""
    with resources.as_file(resources.files(__package__) / "scenes" / "weights") as folder:
        return load(folder)
