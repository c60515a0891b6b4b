"""Heads: what each one does over a corpus, whether it matters, and life without it: docs/survey.md, docs/prune.md."""

from .pruning.moments import moments
from .pruning.prune import Pruned, prunable, prune
from .pruning.store import load, restore, save
from .subject import Subject, subject_of
from .surveying import survey

__all__ = ["Pruned", "Subject", "load", "moments", "prunable", "prune", "restore", "save", "subject_of", "survey"]
