"""The model card that a run writes: what was trained, on what, for how long, and how good it became."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..files import save_text
from ..training.run import on_what
from .shape import Shape
from .task import TranslationTask

__all__ = ["write_card"]


def write_card(path: Path, shape: Shape, task: TranslationTask, facts: dict[str, Any]) -> None:
    """Markdown; everything in it is in `model.json` too."""
    trained, settings = facts["trained"], facts["settings"]
    if shape.arch == "transformer":
        sizes = f"{shape.layers} + {shape.layers} layers, {shape.heads} heads, inner width {shape.inner}"
    else:
        sizes = f"hidden {shape.hidden}"
    direction = " (second language to first)" if settings["reverse"] else ""
    metrics = ", ".join(f"{name} {value:g}" for name, value in trained["validation"].items())
    save_text(
        path,
        f"""# A {task.goal.maker}: {shape.name}

- Model: {shape.name}, width {shape.width}, {sizes}, {facts["parameters"]:,} parameters,
  {trained["vocabulary"]:,} sub-words{"; kept in float16" if settings["half"] else ""}.
- Data: {", ".join(trained["data"])}, {trained["pairs"]:,} pairs{direction}; {trained["reading"]}.
- Training: {on_what(trained)}; seed {settings["options"]["seed"]}.
  Chosen: {trained["chosen"]}.
- Validation on {", ".join(trained["valid"])}, {trained["valid_pairs"]:,} pairs (greedy search,
  {task.scored}): {metrics}.

What a word reads is a statistic of the computation. It often names the words that a person would align, and need not.
""",
    )
