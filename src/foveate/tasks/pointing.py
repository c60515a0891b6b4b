"""Words that point at regions of a picture, layer by layer.

Each word knows those after it, so it stands for the phrase from there on: in "red circle left of the square" the last
word is about the square, "circle" about the circle left of it. In each layer words read the words after them and where
those pointed, and then point: at regions, or at one key more, which stands for "nowhere".

Axes: B pictures, P phrases of each, L words, R regions (row by row), M width, C channels, V words that are known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import masks
from ..attend import attention
from ..map import AttentionMap
from ..nn import FeedForward, MultiHeadAttention
from ..nn.encoder import Sublayers
from .encoders import check_shares, chosen, neighbours
from .scenes import SIDE

__all__ = ["MOST_WORDS", "REGION", "Network", "Shape"]

MOST_WORDS = 60  # of a phrase
REGION = 8  # pixels of a side
FROM_HERE = masks.window(0, MOST_WORDS)
DIFFERS = 0.5  # of 3, which is white less black: a pixel that differs so much is surely not of the ground
PLACES, WORDS = 0.3, 0.5  # standard deviations in the beginning


@dataclass(frozen=True)
class Shape:
    """Widths.

    Args:
        side: pixels of the square that a picture is fitted into, a multiple of 8.
        channels: of the last convolution.
        width, layers, heads, inner: of the Transformer that reads words; in each layer they point.
        dropout: of what convolutions see in a region.

    Raises:
        ValueError: a name that is unknown, or a number out of range.
    """

    arch: str = "transformer"
    side: int = SIDE
    channels: int = 96
    width: int = 96
    layers: int = 3
    heads: int = 4
    inner: int = 192
    dropout: float = 0.1

    def __post_init__(self) -> None:
        chosen("arch", self.arch, ("transformer",))
        check_shares(self, "dropout")
        if self.side < REGION or self.side % REGION:
            raise ValueError(f"side must be a multiple of {REGION}; got {self.side}")

    @property
    def name(self) -> str:
        """For people."""
        return "Words that read regions"

    @property
    def grid(self) -> int:
        """Regions of a row, and of a column."""
        return self.side // REGION


class Regions(nn.Module):
    """Pixels -> vectors of regions: what is there, and where it is.

    Convolutions see a region and little around it. What they see becomes, for each word, how likely it is to be said of
    the region, and the logarithms of that are what keys are made of: their sum over the words of a phrase, which a
    query can take, says how likely all of them are.
    """

    def __init__(self, words: int, shape: Shape) -> None:
        super().__init__()
        c = shape.channels
        halving = ((4, c // 3), (c // 3, 2 * c // 3), (2 * c // 3, c))  # of 4 x 4, so that all are around one middle
        made = [*(nn.Conv2d(a, b, 4, 2, 1) for a, b in halving), nn.Conv2d(c, c, 3, 1, 1)]
        self.convolutions = nn.ModuleList(made)
        for convolution in made:  # PyTorch's own beginning lets the picture fade from layer to layer
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)
        self.dropout = nn.Dropout(shape.dropout)
        self.seen = nn.Linear(c, words)
        nn.init.constant_(self.seen.bias, -math.log(shape.grid**2))  # in the beginning a word is said of one region
        self.output = nn.Linear(words, shape.width)
        self.row, self.column = (nn.Parameter(_smooth(shape.grid, shape.width)) for _ in range(2))
        self.nowhere = nn.Parameter(PLACES * torch.randn(shape.width))

    def forward(self, pixels_BYX3: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 (B, side, side, 3) -> what (B, 1 + R, M), 0 nowhere, which is the first; where (1 + R, M); and whether
        a word is said of a region, as logits (B, R, V)."""
        x = pixels_BYX3.permute(0, 3, 1, 2).float() / 85
        x = x - x.flatten(2).median(-1).values[..., None, None]  # how it differs from the ground
        x = torch.cat([x, (x.abs().amax(1, keepdim=True) / DIFFERS).clamp(max=1.0)], 1)  # and whether, in no colour
        for convolution in self.convolutions:
            x = F.gelu(convolution(x))
        seen_BRV = self.seen(self.dropout(x.flatten(2).transpose(1, 2)))
        what_BRM = self.output(F.logsigmoid(seen_BRV))
        where_RM = torch.cat([self.nowhere[None], (self.row[:, None] + self.column[None]).flatten(0, 1)])
        return F.pad(what_BRM, (0, 0, 1, 0)), where_RM, seen_BRV


