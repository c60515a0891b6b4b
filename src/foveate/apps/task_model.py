"""A model of one of our recipes behind the page: what it says of a text, and what it read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from foveate.apps.errors import UserError
from foveate.apps.models import title_of
from foveate.apps.workspace import Kind, Model, Report
from foveate.tasks.recipe import Answer, Predictor
from foveate.views.document import Focus
from foveate.views.pictures import Picture
from foveate.views.source import Source
from foveate.views.words import Tokens, from_words
from foveate.watch import CaptureError, watch

__all__ = ["TaskModel", "open_folder"]

EXAMPLES = ["A text of a few words is enough."]


class TaskModel:
    """A classifier, a tagger, ...: runs on a text, for the page.

    Args:
        predictor: the model.
        name: for people; default: what kind of model it is.
        examples: texts to try; default: those that the model's description names.
    """

    kind: Kind = "encoder"
    max_tokens = 2000

    def __init__(self, predictor: Predictor[Any], *, name: str = "", examples: Sequence[str] = ()) -> None:
        self.predictor = predictor
        self.name = name or predictor.recipe.shape.name
        self.examples = list(examples or predictor.examples or EXAMPLES)

    def about(self, path: Path) -> None:
        """From now on texts are about this picture.

        Raises:
            UserError: the model reads no pictures, or there is none in the file.
        """
        from foveate.tasks.grounder import Grounder
        from foveate.tasks.photos import Photo

        if not isinstance(self.predictor, Grounder):
            raise UserError(f"{self.name} reads texts and no pictures: leave out --image")
        self.predictor.picture = Photo.of(path)
        self.examples = self.predictor.examples

    def run(self, text: str, target: str | None, report: Report) -> Source:
        """Record the model on a text.

        Raises:
            UserError: there is no word, there are too many, or the model has no attention to look at.
        """
        report(0.3, "Reading the text")
        try:
            with torch.no_grad(), watch(self.predictor.model, self.predictor.shown, keep="qkv") as seen:
                found = self.predictor.look(text)
        except CaptureError:
            raise UserError(self._blind()) from None
        except ValueError as error:
            raise UserError(str(error)) from None
        seen.model = self.name
        pooled = [i for i, name in enumerate(seen) if seen.info(name).kind == "cross"]
        queries = [from_words(found.queries)] if pooled else None
        tokens, pictures = _read(found)
        source = Source(seen, [tokens], queries, title=title_of(text), model=self.name, pictures=pictures)
        focus = Focus(token=0, call=pooled[-1], head=0) if pooled else None
        return source.with_answer(found.message, focus, notes=(*source.document().notes, *found.notes))

    def _blind(self) -> str:
        recipe = self.predictor.recipe
        other = "--arch or --pooling" if any("pooling" in sizes for sizes in recipe.sizes.values()) else "--arch"
        return (
            f"This model ({recipe.shape.name}) has no attention to look at; train one with another {other}, or use it "
            f"in the terminal: foveate {recipe.command}."
        )


def _read(found: Answer) -> tuple[Tokens, list[Picture]]:
    """What was read: words, or the parts of a picture, and that."""
    if found.pixels is None:
        return from_words(found.words), []
    picture = Picture(found.pixels, *found.grid, first=len(found.words))
    names = picture.tokens(len(found.words) + picture.parts)
    return replace(names, text=(*found.words, *names.text[len(found.words) :])), [picture]


def open_folder(folder: str | Path) -> Model | None:
    """The model in a folder that `foveate train` left; None if it holds something else.

    Raises:
        UserError: it should be one, and cannot be read.
    """
    from foveate.tasks.recipes import PREDICTORS

    folder = Path(folder)
    try:
        task = json.loads((folder / "model.json").read_text(encoding="utf-8"))["task"]
    except (OSError, KeyError, TypeError):
        return None
    except ValueError:
        raise UserError(f"model.json in {folder.resolve().name} is cut off, or something else") from None
    if task not in PREDICTORS:
        from foveate.apps import translation

        return translation.open_folder(folder)
    try:
        return TaskModel(PREDICTORS[task](folder), name=folder.resolve().name)
    except ValueError as error:
        raise UserError(str(error)) from None
