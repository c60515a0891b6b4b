"""Pictures with matplotlib: `fv.plot.heatmap`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from foveate.apps.extras import need

__all__ = ["heatmap"]

_MOST_LABELS = 64


def heatmap(
    weights: Any, rows: Sequence[str] | None = None, columns: Sequence[str] | None = None, ax: Any | None = None
) -> Any:
    """Draw weights (Q, K) as a heatmap: queries downwards, keys to the right.

    Args:
        weights: numbers of two axes, such as `attention_map[0, 3]` or `attention_map[0, 3, :64, :64]`.
        rows: the names of the queries, at most 64 of which are written.
        columns: the names of the keys.
        ax: matplotlib axes to draw on; default a new figure's.

    Returns:
        The axes.

    Raises:
        ValueError: the weights have not two axes, or the names are not one for each row and column.
    """
    detached = weights.detach().float().cpu() if hasattr(weights, "detach") else weights
    grid = np.asarray(detached, dtype=np.float64)
    if grid.ndim != 2:
        raise ValueError(f"weights must have the axes (queries, keys); got shape {grid.shape}: choose a batch and head")
    for name, labels, size in (("rows", rows, grid.shape[0]), ("columns", columns, grid.shape[1])):
        if labels is not None and len(labels) != size:
            raise ValueError(f"{name} must name each of the {size} {name} of weights; got {len(labels)}")
    plt = need("matplotlib.pyplot", "plot")
    if ax is None:
        _, ax = plt.subplots(figsize=(_inches(grid.shape[1]) + 1.5, _inches(grid.shape[0]) + 0.8), layout="constrained")
    image = ax.imshow(grid, cmap="Blues", vmin=0, vmax=max(float(np.nanmax(grid, initial=0)), 1e-12), aspect="auto")
    ax.figure.colorbar(image, ax=ax, label="weight")
    _label(ax.set_xticks, columns, rotation=90)
    _label(ax.set_yticks, rows)
    ax.set_xlabel("key")
    ax.set_ylabel("query")
    return ax


def _inches(entries: int) -> float:
    return min(10.0, max(2.5, 0.28 * entries))


def _label(set_ticks: Any, labels: Sequence[str] | None, **options: Any) -> None:
    if labels is not None:
        step = -(-len(labels) // _MOST_LABELS)
        places = list(range(0, len(labels), step))
        # a dollar sign would start a formula
        set_ticks(places, [str(labels[i]).replace("$", r"\$") for i in places], **options)
