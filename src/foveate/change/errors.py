"""What an intervention says when it cannot do what was asked."""

from __future__ import annotations

__all__ = ["ChangeError", "ChangeWarning", "NoSuchHeadError"]


class ChangeError(RuntimeError):
    """Attention could not be changed as asked, or what was to be changed never ran; the text says what and why."""


class NoSuchHeadError(ChangeError, ValueError):
    """A layer, module or head that is not there, or a name that several have."""


class ChangeWarning(UserWarning):
    """Some of what was to be changed never ran."""
