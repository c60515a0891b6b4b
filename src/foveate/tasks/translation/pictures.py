"""Pictures that a run leaves behind: how alignment emerges (matplotlib; without it there are none)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...extras import MissingExtraError
from ...plot import alignment
from ...plot.style import drawing, paper
from ..training.curves import DOTS, save_figure

if TYPE_CHECKING:
    from .translator import Translator

__all__ = ["draw_alignments"]


def draw_alignments(translator: Translator, pairs: Sequence[tuple[str, str]], path: Path) -> None:
    """What each target word of given pairs reads, as heatmaps side by side; nothing without matplotlib."""
    try:
        with drawing():
            figure = paper(3.3 * len(pairs), 3.3, dpi=DOTS, layout="constrained")
    except MissingExtraError:
        return
    encoded = [(translator.subwords.encode(s), translator.subwords.encode(t)) for s, t in pairs]
    for place, one in enumerate(translator.force(encoded)):
        axes = figure.add_subplot(1, len(pairs), place + 1)
        alignment(one.word_weights(translator.reading), one.source.shown, one.target.shown, ax=axes, bar=False)
    save_figure(figure, path)
