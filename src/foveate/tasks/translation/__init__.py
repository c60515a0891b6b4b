"""Translation with attention, and what it shows: train, translate, align."""

from .forcing import Forced
from .shape import Shape
from .store import builtin, load, restore, save
from .translator import Sampling, Translation, Translator

__all__ = ["Forced", "Sampling", "Shape", "Translation", "Translator", "builtin", "load", "restore", "save"]
