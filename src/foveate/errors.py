"""Errors meant for people: one sentence that says what was wrong and what to do."""

from __future__ import annotations

__all__ = ["UserError"]


class UserError(ValueError):
    """Something the user can mend; the command line and the page show its text and nothing else."""
