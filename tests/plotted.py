"""What the tests of plots share: maps and names to draw, and whether texts in a figure touch."""

from __future__ import annotations

import io
import itertools
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import foveate as fv

B, H, Q, K, D = 2, 3, 5, 7, 11
WORDS = ["The", "internationalisation", "of", "cats", "is", "a", "Weltanschauung", ",", "isn't", "it", "?"]


def some_map(*shape: int, queries: int = Q, keys: int = K, **options: Any) -> fv.AttentionMap:
    return fv.AttentionMap(2 * torch.randn(*shape, queries, D), torch.randn(*shape, keys, D), **options)


def names(count: int) -> list[str]:
    return [WORDS[i % len(WORDS)] + ("" if i < len(WORDS) else str(i)) for i in range(count)]


def svg(figure: Any) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="svg")
    return file.getvalue().decode()


def written(figure: Any) -> list[str]:
    """The texts of the SVG."""
    found = re.findall(r"<text[^>]*>(.*?)</text>", svg(figure), re.DOTALL)
    return [re.sub(r"<.*?>", "", text).strip() for text in found]


def labels(axis: Any) -> list[Any]:
    """The tick labels that are drawn."""
    low, high = sorted(axis.get_view_interval())
    placed = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
    return [label for place, label in placed if label.get_text() and low <= place <= high]


def check_apart(texts: list[Any], others: list[Any] | None = None) -> None:
    """No two of some texts touch; or none of them any of the others."""
    first, second = texts, texts if others is None else others
    if not first or not second:
        return
    (a0, b0, a1, b1), (c0, d0, c1, d1) = (
        np.array([t.get_window_extent().extents for t in x]).T for x in (first, second)
    )
    touch = (a0[:, None] < c1) & (c0 < a1[:, None]) & (b0[:, None] < d1) & (d0 < b1[:, None])
    if others is None:
        np.fill_diagonal(touch, False)
    pairs = [(first[i].get_text(), second[j].get_text()) for i, j in np.argwhere(touch)]
    assert not pairs, f"these overlap: {pairs[:3]}"


def check_layout(figure: Any) -> None:
    """No two tick labels of an axis, or two texts of a kind, touch, and no text is cut off."""
    figure.draw_without_rendering()
    for ax in figure.axes:
        ticks = [labels(axis) for axis in (ax.xaxis, ax.yaxis) if axis.get_visible()]
        legend = ax.get_legend()
        groups = [*ticks, list(ax.texts), [] if legend is None else legend.get_texts()]
        singles = [text for text in (ax.title, ax.xaxis.label, ax.yaxis.label) if text.get_text()]
        for group in groups:
            check_apart(group)
        check_apart(singles)
        check_apart(singles, list(itertools.chain(*ticks)))
        for text in itertools.chain(*groups, singles):
            x0, y0, x1, y1 = text.get_window_extent().extents
            inside = x0 >= -1 and y0 >= -1 and x1 <= figure.bbox.x1 + 1 and y1 <= figure.bbox.y1 + 1
            assert inside, f"{text.get_text()!r} is cut off"


def translation(**more: Any) -> SimpleNamespace:
    weights = torch.tensor([[0.1, 0.8, 0.1], [0.6, 0.3, 0.1]])
    return SimpleNamespace(
        word_weights=weights,
        source_words=("black", "cats", "."),
        words=("chats", "noirs"),
        alignment=frozenset({(1, 0), (0, 1)}),
        **more,
    )
