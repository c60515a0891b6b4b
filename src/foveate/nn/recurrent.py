"""A recurrent encoder-decoder, with attention (Bahdanau et al. 2015; Luong et al. 2015) or one fixed vector (Cho et al.
2014; Sutskever et al. 2014).

Axes: B batch, N rows of a search, S source length, T target length, M width of embeddings, H hidden width, O outputs.

The decoder's first recurrence reads the words before, and its states are the queries; what they read from the source
goes into a second recurrence (as in Wu et al. 2016, section 3.1, whose bottom decoder layer alone makes the queries).
In Bahdanau's decoder a query depends on what was read one step before, so steps wait for each other in training, too.
Here all steps of a known target ask at once: one call of the operator, and one map, for a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .. import masks
from ..attend import attention
from .additive import AdditiveAttention
from .affine import Linear
from .bidirectional import both_ways, orthogonal, run_over
from .vocabulary import TiedEmbedding

__all__ = ["Attends", "RNNEncoderDecoder"]

Attends = Literal["additive", "dot", "general", "none"]


@dataclass(frozen=True)
class _Memory:
    """What the decoder reads: states (B, S, H), keys made of them, lengths (B,), and a summary (B, H) of the whole."""

    states: Tensor
    keys: Tensor
    lengths: Tensor
    summary: Tensor

    def select(self, rows: Tensor) -> _Memory:
        states = self.states.index_select(0, rows)
        keys = states if self.keys is self.states else self.keys.index_select(0, rows)
        return _Memory(states, keys, self.lengths.index_select(0, rows), self.summary.index_select(0, rows))


class DotAttention(nn.Module):
    """q.k, or q.W k with `bilinear` (Luong et al. 2015, section 3.1), softmax, and the weighted mean of the memory."""

    is_cross_attention = True  # which `foveate.watch` asks for

    def __init__(self, width: int, *, bilinear: bool) -> None:
        super().__init__()
        self.key = Linear(width, width, bias=False) if bilinear else None

    def keys(self, states: Tensor) -> Tensor:
        return states if self.key is None else self.key(states)

    def forward(self, query: Tensor, states: Tensor, lengths: Tensor, *, keys: Tensor) -> tuple[Tensor, Any]:
        q, k, v = (t.unsqueeze(1) for t in (query.to(keys.dtype), keys, states))
        context, weights = attention(q, k, v, score="dot", mask=masks.padding(lengths))
        return context.squeeze(1), weights


class FixedVector(nn.Module):
    """No attention: every step is given the same summary, through a layer with as many parameters as attention has."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.inner, self.outer = Linear(width, hidden, bias=False), Linear(hidden, width, bias=False)

    def forward(self, query_BTH: Tensor, summary_BH: Tensor) -> Tensor:
        context = self.outer(torch.tanh(self.inner(summary_BH))) + summary_BH
        return context[:, None].expand(-1, query_BTH.shape[1], -1)


