"""Attention flow (Abnar & Zuidema 2020): how much can pass from a token through all layers, if each weight is a pipe.

Axes: N tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .layers import Layer, blocks

__all__ = ["MOST_PIPES", "flow", "pipes"]

MOST_PIPES = 20_000
_UNITS = 10**9  # capacities are whole numbers, with which maximum flow is exact and ends


def pipes(layers: Sequence[Layer]) -> int:
    """Pipes of the graph: one for each weight of each layer."""
    return sum(int(layer.weights.shape[-1]) ** 2 for layer in layers)


def flow(layers: Sequence[Layer], rows_N: Tensor) -> Tensor:
    """The maximum flow between the predicting token above the last layer and each token below the first.

    The graph has a node for each token and layer; a pipe is as wide as the mean weight of the heads, halved for the
    other half that goes past attention. Networkx solves it, once for each token.
    """
    import networkx

    graph, count = networkx.DiGraph(), len(rows_N)
    graph.add_nodes_from((0, token) for token in range(count))
    for token in rows_N.nonzero()[:, 0].tolist():
        graph.add_edge("prediction", (len(layers), token), capacity=round(float(rows_N[token]) * _UNITS))
    for level, layer in enumerate(layers, 1):
        for query, row in enumerate(_halved(layer)):
            for key, width in enumerate(row):
                if width:
                    graph.add_edge((level, query), (level - 1, key), capacity=width)
    solve = networkx.maximum_flow_value
    found = [solve(graph, "prediction", (0, token)) / _UNITS for token in range(count)]
    return torch.tensor(found, dtype=rows_N.dtype, device=rows_N.device)


def _halved(layer: Layer) -> list[list[int]]:
    """Mean weights with the share that goes past attention, in units; each row adds up to one."""
    w_NN = torch.cat([w_HRK.mean(0) for _, w_HRK in blocks(layer.weights)])
    w_NN = w_NN + torch.eye(len(w_NN), dtype=w_NN.dtype, device=w_NN.device)
    whole: list[list[int]] = (w_NN / w_NN.sum(-1, keepdim=True) * _UNITS).round().long().tolist()
    return whole
