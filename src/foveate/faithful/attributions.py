"""Scores of tokens out of the weights of attention, a number for each token: the larger, the more it should matter.

`rows_N` says from which tokens the prediction is made: it sums to 1, and nearly always holds a single 1.

Axes: H query heads, N tokens (queries and keys), R some queries, K keys, V value width, E model width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .layers import Layer, blocks

__all__ = ["attended", "gradient_weighted", "rollout", "value_norms"]


def attended(layer: Layer, rows_N: Tensor) -> Tensor:
    """How much the predicting token reads each one, the mean over heads."""
    at = rows_N.nonzero()[:, 0]
    return rows_N[at] @ layer.weights[0, :, at].double().mean(0)


def rollout(layers: Sequence[Layer], rows_N: Tensor) -> Tensor:
    """Attention rollout (Abnar & Zuidema 2020): weights of all layers multiplied, with half of each token going past
    attention, as the residual stream does. Heads are averaged; rows are normalised to 1 where sinks take a share."""
    for layer in reversed(layers):
        read_N, past_N = torch.zeros_like(rows_N), torch.zeros_like(rows_N)
        for at, w_HRK in blocks(layer.weights):
            w_RK = w_HRK.mean(0)
            passed = rows_N[at] / (1 + w_RK.sum(-1))
            read_N += passed @ w_RK
            past_N[at] = passed
        rows_N = read_N + past_N
    return rows_N


def value_norms(layer: Layer, rows_N: Tensor) -> Tensor:
    """How long the vector is that each token adds to the output: ||sum_h w_h W_h v_h|| (Kobayashi et al. 2020).

    Where the projection W that follows is not known, heads are taken to go to places of their own:
    sqrt(sum_h ||w_h v_h||^2).
    """
    v_HNV = layer.value_HNV.double()
    if layer.projection_HVE is None:
        gram_NHH = torch.diag_embed(v_HNV.square().sum(-1).T)
    else:
        added_NHE = (v_HNV @ layer.projection_HVE.double()).transpose(0, 1)
        gram_NHH = added_NHE @ added_NHE.mT
    found_N = torch.zeros_like(rows_N)
    for row in rows_N.nonzero()[:, 0].tolist():
        w_NH = layer.weights[0, :, row].double().T
        squared_N = torch.einsum("nh,nhg,ng->n", w_NH, gram_NHH, w_NH)
        found_N += rows_N[row] * squared_N.clamp(min=0).sqrt()
    return found_N


def gradient_weighted(layers: Sequence[Layer], links_NN: Tensor | None = None) -> Tensor:
    """Gradient x attention, w dL/dw with dL/dw = dL/dout . v, summed over layers, heads and queries.

    Signed: what is negative speaks against the target. `links_NN` is given the same for each (query, key).
    """
    found_N = torch.zeros(layers[0].weights.shape[-1], dtype=torch.float64, device=layers[0].weights.device)
    for layer in layers:
        v_HNV, g_HNV = layer.value_HNV.double(), layer.gradient_HNV.double()
        for at, w_HRK in blocks(layer.weights):
            both_RK = (w_HRK * (g_HNV[:, at] @ v_HNV.mT)).sum(0)
            found_N += both_RK.sum(0)
            if links_NN is not None:
                links_NN[at] += both_RK
    return found_N
