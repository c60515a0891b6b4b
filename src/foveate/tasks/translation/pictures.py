"""Pictures that a run leaves behind: its curves, and how alignment emerges (matplotlib; without it there are none)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...extras import MissingExtraError
from ...plot import alignment
from ...plot.style import COLOURS, drawing, paper
from ..files import replace_file
from ..training.report import read_log

if TYPE_CHECKING:
    from .translator import Translator

__all__ = ["draw_alignments", "draw_curves"]

_DOTS = 110  # per inch


def draw_curves(log: Path, path: Path) -> None:
    """Training loss and validation BLEU over steps; nothing without matplotlib."""
    lines = read_log(log)
    try:
        with drawing(9):
            figure = paper(7, 3, dpi=_DOTS, layout="constrained")
            _curves(figure.add_subplot(), lines)
            _save(figure, path)
    except MissingExtraError:
        return


def _curves(axes: Any, lines: Sequence[dict[str, Any]]) -> None:
    learned = [line for line in lines if line["kind"] == "train"]
    judged = [line for line in lines if line["kind"] == "valid"]
    axes.plot([line["step"] for line in learned], [line["loss"] for line in learned], color=COLOURS[0], linewidth=1)
    axes.set(xlabel="step", ylabel="loss, nats per token")
    other = axes.twinx()
    bleu = [line["BLEU"] for line in judged]
    other.plot([line["step"] for line in judged], bleu, "o-", color=COLOURS[1], markersize=3)
    other.set_ylabel("validation BLEU", color=COLOURS[1])
    other.set_ylim(bottom=0)


def draw_alignments(translator: Translator, pairs: Sequence[tuple[str, str]], path: Path) -> None:
    """What each target word of given pairs reads, as heatmaps side by side; nothing without matplotlib."""
    try:
        with drawing():
            figure = paper(3.3 * len(pairs), 3.3, dpi=_DOTS, layout="constrained")
    except MissingExtraError:
        return
    encoded = [(translator.subwords.encode(s), translator.subwords.encode(t)) for s, t in pairs]
    for place, one in enumerate(translator.force(encoded)):
        axes = figure.add_subplot(1, len(pairs), place + 1)
        alignment(one.word_weights(translator.reading), one.source.shown, one.target.shown, ax=axes, bar=False)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    replace_file(path, lambda temporary: figure.savefig(temporary, format="png"))
