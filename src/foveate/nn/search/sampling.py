"""Outputs drawn at random.

Axes: B sentences, N rows (hypotheses that grow), D draws per row, V vocabulary, W tokens that may be drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .frontier import Frontier
from .rules import Limits, Rules, at_least_one
from .steps import Hypothesis, Steps

__all__ = ["sample"]


@torch.no_grad()
def sample(
    steps: Steps,
    rows: int,
    *,
    begin: int,
    end: int,
    limit_B: Limits,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    nbest: int = 1,
    length_penalty: float = 1.0,
    forbid: Sequence[int] = (),
    allowed: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    """`nbest` outputs of each sentence, drawn independently, so that some may be equal; the best first.

    Scores are of the decoder's own distribution, whatever was drawn from, so that they compare with those of `beam`;
    the order is as there. A draw that nothing can follow, as all logits are -inf, is dropped.

    Args:
        temperature: logits are divided by it.
        top_k: only the k most probable tokens are drawn; of equal ones the lower.
        top_p: then only the fewest most probable ones that have this share of the probability (Holtzman et al. 2020).
        generator: where the random numbers come from, one per draw and token; default PyTorch's own of the CPU. Which
            hypothesis gets which depends on the whole batch.
        nbest: how many are drawn.
        others: as in `beam`. What is forbidden leaves its probability to the rest.

    Raises:
        ValueError: as in `beam`.
    """
    at_least_one(nbest=nbest, top_k=top_k)
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be above 0 and finite; got {temperature}. For none, use greedy()")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1; got {top_p}")
    rules = Rules.checked(
        rows, begin=begin, end=end, limit_B=limit_B, forbid=forbid, allowed=allowed, length_penalty=length_penalty
    )
    frontier, draws = Frontier(steps, rows, rules), nbest
    while len(frontier):
        logp_NW, token_NW = _shortlist(frontier, top_k, sort=top_p is not None)
        device = "cpu" if generator is None else generator.device
        uniform_ND = torch.rand(len(frontier), draws, dtype=torch.float64, generator=generator, device=device)
        column_ND = _draw(logp_NW, uniform_ND.to(logp_NW.device), temperature, top_p)
        logp_ND, token_ND = (x.gather(1, column_ND).cpu().numpy() for x in (logp_NW, token_NW))
        row_M, draw_M = np.nonzero(logp_ND > -np.inf)
        frontier.grow(row_M, token_ND[row_M, draw_M], logp_ND[row_M, draw_M])
        draws = 1
    return frontier.hypotheses(nbest)


def _shortlist(frontier: Frontier, top_k: int | None, *, sort: bool) -> tuple[Tensor, Tensor]:
    """Log-probabilities (N, W) of what may be drawn next, and the tokens; falling if asked, or with a `top_k`."""
    logits, rows = frontier.read(), len(frontier)
    if top_k is not None:
        best = frontier.chunks.best(logits, np.zeros(rows), np.arange(rows), top_k)  # as if each row were a sentence
        logp_NW = np.where(best.total_SK > -np.inf, best.logp_SK, -np.inf)
        return torch.from_numpy(logp_NW), torch.from_numpy(best.token_SK)
    blocked_V, norm_N = (torch.from_numpy(x).to(logits.logit_NV.device) for x in (frontier.blocked_V, logits.norm_N))
    logp_NV = (logits.logit_NV.double() - norm_N[:, None]).masked_fill_(blocked_V, -torch.inf)
    if sort:
        ordered, columns = logp_NV.sort(dim=1, descending=True, stable=True)
        return ordered, columns
    return logp_NV, torch.arange(logp_NV.shape[1], device=logp_NV.device).expand_as(logp_NV)


def _draw(logp_NW: Tensor, uniform_ND: Tensor, temperature: float, top_p: float | None) -> Tensor:
    """Columns (N, D): where the running sum of probabilities passes the random number. One of weight 0 is never met."""
    weight_NW = ((logp_NW - logp_NW.amax(dim=1, keepdim=True)) / temperature).exp()
    sum_NW = weight_NW.cumsum(dim=1)
    if top_p is not None and top_p < 1:
        weight_NW = weight_NW.masked_fill(sum_NW - weight_NW >= top_p * sum_NW[:, -1:], 0.0)
        sum_NW = weight_NW.cumsum(dim=1)
    return torch.searchsorted(sum_NW, uniform_ND * sum_NW[:, -1:], right=True).clamp(max=logp_NW.shape[1] - 1)
