"""What is a text about, what does it say? One label for a text, and how much each word counted.

Words in their context are read by a learned query (Yang et al. 2016), or averaged.

Axes: B texts, L words, H width, O labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor, nn

from ..map import AttentionMap
from . import encoders
from .encoders import Pooling, TextEncoder, WordVectors, chosen, pooling
from .recipe import Answer, Predictor, Recipe, opened, told
from .rows import Malformed, Rows
from .words import WordBatch, Words, cut_texts, cut_words

__all__ = ["Classification", "Classified", "Classifier", "Shape", "load"]

MOST_WORDS = 2000
COMMON = {"width": 128, "layers": 1, "dropout": 0.5, "unknown": 0.1, "buckets": 20_000, "pooling": "attention"}


@dataclass(frozen=True)
class Shape(encoders.Shape):
    """An encoder, and how a text becomes one vector: read by "attention", or the "mean" of its words."""

    pooling: Pooling = "attention"

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen("pooling", self.pooling, get_args(Pooling))

    @property
    def name(self) -> str:
        return f"{super().name}, {'attention' if self.pooling == 'attention' else 'mean'} pooling"


@dataclass(frozen=True)
class Example:
    """A text as words, and its label."""

    words: tuple[str, ...]
    label: str


class Network(nn.Module):
    """Word vectors, an encoder, a pooling, and a linear layer."""

    def __init__(self, words: Words, labels: int, shape: Shape) -> None:
        super().__init__()
        self.vectors = WordVectors(words, shape.width, unknown=shape.unknown, dropout=shape.dropout)
        self.encoder = TextEncoder(shape)
        self.pooling = pooling(shape.pooling, self.encoder.width)
        self.dropout = nn.Dropout(shape.dropout)
        self.output = nn.Linear(self.encoder.width, labels)

    def forward(self, batch: WordBatch) -> tuple[Tensor, AttentionMap | None]:
        """Logits (B, O), and what each text's query read: (B, 1, 1, L), None where nothing is read."""
        x_BLM = self.vectors(batch)
        read_BH, weights = self.pooling(self.encoder(x_BLM, batch.lengths_B), batch.lengths_B)
        return self.output(self.dropout(read_BH)), weights


class Classification(Recipe[Example]):
    """`known`: words and labels. Raises ValueError if there are no two labels."""

    task, command, about, unit, shapes = "classification", "classify", "A classifier of texts", "sentence", Shape
    summary = "train a classifier of texts, which shows how much each word counted"
    files, ending = "a TSV file (text, tab, label)", ".tsv"
    sizes: ClassVar = {
        "rnn": {**COMMON, "cell": "gru", "hidden": 128},
        "transformer": {**COMMON, "heads": 4, "inner": 256},
    }
    epochs = 8
    rates: ClassVar = {"rnn": {"peak": 3e-3, "warmup": 100}, "transformer": {"peak": 1e-3, "warmup": 100}}

    def __init__(self, shape: Shape, known: dict[str, Any]) -> None:
        super().__init__(shape, known)
        self.words, self.labels = Words.of_json(known["words"]), tuple(known["labels"])

    @classmethod
    def read(cls, path: Path, known: dict[str, Any] | None, *, skip_bad: bool) -> Rows[Example]:
        labels = None if known is None else tuple(known["labels"])
        return Rows.of_lines(path, partial(_example, labels=labels), skip_bad=skip_bad)

    @classmethod
    def learn(cls, examples: Sequence[Example], shape: Shape) -> dict[str, Any]:
        labels = sorted({one.label for one in examples})
        if len(labels) < 2:
            raise ValueError(f"a classifier needs at least 2 labels; all {len(examples):,} texts have {labels[0]!r}")
        words = Words.learn((one.words for one in examples), buckets=shape.buckets)
        return {"labels": labels, "words": words.as_json()}

    def size(self, example: Example) -> int:
        return len(example.words)

    def choices(self, example: Example) -> int:
        return 1

    def text(self, example: Example) -> str:
        return " ".join(example.words)

    def model(self) -> Network:
        return Network(self.words, len(self.labels), self.shape)

    def logits(self, model: nn.Module, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        device = next(model.parameters()).device
        target_B = torch.tensor([self.labels.index(one.label) for one in examples], device=device)
        return model(self.words.batch([one.words for one in examples]).to(device))[0], target_B


def _example(line: str, place: str, labels: tuple[str, ...] | None) -> Example:
    columns = line.split("\t")
    if len(columns) != 2:
        message = f"expected 2 columns, a text and its label, separated by a tab; got {len(columns)}"
        raise Malformed(place, message, "not 2 columns")
    words, label = tuple(cut_words(columns[0])), columns[1].strip()
    if not words or not label:
        raise Malformed(place, f"the {'label' if words else 'text'} is empty", "empty column")
    if len(words) > MOST_WORDS:
        message = f"the text has {len(words):,} words; at most {MOST_WORDS:,} are allowed"
        raise Malformed(place, message, f"more than {MOST_WORDS:,} words")
    if labels is not None and label not in labels:
        some = ", ".join(map(repr, labels[:6])) + (", ..." if len(labels) > 6 else "")
        raise Malformed(
            place, f"no text of the training data has the label {label!r}; it knows {some}", "unknown label"
        )
    return Example(words, label)


@dataclass(frozen=True)
class Classified:
    """A text's label; `probabilities` of all labels; `weights`, how much of each word was read, None without attention
    pooling."""

    words: tuple[str, ...]
    label: str
    probabilities: dict[str, float]
    weights: tuple[float, ...] | None

    @property
    def probability(self) -> float:
        """Of the label."""
        return self.probabilities[self.label]


class Classifier(Predictor[Classification]):
    """A trained classifier; `load` makes one."""

    def look(self, text: str) -> Answer:
        (found,) = self.classify([text])
        return Answer(found.words, told(found.label, found.probability), (found.label,))

    def classify(self, texts: Sequence[str]) -> list[Classified]:
        """The label of each text.

        Raises:
            ValueError: one text instead of a list, or a text without a word, or with too many.
        """
        return [self._of_words(words) for words in cut_texts(texts, MOST_WORDS)]

    @torch.no_grad()
    def _of_words(self, words: Sequence[str]) -> Classified:
        logits_BO, weights = self.model(self.recipe.words.batch([words]))
        p_O = logits_BO[0].softmax(-1).tolist()
        probabilities = dict(zip(self.recipe.labels, p_O, strict=True))
        read = None if weights is None else tuple(weights[0, 0, 0].tolist())
        return Classified(tuple(words), max(probabilities, key=probabilities.__getitem__), probabilities, read)


def load(folder: str | Path) -> Classifier:
    """The classifier that `foveate train classify -o folder` left.

    Raises:
        ValueError: there is none, or its files do not belong together.
    """
    return Classifier(*opened(folder, Classification))
