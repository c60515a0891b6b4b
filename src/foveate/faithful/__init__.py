"""Does attention explain a prediction? See docs/faithful.md.

print(fv.faithful.report(model, "a dull film", tokenizer=tokenizer))
"""

from .errors import FaithfulError
from .explain import report
from .result import LABELS, Report, Score
from .rolled import rollout

__all__ = ["LABELS", "FaithfulError", "Report", "Score", "report", "rollout"]
