"""Heads: what each one does over a corpus. See docs/survey.md."""

from __future__ import annotations

from .subject import Subject, subject_of
from .surveying import survey

__all__ = ["Subject", "subject_of", "survey"]
