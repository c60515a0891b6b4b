"""docs/masks.png: what each mask lets a query see. Rows are queries, columns keys. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from foveate import masks
from foveate.masks import Coverage, Mask
from foveate.shapes import Geometry, Layout

matplotlib.use("Agg")
from matplotlib import pyplot

N, CELL = 64, 8
INK, DEAD, PAPER = (31, 78, 121), (228, 231, 235), (255, 255, 255)
SHOWN: list[tuple[str, Mask]] = [
    ("causal()", masks.causal()),
    ("causal() & window(12)", masks.causal() & masks.window(12)),
    ("causal() | prefix(16)", masks.causal() | masks.prefix(16)),
    ("documents(lengths=...)", masks.documents(lengths=[12, 24, 8, 20])),
    ("packed(..., causal=True)", masks.packed([12, 24, 8, 20], [20, 16, 18, 10], causal=True)),
    ("dilated(5, dilation=4)", masks.dilated(5, dilation=4)),
    ("strided(8)", masks.strided(8)),
    ("fixed(8, summary=2)", masks.fixed(8, 2)),
    ("longformer(5, [0, 30])", masks.longformer(5, [0, 30])),
    ("bigbird(4, random=2)", masks.bigbird(4, random=2, seed=5)),
    ("block_sparse(layout, 8)", masks.block_sparse(torch.eye(8) + torch.eye(8).roll(2, 1) > 0, 8)),
    ("neighbourhood((8, 8), 5)", masks.neighbourhood((8, 8), 5)),
]


def pixels(mask: Mask) -> Tensor:
    """(N, N, 3): dark where a query sees a key, grey where a block of CELL x CELL keys need not be looked at."""
    g = Geometry(1, 1, N, N)
    mask = mask.settle(Layout((1,), 2), g)
    place = torch.arange(N)
    seen = mask.predicate(g)(torch.tensor(0), torch.tensor(0), place[:, None], place).expand(N, N)
    picture = torch.tensor(PAPER).expand(N, N, 3).clone()
    for r in range(0, N, CELL):
        for c in range(0, N, CELL):
            if mask.coverage(g, (r, r + CELL), (c, c + CELL)) is Coverage.NONE:
                picture[r : r + CELL, c : c + CELL] = torch.tensor(DEAD)
    picture[seen] = torch.tensor(INK)
    return picture


def main() -> None:
    figure, axes = pyplot.subplots(2, 6, figsize=(13, 4.9), dpi=110, layout="constrained")
    for axis, (name, mask) in zip(axes.flat, SHOWN, strict=True):
        axis.imshow(pixels(mask).numpy().astype("uint8"), interpolation="nearest")
        axis.set_title(name, fontsize=8.5, family="monospace", pad=5)
        axis.set(xticks=[], yticks=[])
        for edge in axis.spines.values():
            edge.set(color="#9aa3ad", linewidth=0.8)
    figure.savefig(Path(__file__).parent.parent / "docs" / "masks.png")


if __name__ == "__main__":
    main()
