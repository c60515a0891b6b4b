"""Pictures that a run leaves behind: its curves, and how alignment emerges (matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import replace_file
from ..training.report import read_log

if TYPE_CHECKING:
    from .translator import Translator

__all__ = ["draw_alignments", "draw_curves"]


def draw_curves(log: Path, path: Path) -> None:
    """Training loss and validation BLEU over steps; nothing without matplotlib."""
    lines = read_log(log)
    learned = [line for line in lines if line["kind"] == "train"]
    judged = [line for line in lines if line["kind"] == "valid"]
    figure = _figure((7, 3))
    if figure is None:
        return
    axes = figure.add_subplot()
    axes.plot([line["step"] for line in learned], [line["loss"] for line in learned], color="#1f4e79", linewidth=1)
    axes.set(xlabel="step", ylabel="loss, nats per token")
    other = axes.twinx()
    other.plot(
        [line["step"] for line in judged], [line["BLEU"] for line in judged], "o-", color="#c55a11", markersize=3
    )
    other.set_ylabel("validation BLEU", color="#c55a11")
    other.set_ylim(bottom=0)
    replace_file(path, lambda temporary: figure.savefig(temporary, format="png"))


def draw_alignments(translator: Translator, pairs: Sequence[tuple[str, str]], path: Path) -> None:
    """What each target word of given pairs reads, as heatmaps side by side; nothing without matplotlib."""
    figure = _figure((4.2 * len(pairs), 4.2))
    if figure is None:
        return
    encoded = [(translator.subwords.encode(s), translator.subwords.encode(t)) for s, t in pairs]
    for place, one in enumerate(translator.force(encoded)):
        axes = figure.add_subplot(1, len(pairs), place + 1)
        axes.imshow(one.word_weights(translator.reading).numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(one.source.shown)), one.source.shown, rotation=60, ha="left", fontsize=8)
        axes.set_yticks(range(len(one.target.shown)), one.target.shown, fontsize=8)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
    replace_file(path, lambda temporary: figure.savefig(temporary, format="png"))


def _figure(size: tuple[float, float]) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    return Figure(figsize=size, dpi=110, layout="constrained")
