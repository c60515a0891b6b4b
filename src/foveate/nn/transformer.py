"""A Transformer encoder-decoder (Vaswani et al. 2017), norms first (Xiong et al. 2020), embeddings tied.

Axes: B batch, N rows of a search, S source length, T target length, M width, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .. import masks
from ..masks import Mask
from ..positions import sinusoidal
from .cache import Cache
from .decoder import Decoder
from .encoder import Encoder
from .vocabulary import TiedEmbedding

__all__ = ["TransformerEncoderDecoder"]


class TransformerEncoderDecoder(nn.Module):
    """An encoder that reads, a decoder that writes, `layers` of each.

        hidden = model(source, lengths, target)      # all steps at once, for a known target
        logits = model.logits(hidden)
        steps = model.steps(source, lengths)         # token by token, for fv.nn.search

    Args:
        vocabulary, outputs: as in `TiedEmbedding`.
        width, heads, layers, inner: M, heads of each attention, layers of each stack, width inside feed-forward layers.
        dropout: of embeddings and of what each sub-layer adds, in training.
        head_dropout, norm, activation: as in `EncoderLayer`; heads that read the other side are dropped too.
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        outputs: Sequence[int] | Tensor | None = None,
        width: int = 128,
        heads: int = 4,
        layers: int = 4,
        inner: int = 256,
        dropout: float = 0.3,
        head_dropout: float = 0.0,
        norm: str = "pre",
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.embedding = TiedEmbedding(vocabulary, width, outputs)
        self.dropout = nn.Dropout(dropout)
        options = {"dropout": dropout, "head_dropout": head_dropout, "norm": norm, "activation": activation}
        self.encoder = Encoder(layers, width, heads, inner, **options)
        self.decoder = Decoder(layers, width, heads, inner, **options)
        for stack in (self.encoder, self.decoder):
            for weight in stack.parameters():
                if weight.ndim > 1:
                    nn.init.xavier_uniform_(weight)

    def forward(
        self, source_BS: Int[Tensor, "B S"], lengths_B: Int[Tensor, " B"], target_BT: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B T M"]:
        """What stands before the output, for each step of a known target; step t reads target tokens up to t.

        Args:
            source_BS: tokens of the vocabulary, padded on the right; lengths_B says where they end.
            target_BT: tokens as targets are numbered, the first one the begin symbol.
        """
        padding = _padding(lengths_B, source_BS.shape[1])
        memory_BSM = self.encoder(self._embed(self.embedding.source(source_BS), 0), mask=padding)
        out: Tensor = self.decoder(self._embed(self.embedding.target(target_BT), 0), memory_BSM, memory_mask=padding)
        return out

    def logits(self, hidden: Float[Tensor, "*B M"]) -> Float[Tensor, "*B O"]:
        """(..., M) -> (..., O)."""
        return self.embedding.logits(hidden)

    def steps(self, source_BS: Int[Tensor, "B S"], lengths_B: Int[Tensor, " B"]) -> _Steps:
        """A decoder that goes on token by token, with cached keys."""
        padding = _padding(lengths_B, source_BS.shape[1])
        memory_BSM = self.encoder(self._embed(self.embedding.source(source_BS), 0), mask=padding)
        return _Steps(self, memory_BSM, lengths_B)

    def _embed(self, x_BLM: Tensor, first: int) -> Tensor:
        """Embeddings at their usual size, and where they stand: the first row at position `first`."""
        width = x_BLM.shape[-1]
        place_LM = sinusoidal(first + x_BLM.shape[1], width, device=x_BLM.device)[first:]
        out: Tensor = self.dropout(x_BLM * width**0.5 + place_LM.to(x_BLM.dtype))
        return out


class _Steps:
    """A decoder that goes on token by token, in N rows; see `foveate.nn.search`."""

    def __init__(self, model: TransformerEncoderDecoder, memory_BSM: Tensor, lengths_B: Tensor) -> None:
        self._model, self._memory, self._lengths = model, memory_BSM, lengths_B
        self._padding = _padding(lengths_B, memory_BSM.shape[1])  # one for all layers and steps, as long as it holds
        self._cache = Cache()
        self._owner_N = torch.arange(len(lengths_B), device=lengths_B.device)  # the sentence of each row
        self._weight_OM = model.embedding.output_weight()

    def advance(self, tokens_N: Int[Tensor, " N"]) -> Float[Tensor, "N O"]:
        model = self._model
        tokens_N = tokens_N.to(self._owner_N.device)
        x_N1M = model._embed(model.embedding.target(tokens_N[:, None]), self._cache.length)
        hidden = model.decoder(x_N1M, self._memory, memory_mask=self._padding, cache=self._cache)
        return model.embedding.logits(hidden[:, 0], self._weight_OM)

    def select(self, rows_N: Int[Tensor, " N"]) -> None:
        rows_N = rows_N.to(self._owner_N.device)
        owner_N = self._owner_N[rows_N]
        if torch.equal(owner_N, self._owner_N):  # beams of one sentence trade places: its memory stays
            self._cache.select(rows_N)
            return
        chosen = self._cache.select(rows_N, self._memory)
        assert chosen is not None
        self._memory = chosen
        self._lengths, self._owner_N = self._lengths[rows_N], owner_N
        self._padding = _padding(self._lengths, self._memory.shape[1])


def _padding(lengths_B: Tensor, length: int) -> Mask | None:
    """The mask of lengths; none where all are full, so that kernels need none."""
    return masks.padding(lengths_B) if bool((lengths_B < length).any()) else None
