"""Links, pairs of a query and a key that it reads: the prediction without those read most, least, and at random.

Axes: N tokens (queries and keys), L links in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .attributions import weighted
from .curves import Curve, how_many
from .layers import Layer, blocks
from .removing import Removal

__all__ = ["MOST_TOKENS", "Links", "links_tested"]

MOST_TOKENS = 512
_RANDOM = 10


@dataclass(frozen=True)
class Links:
    """Links between different tokens, taken away in all layers and heads: how many there are, and what becomes of the
    prediction without the most attended ones (mean weight over layers and heads), the least attended, those with the
    largest gradient x attention, and random ones."""

    count: int
    most: Curve
    least: Curve
    gradient: Curve
    random: tuple[Curve, ...]


def links_tested(removal: Removal, layers: Sequence[Layer], log_odds: float, samples: int, seed: int) -> Links | None:
    """None where tokens do not read each other, or fewer than two links are there."""
    layers = [layer for layer in layers if layer.among_tokens]
    if not layers:
        return None
    read_NN = torch.zeros(layers[0].weights.shape[-2:], dtype=torch.float64, device=layers[0].weights.device)
    felt_NN = torch.zeros_like(read_NN)
    for layer in layers:
        for at, w_HRN in blocks(layer.weights):
            read_NN[at] += w_HRN.mean(0) / len(layers)
        for at, both_HRN in weighted(layer):
            felt_NN[at] += both_HRN.sum(0)
    there_L = (read_NN.fill_diagonal_(0) > 0).flatten().nonzero()[:, 0]
    if len(there_L) < 2:
        return None
    draw = torch.Generator().manual_seed(seed)
    random = [torch.randperm(len(there_L), generator=draw).to(there_L.device) for _ in range(min(samples, _RANDOM))]
    by_read_L = random[0][read_NN.flatten()[there_L][random[0]].argsort(descending=True, stable=True)]
    by_felt_L = random[0][felt_NN.flatten()[there_L][random[0]].argsort(descending=True, stable=True)]
    orders = [there_L[order] for order in (by_read_L, by_read_L.flip(0), by_felt_L, *random)]
    most, least, gradient, *others = _curves(removal, orders, len(read_NN), log_odds)
    return Links(len(there_L), most, least, gradient, tuple(others))


def _curves(removal: Removal, orders: Sequence[Tensor], tokens: int, log_odds: float) -> list[Curve]:
    counts = how_many(len(orders[0]))
    tables = []
    for order_L in orders:
        for count in counts:
            gone = torch.zeros(tokens * tokens, dtype=torch.bool, device=order_L.device)
            gone[order_L[:count]] = True
            tables.append(gone.view(tokens, tokens))
    found = removal.without_links(tables)
    each = len(counts)
    total = len(orders[0])
    return [Curve(total, counts, log_odds, tuple(found[i * each : (i + 1) * each]), ()) for i in range(len(orders))]
