"""The model: an encoder that predicts words, and one head that reads what a pronoun stands for.

Axes: B batch, L length, M model width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ... import masks
from ...attend import attention
from ...nn import Encoder
from ...nn.parts import merge_heads, split_heads
from ...positions import sinusoidal
from .vocabulary import Vocabulary

__all__ = ["Encoded", "Resolver", "Size"]

OTHERS = ~masks.window(0)


@dataclass(frozen=True)
class Size:
    """The shape of a model."""

    width: int = 192
    heads: int = 6
    layers: int = 4
    inner: int = 384
    dropout: float = 0.05


class Encoded(NamedTuple):
    """What the encoder makes of each place, and what the reader brings there from the other places, (B, L, M) each."""

    hidden: Tensor
    read: Tensor


class Reader(nn.Module):
    """One head of attention, from each place to all the others, that hands on the embeddings it reads as they are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)

    def forward(self, hidden_BLM: Tensor, words_BLM: Tensor, mask: masks.Mask | None = None) -> Tensor:
        """What the places look like (B, L, M), and the embeddings of their words -> (B, L, M)."""
        q, k, v = (split_heads(x, 1) for x in (self.query(hidden_BLM), self.key(hidden_BLM), words_BLM))
        out_B1LM, _ = attention(q, k, v, mask=OTHERS if mask is None else OTHERS & mask)
        return merge_heads(out_B1LM)


class Resolver(nn.Module):
    """Embeds words, encodes them, and compares what it predicts at a place with the embeddings of words.

    A masked word is predicted among all words of the vocabulary, from what the encoder makes of its place. What a
    pronoun stands for is predicted among the words of its own sentence, by their embeddings *before* any layer, and
    from nothing but what the reader brings: so it can name only what it reads. No head is told where to look, and none
    of the encoder's is needed by the loss more than another; that one head carries the answer is how this is built.
    """

    def __init__(self, vocabulary: Vocabulary, size: Size) -> None:
        super().__init__()
        self.vocabulary, self.size = vocabulary, size
        self.embedding = nn.Embedding(len(vocabulary), size.width)
        self.embedding_norm = nn.LayerNorm(size.width)
        self.dropout = nn.Dropout(size.dropout)
        self.encoder = Encoder(size.layers, size.width, size.heads, size.inner, dropout=size.dropout)
        self.reader = Reader(size.width)
        self.sharpness = nn.Parameter(torch.tensor(4.0))
        self.predict = nn.Linear(size.width, size.width)
        self.bias = nn.Parameter(torch.zeros(len(vocabulary)))
        nn.init.normal_(self.embedding.weight, std=size.width**-0.5)
        for name, weight in self.encoder.named_parameters():
            if ".attention." in name and name.endswith("weight"):
                nn.init.xavier_uniform_(weight)

    def tokenize(self, text: str) -> tuple[list[str], list[int]]:
        """The words of a text as they are written, and their numbers."""
        return self.vocabulary.tokenize(text)

    def forward(self, ids_BL: Tensor, lengths_B: Tensor | None = None) -> Encoded:
        """Of (B, L) word numbers. Sequences are padded on the right; `lengths_B` says where they end."""
        words_BLM = self.embedding(ids_BL)
        x_BLM = self.embedding_norm(words_BLM)
        x_BLM = self.dropout(x_BLM + sinusoidal(ids_BL.shape[1], self.size.width, device=ids_BL.device))
        mask = None if lengths_B is None else masks.padding(lengths_B)
        hidden_BLM = self.encoder(x_BLM, mask=mask)
        return Encoded(hidden_BLM, self.reader(hidden_BLM, words_BLM.to(hidden_BLM.dtype), mask))

    def words(self, hidden_NM: Tensor) -> Tensor:
        """Logits (N, V) over the vocabulary at N places."""
        return self.predict(hidden_NM) @ self.embedding.weight.T + self.bias

    def named(self, read_NM: Tensor) -> Tensor:
        """What is compared with embeddings of words (N, M), from what the reader brought to N places."""
        return self.sharpness * read_NM

    def antecedents(self, encoded: Encoded, ids_BL: Tensor, pronoun_B: Tensor) -> Tensor:
        """Logits (B, L) over the words of each sentence for the pronoun at `pronoun_B`; -inf at itself and padding."""
        batch = torch.arange(len(ids_BL), device=ids_BL.device)
        logits_BL = torch.einsum("bm,blm->bl", self.named(encoded.read[batch, pronoun_B]), self.embedding(ids_BL))
        excluded_BL = ids_BL == Vocabulary.PAD
        excluded_BL = excluded_BL.scatter(1, pronoun_B[:, None], True)
        return logits_BL.masked_fill(excluded_BL, float("-inf"))
