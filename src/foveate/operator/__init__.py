"""The operator: the canonical problem, its backends, and the choice between them."""

from .choice import BACKENDS, Choice, choose
from .engine import ENGINES, engine
from .observers import observe, revise, tell
from .problem import Block, Problem, Strip, statistics, strips

__all__ = [
    "BACKENDS",
    "ENGINES",
    "Block",
    "Choice",
    "Problem",
    "Strip",
    "choose",
    "engine",
    "observe",
    "revise",
    "statistics",
    "strips",
    "tell",
]
