"""English-French sentence pairs whose word alignment is known, written by a grammar."""

from __future__ import annotations

from .draft import HELD_OUT
from .drawing import generate
from .sentence import PHENOMENA, Sentence

__all__ = ["HELD_OUT", "PHENOMENA", "Sentence", "generate"]
