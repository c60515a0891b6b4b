"""Heads: what each one does over a corpus, whether it matters, and life without it: docs/survey.md, docs/change.md,
docs/prune.md."""

from .importance import importance
from .pruning.moments import moments
from .pruning.prune import Pruned, prunable, prune
from .pruning.store import load, restore, save
from .ranking import Importance, agreement
from .subject import Subject, subject_of
from .surveying import survey

__all__ = [
    "Importance",
    "Pruned",
    "Subject",
    "agreement",
    "importance",
    "load",
    "moments",
    "prunable",
    "prune",
    "restore",
    "save",
    "subject_of",
    "survey",
]
