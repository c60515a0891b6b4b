"""Attention flow (Abnar & Zuidema 2020): how much can pass from a token through all layers, if each weight is a pipe.

Axes: Q queries, N tokens (keys).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .attributions import past
from .layers import Layer, blocks

__all__ = ["MOST_PIPES", "flow", "pipes"]

MOST_PIPES = 20_000
_UNITS = 10**9  # capacities are whole numbers, with which maximum flow is exact and ends


def pipes(layers: Sequence[Layer]) -> int:
    """Pipes of the graph: one for each weight of each layer."""
    return sum(int(layer.weights.shape[-2] * layer.weights.shape[-1]) for layer in layers)


def flow(layers: Sequence[Layer], rows_Q: Tensor) -> Tensor:
    """The maximum flow between the predicting token above the last layer and each token below the first.

    The graph has a node for each token and layer; a pipe is as wide as the mean weight of the heads, and half of each
    token goes past attention, as in `rollout`. Networkx solves it, once for each token.
    """
    import networkx

    graph = networkx.DiGraph()
    for query in rows_Q.nonzero()[:, 0].tolist():
        graph.add_edge("prediction", (len(layers), query), capacity=round(float(rows_Q[query]) * _UNITS))
    for level, layer in enumerate(layers, 1):
        for query, row in enumerate(_widths(layer)):
            graph.add_weighted_edges_from(
                (((level, query), (level - 1, key), width) for key, width in enumerate(row) if width), "capacity"
            )
    tokens = range(layers[0].weights.shape[-1])
    graph.add_nodes_from((0, token) for token in tokens)
    found = [networkx.maximum_flow_value(graph, "prediction", (0, token)) / _UNITS for token in tokens]
    return torch.tensor(found, dtype=rows_Q.dtype, device=rows_Q.device)


def _widths(layer: Layer) -> list[list[int]]:
    w_QN = torch.cat([past(w_HRN.mean(0), at, layer.among_tokens) for at, w_HRN in blocks(layer.weights)])
    whole: list[list[int]] = (w_QN * _UNITS).round().long().tolist()
    return whole
