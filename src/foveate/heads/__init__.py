"""Heads: whether each one matters."""

from .importance import importance
from .ranking import Importance, agreement

__all__ = ["Importance", "agreement", "importance"]
