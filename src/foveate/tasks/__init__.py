"""Things to do with attention: translate, classify, tag, align words, resolve a pronoun."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import alignment, classification, resolve, tagging, translation

__all__ = ["alignment", "classification", "resolve", "tagging", "translation"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'foveate.tasks' has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
