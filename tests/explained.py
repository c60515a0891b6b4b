"""Models of which it is known by construction whether attention explains what they predict."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WORDS, D = 40, 8
NOTHING, SEEN, DECISIVE = 0, 9, 7  # a word that is neutral, one that attention reads, one that decides
TEXT = [3, 14, 7, 25, 9, 31, 12, 38, 6, 22, 17, 4, 28, 33]


class Decides(nn.Module):
    """Attention finds the decisive word, and the class is what was read of it: all other values are alike.

    `pooled`: a query of the model's own reads the words; else the first word does. `zeroed`: what is read is multiplied
    with 0, and the mean of the words decides. `constant`: all values are alike, so it does not matter what is read, and
    the mean of the words decides. `reads`: the word that attention finds.
    """

    def __init__(
        self, *, pooled: bool = False, zeroed: bool = False, constant: bool = False, reads: int = DECISIVE
    ) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(4)
        self.pooled, self.kept = pooled, 0.0 if zeroed else 1.0
        self.words = nn.Embedding(WORDS, D)
        self.key, self.value, self.mean = nn.Linear(D, D), nn.Linear(D, 2), nn.Linear(D, 2)
        with torch.no_grad():
            self.words.weight.copy_(0.05 * torch.randn(WORDS, D, generator=draw))
            self.words.weight[NOTHING] = 0
            self.words.weight[:, :2] = 0
            self.words.weight[DECISIVE, 0] = 1  # what decides
            self.words.weight[reads, 1] = 1  # what attention finds
            for layer in (self.key, self.value, self.mean):
                layer.weight.zero_(), layer.bias.zero_()
            self.key.weight.copy_(torch.eye(D))
            self.key.weight[:, 0], self.key.weight[0, 1] = 0, 12
            if zeroed or constant:
                self.mean.weight[1, 0] = 60
                self.mean.bias[0] = 2
            if constant:
                self.value.bias.fill_(0.3)
            else:
                self.value.weight[1, 0], self.value.bias[0] = 6, 2
        self.query = nn.Parameter(torch.eye(1, D))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        queries = 1 if self.pooled else ids.shape[1]
        q = self.query.expand(len(ids), 1, queries, D)
        read = F.scaled_dot_product_attention(q, self.key(x)[:, None], self.value(x)[:, None], scale=1.0)[:, 0, 0]
        found: Tensor = self.kept * read + self.mean(x.mean(1))
        return found
