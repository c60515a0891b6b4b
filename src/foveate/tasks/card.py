"""The model card that a run of a recipe writes: what was trained, how, on what, and how good it became."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .files import save_text
from .training.run import on_what

__all__ = ["write_card"]


def write_card(path: Path, title: str, sizes: dict[str, Any], facts: dict[str, Any]) -> None:
    """Markdown; everything in it is in `model.json` too."""
    trained, data, test = facts["trained"], facts["data"], facts["test"]
    lines = [
        f"# {title}",
        "",
        f"- Model: {facts['parameters']:,} parameters; {', '.join(f'{name} {size}' for name, size in sizes.items())}.",
        f"- Training data: {_of(data['train'])}; {data['train']['reading']}.",
        f"- Training: {on_what(trained)}; seed {facts['settings']['options']['seed']}.",
        f"  Chosen: {trained['chosen']}.",
        f"- Validation on {_of(data['valid'])}: {_told(trained['validation'])}.",
    ]
    if test is not None:
        lines.append(f"- Test on {_of(data['test'])}, looked at once: {_told(test)}.")
    if facts["command"]:
        lines.append(f"- Command: `{facts['command']}`")
    lines += ["", "What a word is weighted with is a statistic of the computation, and no explanation by itself.", ""]
    save_text(path, "\n".join(lines))


def _of(data: dict[str, Any]) -> str:
    return f"{data['file']}, {data['examples']:,} examples"


def _told(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g} %" if name.startswith("accuracy") else f"{name} {value:.4g}"
                     for name, value in metrics.items())  # fmt: skip
