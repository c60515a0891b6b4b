"""What a report says when it cannot be made."""

from __future__ import annotations

from ..errors import UserError

__all__ = ["FaithfulError"]


class FaithfulError(UserError):
    """The model, text or target does not fit a report; the text says what does."""
