"""Errors meant for people, those of the command line among them."""

from __future__ import annotations

from foveate.errors import UserError

__all__ = ["UsageError", "UserError"]


class UsageError(UserError):
    """The command was not given what it needs; exit code 2."""
