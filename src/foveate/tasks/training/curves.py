"""A picture of a run: its loss and what it is judged by, over steps (matplotlib; without it there is none)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...extras import MissingExtraError
from ...plot.style import COLOURS, drawing, paper
from ..files import replace_file
from .report import read_log

__all__ = ["DOTS", "draw_curves", "save_figure"]

DOTS = 110  # per inch


def draw_curves(log: Path, path: Path, metric: str, unit: str) -> None:
    """Training loss (nats for each `unit`) and a metric of validation over steps; nothing without matplotlib."""
    lines = read_log(log)
    try:
        with drawing(9):
            figure = paper(7, 3, dpi=DOTS, layout="constrained")
            _curves(figure.add_subplot(), lines, metric, unit)
            save_figure(figure, path)
    except MissingExtraError:
        return


def save_figure(figure: Any, path: Path) -> None:
    """As PNG, in one step."""
    replace_file(path, lambda temporary: figure.savefig(temporary, format="png"))


def _curves(axes: Any, lines: Sequence[dict[str, Any]], metric: str, unit: str) -> None:
    learned = [line for line in lines if line["kind"] == "train"]
    judged = [line for line in lines if line["kind"] == "valid"]
    axes.plot([line["step"] for line in learned], [line["loss"] for line in learned], color=COLOURS[0], linewidth=1)
    axes.set(xlabel="step", ylabel=f"loss, nats per {unit}")
    other = axes.twinx()
    other.plot([line["step"] for line in judged], [line[metric] for line in judged], "o-", color=COLOURS[1],
               markersize=3)  # fmt: skip
    other.set_ylabel(f"validation {metric}", color=COLOURS[1])
    other.set_ylim(bottom=0)
