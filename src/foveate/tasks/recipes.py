"""The tasks that are recipes: `foveate train` offers each, and `foveate view` opens what they left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import answerer, classification, grounder, tagging
from .answering import Answering
from .classification import Classification
from .grounding import Grounding
from .recipe import Predictor, Recipe
from .tagging import Tagging

__all__ = ["PREDICTORS", "RECIPES"]

RECIPES: tuple[type[Recipe[Any]], ...] = (Classification, Tagging, Answering, Grounding)
PREDICTORS: dict[str, Callable[[str | Path], Predictor[Any]]] = {
    Classification.task: classification.load,
    Tagging.task: tagging.load,
    Answering.task: answerer.load,
    Grounding.task: grounder.load,
}
