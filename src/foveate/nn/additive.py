"""Attention with one head and a learned comparison: additive attention, and a learned query over a sequence.

Axes: B batch, Q queries, K keys, D query width, M memory width, N hidden units.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .. import masks, scores
from ..attend import attention
from ..map import AttentionMap
from ..masks import Mask
from .affine import Linear, linear

__all__ = ["AdditiveAttention", "AttentionPooling"]


class AdditiveAttention(nn.Module):
    """v.tanh(Wq q + Wk k), softmax, and a weighted mean of the memory (Bahdanau et al. 2015, appendix A.1.2).

        context, weights = attend(state, memory, lengths)

    A decoder that reads one memory at each step multiplies it once: `keys = attend.keys(memory)`, then
    `attend(state, memory, lengths, keys=keys)`. Under autocast the hidden layer is computed in autocast's dtype, as any
    linear layer is; the softmax never.

    Args:
        query_width, memory_width, hidden: D, M, N.
        bias: whether the sum in tanh has one; the paper's has not.
    """

    is_cross_attention = True  # which `foveate.watch` asks for

    def __init__(self, query_width: int, memory_width: int, hidden: int, *, bias: bool = False) -> None:
        super().__init__()
        self.score = scores.Additive(query_width, memory_width, hidden, bias=bias)

    def keys(self, memory_BKM: Float[Tensor, "B K M"]) -> Float[Tensor, "B K N"]:
        """Wk k of a memory."""
        return linear(memory_BKM, self.score.key_weight)

    def forward(
        self,
        query_BQD: Float[Tensor, "B Q D"],
        memory_BKM: Float[Tensor, "B K M"],
        lengths: Any | None = None,
        *,
        mask: Mask | Any | None = None,
        keys: Float[Tensor, "B K N"] | None = None,
    ) -> tuple[Float[Tensor, "B Q M"], AttentionMap]:
        """Context vectors (B, Q, M), and weights (B, 1, Q, K).

        Args:
            lengths: (B,), how much of each memory is no padding.
            mask: as in `fv.attention`, (B, 1, Q, K), joined to the lengths.
            keys: what `self.keys(memory)` gave; default: it is made anew.

        Raises:
            ValueError: queries or memory of another number of axes, or what `fv.attention` refuses.
        """
        if query_BQD.ndim != 3 or memory_BKM.ndim != 3:
            shapes = f"{tuple(query_BQD.shape)} and {tuple(memory_BKM.shape)}"
            raise ValueError(
                f"query must be (B, Q, D) and memory (B, K, M); got {shapes}. One state for each sequence, (B, D), "
                "goes in as state[:, None]"
            )
        keys = self.keys(memory_BKM) if keys is None else keys
        score = replace(self.score.form(), key_weight=None, hidden_dtype=_autocast_dtype(query_BQD.device.type))
        q, k, v = (t.unsqueeze(1) for t in (query_BQD, keys, memory_BKM))
        context_B1QM, weights = attention(q, k, v, score=score, mask=_joined(lengths, mask))
        return context_B1QM.squeeze(1), weights


class AttentionPooling(nn.Module):
    """One vector for a sequence: a learned query reads tanh(W x + b), softmax, and the weighted mean of x (Yang et al.
    2016, eq. 5 to 7).

        vector, weights = pool(x, lengths)

    Args:
        width: M, of the sequence.
        hidden: N; default M.
    """

    is_cross_attention = True  # its query is no element of the sequence

    def __init__(self, width: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = width if hidden is None else hidden
        self.key = Linear(width, hidden)
        self.query = nn.Parameter(torch.randn(hidden) * hidden**-0.5)

    def forward(
        self, x_BKM: Float[Tensor, "B K M"], lengths: Any | None = None, *, mask: Mask | Any | None = None
    ) -> tuple[Float[Tensor, "B M"], AttentionMap]:
        """(B, M), and weights (B, 1, 1, K); `lengths` and `mask` as in `AdditiveAttention`.

        Raises:
            ValueError: a sequence of another number of axes, or what `fv.attention` refuses.
        """
        if x_BKM.ndim != 3:
            raise ValueError(f"a sequence must be (B, K, M); got {tuple(x_BKM.shape)}. One alone goes in as x[None]")
        k_B1KN = torch.tanh(self.key(x_BKM)).unsqueeze(1)
        q_B11N = self.query.to(k_B1KN.dtype).expand(len(x_BKM), 1, 1, -1)
        read_B11M, weights = attention(q_B11N, k_B1KN, x_BKM.unsqueeze(1), score="dot", mask=_joined(lengths, mask))
        return read_B11M[:, 0, 0], weights


def _autocast_dtype(device: str) -> str | None:
    """What autocast has layers compute in, if it is on."""
    if not torch.is_autocast_enabled(device):
        return None
    return str(torch.get_autocast_dtype(device)).removeprefix("torch.")


def _joined(lengths: Any | None, mask: Mask | Any | None) -> Mask | None:
    """The mask of lengths and of a call."""
    mask = mask if mask is None or isinstance(mask, Mask) else masks.tensor(mask)
    if lengths is None:
        return mask
    inside = masks.padding(lengths)
    return inside if mask is None else inside & mask
