"""Which part of a picture is a phrase about? Its words read regions; where the first one looks is the answer.

Each word knows those after it, so it stands for the phrase from there on: in "red circle left of the square" the last
word is about the square, "circle" about the circle left of it. Each word points: at regions, or at one key more, which
stands for "nowhere". What is trained is only whether a phrase fits a picture: the weight of all regions together should
be 1 where it does, and that of "nowhere" where it does not; and which words are said of a picture at all. No box is
ever used in training.

Axes: B pictures, P phrases of each, L words, R regions (row by row), M width, C channels.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .. import masks
from ..attend import attention
from ..map import AttentionMap
from ..nn import FeedForward, MultiHeadAttention
from ..nn.encoder import Sublayers
from .encoders import check_shares, chosen, neighbours
from .photos import Photo, pixels_of, size_of
from .recipe import Recipe, percent
from .rows import Malformed, Rows
from .scenes import SIDE, Box, Described, Scene, scenes
from .words import PAD, Words, cut_words

__all__ = ["MOST_WORDS", "REGION", "Example", "Grounding", "Network", "Picture", "Shape", "inside", "middle"]

MOST_WORDS = 60  # of a phrase
REGION = 8  # pixels of a side
MADE = {"train": 20_000, "valid": 500, "test": 2_000}  # scenes, where there is no file
COMMON = 0.5  # of phrases: a word in more of them says little
SEEN = 300  # a word of a phrase in fewer than one of so many pictures is not learned
FROM_HERE = masks.window(0, MOST_WORDS)
PLACES, WORDS = 0.3, 0.5  # standard deviations in the beginning
Picture = Scene | Photo


@dataclass(frozen=True)
class Shape:
    """Widths.

    Args:
        side: pixels of the square that a picture is fitted into, a multiple of 8.
        channels: of the last convolution.
        width, layers, heads, inner: of the Transformer that reads words and, at each layer, regions.
        dropout: of what each layer adds.

    Raises:
        ValueError: a name that is unknown, or a number out of range.
    """

    arch: str = "transformer"
    side: int = SIDE
    channels: int = 96
    width: int = 96
    layers: int = 2
    heads: int = 4
    inner: int = 192
    dropout: float = 0.0

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


@dataclass(frozen=True)
class Example:
    """A picture, phrases as words, whether each fits, and the box of what it is about, where known (for judging)."""

    picture: Picture
    phrases: tuple[tuple[str, ...], ...]
    fits: tuple[bool, ...]
    boxes: tuple[Box | None, ...]


class Regions(nn.Module):
    """Pixels -> vectors of regions: what is there, and where it is.

    Convolutions see a region and little around it. What they see becomes, for each word, how likely it is to be said of
    the region, and the logarithms of that are what keys are made of: their sum over the words of a phrase, which a
    query can take, says how likely all of them are.
    """

    def __init__(self, words: int, shape: Shape) -> None:
        super().__init__()
        c = shape.channels
        halving = ((3, c // 3), (c // 3, 2 * c // 3), (2 * c // 3, c))  # of 4 x 4, so that all are around one middle
        made = [*(nn.Conv2d(a, b, 4, 2, 1) for a, b in halving), nn.Conv2d(c, c, 3, 1, 1)]
        self.convolutions = nn.ModuleList(made)
        for convolution in made:  # PyTorch's own beginning lets the picture fade from layer to layer
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)
        self.seen = nn.Linear(c, words)
        nn.init.constant_(self.seen.bias, -math.log(shape.grid**2))  # in the beginning a word is said of one region
        self.output = nn.Linear(words, shape.width)
        self.row, self.column = (nn.Parameter(torch.empty(shape.grid, shape.width)) for _ in range(2))
        self.nowhere = nn.Parameter(torch.empty(shape.width))
        for table in (self.row, self.column, self.nowhere):
            nn.init.normal_(table, std=PLACES)

    def forward(self, pixels_BYX3: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 (B, side, side, 3) -> what (B, 1 + R, M), 0 nowhere, which is the first; where (1 + R, M); and whether
        a word is said of a region, as logits (B, R, V)."""
        x = pixels_BYX3.permute(0, 3, 1, 2).float() / 85
        x = x - x.flatten(2).median(-1).values[..., None, None]  # what differs from the ground
        for convolution in self.convolutions:
            x = F.gelu(convolution(x))
        seen_BRV = self.seen(x.flatten(2).transpose(1, 2))
        what_BRM = self.output(F.logsigmoid(seen_BRV))
        where_RM = torch.cat([self.nowhere[None], (self.row[:, None] + self.column[None]).flatten(0, 1)])
        return F.pad(what_BRM, (0, 0, 1, 0)), where_RM, seen_BRV