def _smooth(count: int, width: int) -> Tensor:
    """(count, width): places in a row, near ones alike: a mixture of cosines, each with half a wave more than the one
    before, and less weight. The first goes down all the way, which is what "left of" needs."""
    waves = torch.arange(1, max(2, count))
    x = torch.cos(math.pi * waves * (torch.arange(count)[:, None] + 0.5) / count) / waves
    return PLACES * x / x.square().sum(-1).mean().sqrt() @ torch.randn(len(waves), width)


class Layer(Sublayers):
    """Words read the words after them and, in all layers but the first, where those pointed in the layer before. By
    `pointer` they then point themselves."""

    def __init__(self, shape: Shape, *, first: bool) -> None:
        super().__init__(0.0, "pre")
        width, heads = shape.width, shape.heads
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads, positions=neighbours(heads, ahead=True))
        self.places_norm = None if first else nn.LayerNorm(width)
        self.places = None if first else MultiHeadAttention(width, heads, positions=neighbours(heads, ahead=True))
        self.feed_forward = FeedForward(width, shape.inner, activation="linear", gated=True)
        self.pointer = Pointer(width)

    def forward(self, x_BLM: Tensor, found_BLM: Tensor | None) -> Tensor:
        """(B, L, M) or (B, P, L, M)."""
        x_BLM = self.around(self.attention_norm, lambda x: self.attention(x, mask=FROM_HERE), x_BLM)
        if self.places is not None and self.places_norm is not None:
            places = self.places
            x_BLM = self.around(self.places_norm, lambda x: places(x, x, found_BLM, mask=FROM_HERE), x_BLM)
        return self.around(self.feed_forward_norm, self.feed_forward, x_BLM)


class Pointer(nn.Module):
    """One head, whose weights are what is wanted of it. It adds to the query of the layer before, so that what a word
    pointed at by then stays asked for: else later layers, knowing that a phrase fits, point anywhere."""

    is_cross_attention = True  # which `foveate.watch` asks for

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.query = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(
        self, x_BLM: Tensor, q_BLM: Tensor, k_BRM: Tensor, where_BRM: Tensor
    ) -> tuple[Tensor, Tensor, AttentionMap]:
        """The query and where it points, both as x (B, L, M) or (B, P, L, M), and the weights (B, 1, P * L, R)."""
        q_BLM = q_BLM + self.query(self.norm(x_BLM))
        found_B1QM, weights = attention(q_BLM.flatten(1, -2)[:, None], k_BRM[:, None], where_BRM[:, None])
        return q_BLM, found_B1QM.view(x_BLM.shape), weights


class Network(nn.Module):
    """Words that point, layer by layer; where they point in the last is the answer. `words`: V."""

    def __init__(self, words: int, shape: Shape) -> None:
        super().__init__()
        self.table = nn.Embedding(words, shape.width, padding_idx=0)
        self.regions = Regions(words, shape)
        self.key = nn.Linear(shape.width, shape.width)
        self.layers = nn.ModuleList(Layer(shape, first=number == 0) for number in range(shape.layers))
        nn.init.normal_(self.table.weight, std=WORDS)
        with torch.no_grad():
            self.table.weight[0] = 0.0
        for part in (self.key, *self.layers.modules()):
            if isinstance(part, nn.Linear):  # so that what is found gets through all layers from the beginning
                nn.init.orthogonal_(part.weight)
                nn.init.zeros_(part.bias)

    def forward(self, pixels_BYX3: Tensor, words_BPL: Tensor) -> tuple[list[AttentionMap], Tensor]:
        """Where each word points, of each layer (B, 1, P * L, 1 + R), nowhere first; and which words are seen anywhere
        in a picture (B, V), as logits."""
        what_BRM, where_RM, seen_BRV = self.regions(pixels_BYX3)
        k_BRM, where_BRM = self.key(what_BRM + where_RM), where_RM.expand(what_BRM.shape)
        alone = words_BPL.shape[1] == 1  # each picture has one phrase: then attention has its usual axes
        x = self.table(words_BPL[:, 0] if alone else words_BPL)
        q, found, maps = torch.zeros_like(x), None, []
        for layer in self.layers:
            assert isinstance(layer, Layer)
            x = layer(x, found)
            q, found, weights = layer.pointer(x, q, k_BRM, where_BRM)
            maps.append(weights)
        return maps, seen_BRV.logsumexp(1)
