"""One table of embeddings for what goes into an encoder-decoder and what comes out (Press & Wolf 2017).

Axes: L length, M width, V vocabulary (of both languages together), O outputs (the part of it that a target may use).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .affine import linear

__all__ = ["TiedEmbedding"]


class TiedEmbedding(nn.Module):
    """Rows of one table embed sources and targets, and are what an output is compared with.

    Targets are numbered 0 .. O - 1, in the order of `outputs`, so that no time goes into what never comes out.

    Args:
        vocabulary: V.
        width: M.
        outputs: (O,), which tokens of the vocabulary a target may use, in ascending order; default: all.

    Raises:
        ValueError: outputs that are no ascending numbers of the vocabulary.
    """

    outputs: Tensor

    def __init__(self, vocabulary: int, width: int, outputs: Sequence[int] | Tensor | None = None) -> None:
        super().__init__()
        chosen = torch.arange(vocabulary) if outputs is None else torch.as_tensor(outputs, dtype=torch.int64)
        if (
            chosen.ndim != 1
            or not len(chosen)
            or chosen[0] < 0
            or chosen[-1] >= vocabulary
            or (chosen.diff() <= 0).any()
        ):
            raise ValueError(f"outputs must be ascending numbers from 0 to {vocabulary - 1}")
        self.table = nn.Parameter(torch.randn(vocabulary, width) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(len(chosen)))
        self.register_buffer("outputs", chosen.clone())  # the caller's stays as it is, whatever is loaded

    @property
    def width(self) -> int:
        return self.table.shape[1]

    def source(self, ids: Int[Tensor, "*B L"]) -> Float[Tensor, "*B L M"]:
        """Embeddings of tokens of the vocabulary."""
        return nn.functional.embedding(ids, self.table)

    def target(self, ids: Int[Tensor, "*B L"]) -> Float[Tensor, "*B L M"]:
        """Embeddings of tokens as targets are numbered."""
        return nn.functional.embedding(self.outputs[ids], self.table)

    def output_weight(self) -> Float[Tensor, "O M"]:
        """What hidden states are compared with."""
        return self.table if len(self.outputs) == len(self.table) else self.table[self.outputs]

    def logits(
        self, hidden: Float[Tensor, "*B M"], weight: Float[Tensor, "O M"] | None = None
    ) -> Float[Tensor, "*B O"]:
        """(..., M) -> (..., O); `weight` is what `output_weight` gave, where it is needed again and again."""
        return linear(hidden, self.output_weight() if weight is None else weight, self.bias)