class Layer(Sublayers):
    """Words read the words after them, then regions, of which they learn where they are and not what is there."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape.dropout, "pre")
        width = shape.width
        self.attention_norm, self.cross_attention_norm, self.feed_forward_norm = (nn.LayerNorm(width) for _ in range(3))
        self.attention = MultiHeadAttention(width, shape.heads, positions=neighbours(shape.heads))
        self.cross_attention = MultiHeadAttention(width, shape.heads)
        self.feed_forward = FeedForward(width, shape.inner)

    def forward(self, x_BLM: Tensor, regions_BRM: Tensor, where_RM: Tensor) -> Tensor:
        """(B, L, M)."""
        where_BRM = where_RM.expand(regions_BRM.shape)
        x_BLM = self.around(self.attention_norm, lambda x: self.attention(x, mask=FROM_HERE), x_BLM)
        x_BLM = self.around(self.cross_attention_norm, lambda x: self.cross_attention(x, regions_BRM, where_BRM), x_BLM)
        return self.around(self.feed_forward_norm, self.feed_forward, x_BLM)


class Network(nn.Module):
    """Words that read regions, layer by layer, and at last point. `words`: how many numbers of words there are."""

    def __init__(self, words: int, shape: Shape) -> None:
        super().__init__()
        self.table = nn.Embedding(words, shape.width, padding_idx=0)
        self.regions = Regions(words, shape)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.pointer = Pointer(shape.width)
        nn.init.normal_(self.table.weight, std=WORDS)
        with torch.no_grad():
            self.table.weight[0] = 0.0

    def forward(
        self, pixels_BYX3: Tensor, words_BPL: Tensor, first_BP: Tensor | None = None
    ) -> tuple[AttentionMap, Tensor]:
        """Where each word looks (B, 1, P * L, 1 + R), with `first_BP` only that word of each phrase (B, 1, P, 1 + R);
        and which words are seen anywhere in a picture (B, V), as logits."""
        what_BRM, where_RM, seen_BRV = self.regions(pixels_BYX3)
        both_BRM = what_BRM + where_RM
        x = self.table(words_BPL)
        alone = x.shape[1] == 1  # each picture has one phrase: then attention has its usual axes
        x, memory = (x[:, 0], both_BRM) if alone else (x, both_BRM[:, None])
        for layer in self.layers:
            x = layer(x, memory, where_RM)
        x_BPLM = self.norm(x[:, None] if alone else x)
        if first_BP is not None:
            x_BPLM = x_BPLM.gather(2, first_BP[..., None, None].expand(*first_BP.shape, 1, x_BPLM.shape[-1]))
        weights: AttentionMap = self.pointer(x_BPLM.flatten(1, 2), both_BRM)
        return weights, seen_BRV.logsumexp(1)


class Pointer(nn.Module):
    """One head, whose weights are what is wanted of it."""

    is_cross_attention = True  # which `foveate.watch` asks for

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x_BQM: Tensor, both_BRM: Tensor) -> AttentionMap:
        """(B, 1, Q, R)."""
        k_B1RM = self.key(both_BRM)[:, None]
        return attention(self.query(x_BQM)[:, None], k_B1RM, k_B1RM)[1]


class Grounding(Recipe[Example]):
    """`known`: words, and those of them that are in most phrases and so say little."""

    task, command, unit, shapes = "grounding", "ground", "picture", Shape
    about = "It shows which part of a picture a phrase is about"
    summary = "train a model that points at what a phrase is about in a picture, without being shown where"
    files, ending = "a TSV file (picture file, phrase, and maybe a box to judge by: left,top,right,bottom)", ".tsv"
    sizes: ClassVar = {
        "transformer": {
            "side": SIDE, "channels": 96, "width": 96, "layers": 2, "heads": 4, "inner": 192, "dropout": 0.0,
        }
    }  # fmt: skip
    epochs = 10
    precision = "float32"
    use = '"the red circle" --scene 1'
    rates: ClassVar = {"transformer": {"peak": 2e-3, "warmup": 300}}

    def __init__(self, shape: Shape, known: dict[str, Any]) -> None:
        super().__init__(shape, known)
        self.words = Words.of_json(known["words"])
        common = set(known["common"])
        self.telling = [self.words.number(word) for word in self.words.known if word not in common]
        if not self.telling:
            raise ValueError("all words are in most phrases: there is nothing to tell pictures apart by")

    @classmethod
    def read(cls, path: Path, known: dict[str, Any] | None, *, skip_bad: bool) -> Rows[Example]:
        rows = Rows.of_lines(path, partial(_of_row, folder=path.parent), skip_bad=skip_bad)
        return Rows(_with_others(rows.items, path), rows.lines, rows.skipped, rows.first, rows.unit)

    @classmethod
    def made(cls, name: str, seed: int) -> Rows[Example]:
        examples = [of_scene(one) for one in scenes(seed, MADE[name], split=name)]
        return Rows(examples, len(examples), unit="scenes")

    @classmethod
    def learn(cls, examples: Sequence[Example], shape: Shape) -> dict[str, Any]:
        least = max(2, len(examples) // SEEN)
        phrases = [phrase for one in examples for phrase in one.phrases]
        words = Words.learn(phrases, least=least, buckets=0)
        counts = Counter(word for phrase in phrases for word in {word.lower() for word in phrase})
        common = [word for word in words.known if counts[word] > COMMON * len(phrases)]
        return {"words": words.as_json(), "common": common}

    def size(self, example: Example) -> int:
        return len(example.phrases) * max(map(len, example.phrases))

    def choices(self, example: Example) -> int:
        return len(example.phrases) + len(self.telling)

    def text(self, example: Example) -> str:
        return " ".join(example.phrases[example.fits.index(True)])

    def model(self) -> Network:
        return Network(len(self.words), self.shape)

    def pixels(self, pictures: Sequence[Picture]) -> NDArray[np.uint8]:
        """(B, side, side, 3): what the model sees of some pictures."""
        return np.stack([pixels_of(one, self.shape.side) for one in pictures])

    def read_by(self, model: nn.Module, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """Where the first word of each phrase looks, nowhere first (N, 1 + R); which words are seen (B, V): logits."""
        device = next(model.parameters()).device
        numbers = [[[self.words.number(word) for word in phrase] for phrase in one.phrases] for one in examples]
        most, longest = max(map(len, numbers)), max(len(one) for some in numbers for one in some)
        words_BPL = torch.full((len(examples), most, longest), PAD)
        for b, some in enumerate(numbers):
            for p, one in enumerate(some):
                words_BPL[b, p, longest - len(one) :] = torch.tensor(one)  # padding comes first, where nobody looks
        length_BP = (words_BPL != PAD).sum(-1)
        pixels = torch.from_numpy(self.pixels([one.picture for one in examples]))
        weights, seen_BV = model(
            pixels.to(device), words_BPL.to(device), (longest - length_BP).clamp(max=longest - 1).to(device)
        )
        return weights[...][:, 0][length_BP > 0], seen_BV

    def logits(self, model: nn.Module, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """Two choices each: whether a phrase fits; in training also whether a word is seen in a picture, which it
        should be if a phrase that fits has it."""
        weights_NR, seen_BV = self.read_by(model, examples)
        shares_N2 = torch.stack([weights_NR[:, 0], weights_NR[:, 1:].sum(-1)], -1)
        fits_N2 = shares_N2.clamp(min=torch.finfo(shares_N2.dtype).tiny).log()
        targets = [int(fits) for one in examples for fits in one.fits]
        if not model.training:
            return fits_N2, torch.tensor(targets, device=fits_N2.device)
        seen_BT = seen_BV[:, self.telling]
        words_N2 = torch.stack([torch.zeros_like(seen_BT), seen_BT], -1).flatten(0, 1)
        targets += [int(number in said) for said in map(self._said, examples) for number in self.telling]
        return torch.cat([fits_N2, words_N2]), torch.tensor(targets, device=fits_N2.device)

    def _said(self, example: Example) -> set[int]:
        """The words of all phrases that fit."""
        phrases = zip(example.phrases, example.fits, strict=True)
        return {self.words.number(word) for phrase, fits in phrases if fits for word in phrase}

    def scores(self, model: nn.Module, examples: Sequence[Example], cells: int) -> dict[str, float]:
        """How many phrases are rightly said to fit or not, and, where boxes are given, how often the strongest region
        of one that fits lies inside, in percent."""
        right: list[Tensor] = []
        hits: list[Tensor] = []
        for some in self.together(examples, cells):
            weights_NR = self.read_by(model, some)[0].cpu()
            right.append((weights_NR[:, 0] < 0.5) == torch.tensor([fits for one in some for fits in one.fits]))
            boxes = [(box, one.picture) for one in some for box in one.boxes]
            places = zip(weights_NR[:, 1:].argmax(-1).tolist(), boxes, strict=True)
            found = [inside(at, box, self.shape.grid, picture) for at, (box, picture) in places if box is not None]
            hits.append(torch.tensor(found))
        pointing = {"pointing": percent(hits)} if sum(map(len, hits)) else {}
        return {"accuracy": percent(right), **pointing}


def middle(region: int, grid: int, picture: Picture) -> tuple[float, float]:
    """Of a region: x and y in pixels of the picture."""
    (row, column), (width, height) = divmod(region, grid), size_of(picture)
    return (column + 0.5) / grid * width, (row + 0.5) / grid * height


def inside(region: int, box: Box, grid: int, picture: Picture) -> bool:
    """Whether the middle of a region lies in a box, which is in pixels of the picture."""
    x, y = middle(region, grid, picture)
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def of_scene(one: Described) -> Example:
    """An example of a scene that the project drew."""
    phrases = tuple(tuple(cut_words(phrase)) for phrase in one.phrases)
    return Example(one.scene, phrases, tuple(box is not None for box in one.boxes), one.boxes)


def _of_row(line: str, place: str, folder: Path) -> Example:
    columns = line.split("\t")
    if len(columns) not in (2, 3):
        message = (
            f"expected 2 or 3 columns, a picture file, a phrase and maybe a box, separated by tabs; got {len(columns)}"
        )
        raise Malformed(place, message, "not 2 or 3 columns")
    words = tuple(cut_words(columns[1]))
    if not words:
        raise Malformed(place, "the phrase is empty", "empty column")
    if len(words) > MOST_WORDS:
        raise Malformed(place, f"the phrase has {len(words):,} words; at most {MOST_WORDS} are read", "too many words")
    try:
        photo = Photo.of(folder / columns[0].strip())
    except ValueError as error:
        raise Malformed(place, str(error), "no picture") from None
    box = _box(columns[2], photo, place) if len(columns) == 3 else None
    return Example(photo, (words,), (True,), (box,))


def _box(text: str, photo: Photo, place: str) -> Box:
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        left = top = right = bottom = float("nan")
    width, height = photo.size
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        message = f"a box is left,top,right,bottom in pixels, here within {width} x {height}; got {text.strip()!r}"
        raise Malformed(place, message, "no box")
    return left, top, right, bottom


def _with_others(examples: list[Example], path: Path) -> list[Example]:
    """Each with as many phrases that are taken not to fit: another picture's.

    Raises:
        Malformed: all phrases, or all pictures, are the same.
    """
    phrases = [one.phrases[0] for one in examples]
    theirs: dict[Picture, set[tuple[str, ...]]] = defaultdict(set)
    for one, own in zip(examples, phrases, strict=True):
        theirs[one.picture].add(own)
    out, count = [], len(examples)
    step = max(1, count // 2)
    for at, (one, own) in enumerate(zip(examples, phrases, strict=True)):
        turned = (phrases[(at + step + more) % count] for more in range(count))
        other = next((phrase for phrase in turned if phrase not in theirs[one.picture]), None)
        if other is None:
            raise Malformed(path.name, "there must be two pictures at least, with different phrases", "one picture")
        out.append(Example(one.picture, (own, other), (True, False), (*one.boxes, None)))
    return out
