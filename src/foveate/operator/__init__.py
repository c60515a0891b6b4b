"""The operator: the canonical problem, its backends, and the choice between them."""

from .choice import BACKENDS, Choice, choose
from .observers import observe, tell
from .problem import Block, Problem, Strip, statistics, strips

__all__ = ["BACKENDS", "Block", "Choice", "Problem", "Strip", "choose", "observe", "statistics", "strips", "tell"]
