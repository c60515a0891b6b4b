"""Heads: what each one does, whether it matters, and life without it."""

from .pruning.prune import Pruned, prunable, prune
from .pruning.store import load, restore, save
from .pruning.switches import average

__all__ = ["Pruned", "average", "load", "prunable", "prune", "restore", "save"]
