"""Scores of tokens out of the weights of attention, a number for each token: the larger, the more it should matter.

`rows_Q` says for which queries of the last layer the prediction is made: it adds up to 1, and is nearly always one 1.

Axes: H query heads, Q queries, N tokens (keys), R some queries, V value width, E model width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .layers import Layer, blocks

__all__ = ["attended", "gradient_weighted", "past", "value_norms", "weighted"]


def attended(layer: Layer, rows_Q: Tensor) -> Tensor:
    """How much the predicting token reads each one, the mean over heads."""
    at = rows_Q.nonzero()[:, 0]
    return rows_Q[at] @ layer.weights[0, :, at].double().mean(0)


def past(w_RN: Tensor, at: slice, tokens: bool) -> Tensor:
    """Mean weights with the share that goes past attention, if queries are tokens; rows that add up to 1."""
    if tokens:
        w_RN = w_RN.clone()
        w_RN.diagonal(at.start).add_(1)
    return w_RN / w_RN.sum(-1, keepdim=True).clamp(min=torch.finfo(w_RN.dtype).tiny)


def value_norms(layer: Layer, rows_Q: Tensor) -> Tensor:
    """How long the vector is that each token adds to the output: ||sum_h w_h W_h v_h|| (Kobayashi et al. 2020).

    Where the projection W that follows is not known, heads are taken to go to places of their own:
    sqrt(sum_h ||w_h v_h||^2).
    """
    v_HNV = layer.values()
    if layer.projection_HVE is None:
        gram_NHH = torch.diag_embed(v_HNV.square().sum(-1).T)
    else:
        added_NHE = (v_HNV @ layer.projection_HVE.double()).transpose(0, 1)
        gram_NHH = added_NHE @ added_NHE.mT
    found_N = torch.zeros(layer.weights.shape[-1], dtype=rows_Q.dtype, device=rows_Q.device)
    for row in rows_Q.nonzero()[:, 0].tolist():
        w_NH = layer.weights[0, :, row].double().T
        squared_N = torch.einsum("nh,nhg,ng->n", w_NH, gram_NHH, w_NH)
        found_N += rows_Q[row] * squared_N.clamp(min=0).sqrt()
    return found_N


def gradient_weighted(layers: Sequence[Layer]) -> Tensor:
    """Gradient x attention, w dL/dw with dL/dw = dL/dout . v, summed over layers, heads and queries.

    Signed: what is negative speaks against the target.
    """
    found_N = torch.zeros(layers[0].weights.shape[-1], dtype=torch.float64, device=layers[0].weights.device)
    for layer in layers:
        for _, both_HRN in weighted(layer):
            found_N += both_HRN.sum((0, 1))
    return found_N


def weighted(layer: Layer) -> Iterator[tuple[slice, Tensor]]:
    """w dL/dw of all links of a layer, some rows at a time, as `blocks` gives weights."""
    v_HNV, g_HQV = layer.values(), layer.gradient_HQV.double()
    for at, w_HRN in blocks(layer.weights):
        yield at, w_HRN * (g_HQV[:, at] @ v_HNV.mT)
