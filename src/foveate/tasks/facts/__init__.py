"""Made-up facts in English, and questions about them: pages that nobody can have learned by heart."""

from .drawing import SPLITS, Question, facts, questions

__all__ = ["SPLITS", "Question", "facts", "questions"]
