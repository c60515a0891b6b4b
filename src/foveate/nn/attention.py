"""Multi-head attention (Vaswani et al. 2017, section 3.2.2) on `foveate.attention`.

Axes: B batch, Q queries, K keys, M model width, H heads, D = M / H head width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..attend import attention
from ..masks import Mask

__all__ = ["MultiHeadAttention"]


class MultiHeadAttention(nn.Module):
    """Project, attend in H heads at once, project back.

    `attention(query)` is self-attention; `attention(query, memory)` reads from another sequence.
    """

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width must be a multiple of heads; got width {width}, heads {heads}")
        self.width, self.heads, self.dropout = width, heads, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def split(self, x_BLM: Tensor) -> Tensor:
        """(B, L, M) -> (B, H, L, D)."""
        return x_BLM.unflatten(-1, (self.heads, self.width // self.heads)).transpose(-3, -2)

    def forward(self, x_BQM: Tensor, memory_BKM: Tensor | None = None, *, mask: Mask | Any | None = None) -> Tensor:
        """(B, Q, M), and (B, K, M) if the keys are elsewhere -> (B, Q, M)."""
        memory_BKM = x_BQM if memory_BKM is None else memory_BKM
        q_BHQD = self.split(self.query(x_BQM))
        k_BHKD = self.split(self.key(memory_BKM))
        v_BHKD = self.split(self.value(memory_BKM))
        dropout = self.dropout if self.training else 0.0
        out_BHQD, _ = attention(q_BHQD, k_BHKD, v_BHKD, mask=mask, dropout=dropout)
        out: Tensor = self.output(out_BHQD.transpose(-3, -2).flatten(-2))
        return out

    def extra_repr(self) -> str:
        return f"width={self.width}, heads={self.heads}"
