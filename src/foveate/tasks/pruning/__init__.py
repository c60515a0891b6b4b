"""Pruning heads of a trained model: what to remove, by which schedule, and what it costs. See docs/prune.md."""

from .run import Plan, Report, run
from .subject import Subject

__all__ = ["Plan", "Report", "Subject", "run"]