class RNNEncoderDecoder(nn.Module):
    """A bidirectional GRU reads, two GRUs write; between them attention, or a fixed vector.

        hidden = model(source, lengths, target)      # all steps at once, for a known target
        logits = model.logits(hidden)
        steps = model.steps(source, lengths)         # token by token, for fv.nn.search

    Args:
        vocabulary, outputs: as in `TiedEmbedding`.
        width: M.
        hidden: H, of the decoder and, both directions together, of the encoder.
        attention: "additive", "dot", "general", or "none" for one fixed context vector: the same model otherwise, the
            summary given to every step and both starting states.
        dropout: of embeddings, in training.
        state_dropout: of encoder states and of what stands before the output.

    Raises:
        ValueError: an unknown attention, or an odd hidden width.
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        outputs: Sequence[int] | Tensor | None = None,
        width: int = 256,
        hidden: int = 384,
        attention: Attends = "additive",
        dropout: float = 0.3,
        state_dropout: float = 0.4,
    ) -> None:
        super().__init__()
        if attention not in get_args(Attends):
            names = ", ".join(map(repr, get_args(Attends)))
            raise ValueError(f"unknown attention {attention!r}; expected one of {names}")
        if hidden % 2:
            raise ValueError(f"hidden must be even, half of it for each direction of the encoder; got {hidden}")
        self.attends, self.hidden = attention, hidden
        self.embedding = TiedEmbedding(vocabulary, width, outputs)
        self.embedding_dropout, self.state_dropout = nn.Dropout(dropout), nn.Dropout(state_dropout)
        self.forwards = nn.GRU(width, hidden // 2, batch_first=True)
        self.backwards = nn.GRU(width, hidden // 2, batch_first=True)
        self.start = Linear(hidden, 2 * hidden)
        self.asking = nn.GRU(width, hidden, batch_first=True)
        self.attention = _attention(attention, hidden)
        self.writing = nn.GRU(2 * hidden, hidden, batch_first=True)
        self.readout = Linear(2 * hidden + width, width)
        orthogonal(self)

    def forward(
        self, source_BS: Int[Tensor, "B S"], lengths_B: Int[Tensor, " B"], target_BT: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B T M"]:
        """What stands before the output, for each step of a known target; step t reads target tokens up to t.

        Args:
            source_BS: tokens of the vocabulary, padded on the right; lengths_B says where they end.
            target_BT: tokens as targets are numbered, the first one the begin symbol.
        """
        memory = self.encode(source_BS, lengths_B)
        hidden, _ = self._write(memory, target_BT, self._states(memory))
        return hidden

    def logits(self, hidden: Float[Tensor, "*B M"]) -> Float[Tensor, "*B O"]:
        """(..., M) -> (..., O)."""
        return self.embedding.logits(hidden)

    def steps(self, source_BS: Int[Tensor, "B S"], lengths_B: Int[Tensor, " B"]) -> _Steps:
        """A decoder that goes on token by token."""
        return _Steps(self, self.encode(source_BS, lengths_B))

    def encode(self, source_BS: Tensor, lengths_B: Tensor) -> _Memory:
        """States of both directions, (B, S, H)."""
        x_BSM = self.embedding_dropout(self.embedding.source(source_BS))
        states, summary = both_ways(self.forwards, self.backwards, x_BSM, lengths_B)
        states = self.state_dropout(states)
        keys = states if isinstance(self.attention, FixedVector) else self.attention.keys(states)
        return _Memory(states, keys, lengths_B, summary)

    def _states(self, memory: _Memory) -> tuple[Tensor, Tensor]:
        """Where the two recurrences of the decoder start, (1, B, H) each."""
        asking, writing = torch.tanh(self.start(memory.summary)).chunk(2, dim=-1)
        return asking[None].contiguous(), writing[None].contiguous()

    def _write(
        self, memory: _Memory, target_BT: Tensor, states: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Hidden states (B, T, M) of target tokens that follow those of the given states, and the states after them."""
        x_BTM = self.embedding_dropout(self.embedding.target(target_BT))
        query_BTH, asking = run_over(self.asking, x_BTM, states[0])
        if isinstance(self.attention, FixedVector):
            context_BTH = self.attention(query_BTH, memory.summary)
        else:
            context_BTH, _ = self.attention(query_BTH, memory.states, memory.lengths, keys=memory.keys)
        context_BTH = context_BTH.to(query_BTH.dtype)
        state_BTH, writing = run_over(self.writing, torch.cat([query_BTH, context_BTH], dim=-1), states[1])
        read = torch.cat([state_BTH, context_BTH, x_BTM.to(state_BTH.dtype)], dim=-1)
        return self.state_dropout(torch.tanh(self.readout(read))), (asking, writing)


class _Steps:
    """A decoder that goes on token by token, in N rows; see `foveate.nn.search`."""

    def __init__(self, model: RNNEncoderDecoder, memory: _Memory) -> None:
        self._model, self._memory, self._states = model, memory, model._states(memory)
        self._owner_N = torch.arange(len(memory.lengths), device=memory.lengths.device)  # the sentence of each row
        self._weight_OM = model.embedding.output_weight()

    def advance(self, tokens_N: Int[Tensor, " N"]) -> Float[Tensor, "N O"]:
        tokens_N = tokens_N.to(self._owner_N.device)
        hidden, self._states = self._model._write(self._memory, tokens_N[:, None], self._states)
        return self._model.embedding.logits(hidden[:, 0], self._weight_OM)

    def select(self, rows_N: Int[Tensor, " N"]) -> None:
        rows_N = rows_N.to(self._owner_N.device)
        asking, writing = (s.index_select(1, rows_N) for s in self._states)
        self._states = asking, writing
        owner_N = self._owner_N[rows_N]
        if not torch.equal(owner_N, self._owner_N):  # else beams of one sentence trade places: its memory stays
            self._memory, self._owner_N = self._memory.select(rows_N), owner_N


def _attention(kind: Attends, hidden: int) -> AdditiveAttention | DotAttention | FixedVector:
    if kind == "additive":
        return AdditiveAttention(hidden, hidden, hidden)
    return FixedVector(hidden, hidden) if kind == "none" else DotAttention(hidden, bilinear=kind == "general")
