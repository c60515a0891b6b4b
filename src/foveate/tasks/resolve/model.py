"""The model: an encoder that predicts words, and what a pronoun stands for, with one and the same head.

Axes: B batch, L length, M model width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ... import masks
from ...nn import Encoder
from ...positions import sinusoidal
from .vocabulary import Vocabulary

__all__ = ["Resolver", "Size"]


@dataclass(frozen=True)
class Size:
    """The shape of a model."""

    width: int = 192
    heads: int = 6
    layers: int = 4
    inner: int = 384
    dropout: float = 0.05


class Resolver(nn.Module):
    """Embeds words, encodes them, and compares what it predicts at a place with the embeddings of words.

    A masked word is predicted among all words of the vocabulary. What a pronoun stands for is predicted among the
    words of its own sentence, from their embeddings *before* any layer: so what the pronoun's position needs to know
    about its antecedent must reach it through attention. No head is told where to look.
    """

    def __init__(self, vocabulary: Vocabulary, size: Size) -> None:
        super().__init__()
        self.vocabulary, self.size = vocabulary, size
        self.embedding = nn.Embedding(len(vocabulary), size.width)
        self.embedding_norm = nn.LayerNorm(size.width)
        self.dropout = nn.Dropout(size.dropout)
        self.encoder = Encoder(size.layers, size.width, size.heads, size.inner, dropout=size.dropout)
        self.predict = nn.Linear(size.width, size.width)
        self.bias = nn.Parameter(torch.zeros(len(vocabulary)))
        nn.init.normal_(self.embedding.weight, std=size.width**-0.5)
        for name, weight in self.encoder.named_parameters():
            if ".attention." in name and name.endswith("weight"):
                nn.init.xavier_uniform_(weight)

    def tokenize(self, text: str) -> tuple[list[str], list[int]]:
        """The words of a text as they are written, and their numbers."""
        return self.vocabulary.tokenize(text)

    def forward(self, ids_BL: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        """(B, L) word numbers -> (B, L, M). Sequences are padded on the right; `lengths_B` says where they end."""
        x_BLM = self.embedding_norm(self.embedding(ids_BL))
        x_BLM = self.dropout(x_BLM + sinusoidal(ids_BL.shape[1], self.size.width, device=ids_BL.device))
        mask = None if lengths_B is None else masks.padding(lengths_B)
        out: Tensor = self.encoder(x_BLM, mask=mask)
        return out

    def words(self, hidden_NM: Tensor) -> Tensor:
        """Logits (N, V) over the vocabulary at N places."""
        return self.predict(hidden_NM) @ self.embedding.weight.T + self.bias

    def antecedents(self, hidden_BLM: Tensor, ids_BL: Tensor, pronoun_B: Tensor) -> Tensor:
        """Logits (B, L) over the words of each sentence for the pronoun at `pronoun_B`; -inf at itself and padding."""
        batch = torch.arange(len(ids_BL), device=ids_BL.device)
        wanted_BM = self.predict(hidden_BLM[batch, pronoun_B])
        logits_BL = torch.einsum("bm,blm->bl", wanted_BM, self.embedding(ids_BL))
        excluded_BL = ids_BL == Vocabulary.PAD
        excluded_BL = excluded_BL.scatter(1, pronoun_B[:, None], True)
        return logits_BL.masked_fill(excluded_BL, float("-inf"))
