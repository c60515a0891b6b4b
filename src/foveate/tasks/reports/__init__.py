"""Made-up reports in English with a headline each: names and numbers that nobody can have learned by heart."""

from .drawing import SPLITS, Report, reports

__all__ = ["SPLITS", "Report", "reports"]
