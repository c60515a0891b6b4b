"""Heads: what each one does, whether it matters, and life without it."""

from .pruning.moments import moments
from .pruning.prune import Pruned, prunable, prune
from .pruning.store import load, restore, save

__all__ = ["Pruned", "load", "moments", "prunable", "prune", "restore", "save"]
