"""The models that come with the package, by the names that `foveate view NAME` takes; none needs a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foveate.apps.task_model import TaskModel
    from foveate.apps.workspace import Model

__all__ = ["BUILTINS", "USUAL", "builtin", "pointer"]

QUESTIONS = [
    "What is the capital of France? France is a country. Paris is the capital.",
    "Who rules Veldania? Veldania is an old kingdom by the sea. Its capital is Orsk. It is ruled by Mira Toval. "
    "Gandor Bel rules Kessland. The flag of Kessland is dark blue.",
    "What does Ada Brenn play? Ada Brenn lives in Port Lunn. Her instrument is the church organ. Jon Tarvik lives in "
    "New Solm. He plays the violin.",
]


PHRASES = [
    "scene 28: the red circle left of the cyan circle",
    "scene 28: the red circle right of the cyan circle",
    "scene 4: the red circle left of the small red shape",
    "scene 16: the orange square above the green square",
]


def _resolver() -> Model:
    from foveate.apps.builtin import BuiltinModel

    return BuiltinModel()


def _answerer() -> Model:
    from foveate.apps.task_model import TaskModel
    from foveate.tasks.answerer import load_builtin

    return TaskModel(load_builtin(), name="foveate's built-in answerer", examples=QUESTIONS)


def pointer() -> TaskModel:
    """What points in pictures."""
    from foveate.apps.task_model import TaskModel
    from foveate.tasks.grounder import load_builtin

    return TaskModel(load_builtin(), name="foveate's built-in pointer", examples=PHRASES)


def _translator() -> Model:
    from foveate.apps.commands.common import load_translator
    from foveate.apps.translation import TranslationModel
    from foveate.tasks.translation import store

    fixed = "en-fr-fixed"  # the same without attention, whose translation is shown beside
    translator = load_translator(None)
    return TranslationModel(translator, store.builtin(fixed) if fixed in store.builtins() else None)


BUILTINS: dict[str, Callable[[], Model]] = {
    "resolve": _resolver,
    "qa": _answerer,
    "ground": pointer,
    "translate": _translator,
}
USUAL = "resolve"


def builtin(name: str | None) -> Model | None:
    """The model of this name, or the usual one; None if none is called so, or if a file or folder is.

    Raises:
        UserError: it is not part of this installation.
    """
    if name is not None and (name not in BUILTINS or Path(name).exists()):
        return None
    return BUILTINS[name or USUAL]()
