"""What importance is told in: one row a head; and how far two such tables order heads alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from ..change.naming import Pair
from ..extras import need
from .correlation import kendall, spearman

__all__ = ["Importance", "Row", "agreement"]


@dataclass(frozen=True)
class Row:
    """One head. `error` is the standard error of `importance`, None where it has none."""

    module: str
    layer: int | None
    kind: str
    head: int
    importance: float
    error: float | None = None


@dataclass(frozen=True)
class Importance:
    """Heads and their importance, in the order of the model; a head that matters more has the larger number.

    `method` is how it was found, `options` with what, `count` over how many sequences or batches.
    """

    method: str
    rows: tuple[Row, ...]
    count: int
    options: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def ranked(self) -> tuple[Row, ...]:
        """The most important head first."""
        return tuple(sorted(self.rows, key=lambda row: -row.importance))

    def pairs(self) -> list[Pair]:
        """(module, head) of each row, as `fv.knockout` takes them."""
        return [(row.module, row.head) for row in self.rows]

    def to_pandas(self) -> Any:
        """A DataFrame with the columns module, layer, kind, head, importance, error.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return need("pandas", "heads").DataFrame([vars(row) for row in self.rows])

    def __repr__(self) -> str:
        best = ", ".join(f"({row.module}, {row.head}) {row.importance:.3g}" for row in self.ranked()[:3])
        return f"Importance({self.method}, {len(self)} heads; first {best})"


def agreement(a: Importance, b: Importance) -> dict[str, float]:
    """Rank correlations of two tables over the heads that both have: "spearman" and "kendall" (tau-b), -1 to 1, NaN
    where one of them does not tell heads apart; "heads" is how many these are.

    Raises:
        ValueError: they have fewer than two heads in common.
    """
    mine = {pair: row.importance for pair, row in zip(a.pairs(), a.rows, strict=True)}
    theirs = {pair: row.importance for pair, row in zip(b.pairs(), b.rows, strict=True)}
    common = [pair for pair in mine if pair in theirs]
    if len(common) < 2:
        raise ValueError(f"rankings agree over two heads or more; these have {len(common)} in common")
    x, y = (torch.tensor([table[pair] for pair in common], dtype=torch.float64) for table in (mine, theirs))
    return {"spearman": spearman(x, y), "kendall": kendall(x, y), "heads": len(common)}
