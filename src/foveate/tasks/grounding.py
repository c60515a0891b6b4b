"""Which part of a picture is a phrase about? Its words point at regions; where the first one points is the answer.

What is trained is only whether a phrase fits a picture: the weight of all regions together should be 1 where it does,
and that of "nowhere" where it does not, in each layer; and which words are said of a picture at all. No box is ever
used in training.

Axes: D layers, B pictures, P phrases of each, N phrases of all, L words, R regions (row by row), T words that tell.
"""

from __future__ import annotations

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

from .photos import Photo, pixels_of, size_of
from .pointing import MOST_WORDS, Network, Shape
from .recipe import Recipe, percent
from .rows import Malformed, Rows
from .scenes import SIDE, Box, Described, Scene, scenes
from .words import PAD, Words, cut_words

__all__ = ["Example", "Grounding", "Picture", "inside", "middle", "peak", "within"]

MADE = {"train": 20_000, "valid": 500, "test": 2_000}  # scenes, where there is no file
COMMON = 0.5  # of phrases: a word in more of them says little
SEEN = 300  # a word of a phrase in fewer than one of so many pictures is not learned
Picture = Scene | Photo


@dataclass(frozen=True)
class Example:
    """A picture, phrases as words, whether each fits, and the box of what it is about, where known (for judging)."""

    picture: Picture
    phrases: tuple[tuple[str, ...], ...]
    fits: tuple[bool, ...]
    boxes: tuple[Box | None, ...]


class Grounding(Recipe[Example]):
    """`known`: words, and those of them that are in most phrases and so say little."""

    task, command, unit, shapes = "grounding", "ground", "picture", Shape
    about = "It shows which part of a picture a phrase is about"
    summary = "train a model that points at what a phrase is about in a picture, without being shown where"
    files, ending = "a TSV file (picture file, phrase, and maybe a box to judge by: left,top,right,bottom)", ".tsv"
    sizes: ClassVar = {
        "transformer": {
            "side": SIDE, "channels": 96, "width": 96, "layers": 3, "heads": 4, "inner": 192, "dropout": 0.1,
        }
    }  # fmt: skip
    metric = "ranking"
    epochs = 12
    precision = "float32"
    use = '"the red circle" --scene 1'
    rates: ClassVar = {"transformer": {"peak": 7e-4, "warmup": 300}}

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
        return self.shape.layers * len(example.phrases) + len(self.telling)

    def text(self, example: Example) -> str:
        return " ".join(example.phrases[example.fits.index(True)])

    def model(self) -> Network:
        return Network(len(self.words), self.shape)

    def pixels(self, pictures: Sequence[Picture]) -> NDArray[np.uint8]:
        """(B, side, side, 3): what the model sees of some pictures."""
        return np.stack([pixels_of(one, self.shape.side) for one in pictures])

    def read_by(self, model: nn.Module, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """Where the first word of each phrase points, layer by layer, nowhere first (D, N, 1 + R), the last layer's the
        answer; which words are seen (B, V), as logits."""
        device = next(model.parameters()).device
        numbers = [[[self.words.number(word) for word in phrase] for phrase in one.phrases] for one in examples]
        most, longest = max(map(len, numbers)), max(len(one) for some in numbers for one in some)
        words_BPL = torch.full((len(examples), most, longest), PAD)
        for b, some in enumerate(numbers):
            for p, one in enumerate(some):
                words_BPL[b, p, longest - len(one) :] = torch.tensor(one)  # padding comes first, where nobody looks
        length_BP = (words_BPL != PAD).sum(-1)
        first_BPL = torch.arange(longest) == longest - length_BP[..., None]
        pixels = torch.from_numpy(self.pixels([one.picture for one in examples]))
        maps, seen_BV = model(pixels.to(device), words_BPL.to(device))
        first_BQ = first_BPL.flatten(1).to(device)
        return torch.stack([weights[...][:, 0][first_BQ] for weights in maps]), seen_BV

    def logits(self, model: nn.Module, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """Two choices each: whether a phrase fits, in training as each layer says, and in training also whether a word
        is seen in a picture, which it should be if a phrase that fits has it."""
        weights_DNR, seen_BV = self.read_by(model, examples)
        weights_NR = weights_DNR.flatten(0, 1) if model.training else weights_DNR[-1]
        shares_N2 = torch.stack([weights_NR[:, 0], weights_NR[:, 1:].sum(-1)], -1)
        fits_N2 = shares_N2.clamp(min=torch.finfo(shares_N2.dtype).tiny).log()
        targets = [int(fits) for one in examples for fits in one.fits] * (len(weights_NR) // weights_DNR.shape[1])
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
        """In percent: how many phrases are rightly said to fit or not; of two phrases about a picture, one of which
        fits, how often that one is the likelier; and, where boxes are given, how often the strongest region of one that
        fits lies inside."""
        right: list[Tensor] = []
        ranked: list[Tensor] = []
        hits: list[Tensor] = []
        for some in self.together(examples, cells):
            weights_NR = self.read_by(model, some)[0][-1].cpu()
            shares_2N = torch.stack([weights_NR[:, 0], weights_NR[:, 1:].sum(-1)])
            odds_N = torch.sub(*shares_2N.clamp(min=torch.finfo(torch.float32).tiny).log())  # of nowhere
            fits_N = torch.tensor([fits for one in some for fits in one.fits])
            right.append((odds_N < 0) == fits_N)
            many = [len(one.fits) for one in some]
            for odds, fits in zip(odds_N.split(many), fits_N.split(many), strict=True):
                ranked.append((odds[fits][:, None] < odds[~fits]).flatten())
            boxes = [(box, one.picture) for one in some for box in one.boxes]
            places = zip(weights_NR[:, 1:].argmax(-1).tolist(), boxes, strict=True)
            found = [inside(at, box, self.shape.grid, picture) for at, (box, picture) in places if box is not None]
            hits.append(torch.tensor(found))
        pointing = {"pointing": percent(hits)} if sum(map(len, hits)) else {}
        return {"accuracy": percent(right), "ranking": percent(ranked), **pointing}


def peak(weights_YX: NDArray[np.float32]) -> tuple[float, float]:
    """Row and column, from 0, of the middle of the weight that lies in the strongest region and those around it."""
    row, column = np.unravel_index(weights_YX.argmax(), weights_YX.shape)
    rows, columns = (slice(max(0, at - 1), at + 2) for at in (int(row), int(column)))
    near_YX = weights_YX[rows, columns].astype(np.float64)
    y, x = np.indices(near_YX.shape)
    whole = near_YX.sum()
    return rows.start + float((y * near_YX).sum() / whole), columns.start + float((x * near_YX).sum() / whole)


def middle(row: float, column: float, grid: int, picture: Picture) -> tuple[float, float]:
    """Of a region: x and y in pixels of the picture."""
    width, height = size_of(picture)
    return (column + 0.5) / grid * width, (row + 0.5) / grid * height


def within(x: float, y: float, box: Box) -> bool:
    """Whether a place lies in a box."""
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def inside(region: int, box: Box, grid: int, picture: Picture) -> bool:
    """Whether the middle of a region lies in a box, which is in pixels of the picture."""
    return within(*middle(*divmod(region, grid), grid, picture), box)


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
