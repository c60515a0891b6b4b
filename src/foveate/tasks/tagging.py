"""Which part of speech is each word? A Transformer's self-attention over the sentence, or a recurrence from both ends.

Words that training never saw are read by how they begin and end.

Axes: B sentences, L words, N words of all sentences, H width, O tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .conllu import MOST_WORDS, TAGS, Tagged, read_conllu
from .encoders import Shape, TextEncoder, WordVectors
from .recipe import Answer, Predictor, Recipe, opened, percent
from .rows import Rows
from .words import PAD, UNKNOWN, WordBatch, Words, cut_texts

__all__ = ["Shape", "Tagged", "Tagger", "Tagging", "load"]

COMMON = {"width": 128, "dropout": 0.3, "unknown": 0.2, "buckets": 20_000}


class Network(nn.Module):
    """Word vectors, an encoder, and a linear layer."""

    def __init__(self, words: Words, tags: int, shape: Shape) -> None:
        super().__init__()
        self.vectors = WordVectors(words, shape.width, unknown=shape.unknown, dropout=shape.dropout)
        self.encoder = TextEncoder(shape)
        self.dropout = nn.Dropout(shape.dropout)
        self.output = nn.Linear(self.encoder.width, tags)

    def forward(self, batch: WordBatch) -> Tensor:
        """Logits (N, O) of the words, sentence after sentence."""
        read_BLH = self.encoder(self.vectors(batch), batch.lengths_B)
        out: Tensor = self.output(self.dropout(read_BLH[batch.numbers_BL != PAD]))
        return out


class Tagging(Recipe[Tagged]):
    """`known`: words, and the tags that occur. Raises ValueError if there are no two."""

    task, command, about, unit, shapes = "tagging", "tag", "A tagger of words", "word", Shape
    summary = "train a tagger, which says each word's part of speech"
    files, ending = "a CoNLL-U file, of which FORM and UPOS are read", ".conllu"
    sizes: ClassVar = {
        "transformer": {**COMMON, "dropout": 0.2, "layers": 2, "heads": 4, "inner": 256},
        "rnn": {**COMMON, "layers": 1, "cell": "lstm", "hidden": 192},
    }
    epochs = 15
    rates: ClassVar = {"transformer": {"peak": 2e-3, "warmup": 200}, "rnn": {"peak": 3e-3, "warmup": 100}}

    def __init__(self, shape: Shape, known: dict[str, Any]) -> None:
        super().__init__(shape, known)
        self.words, self.labels = Words.of_json(known["words"]), tuple(known["tags"])

    @classmethod
    def read(cls, path: Path, known: dict[str, Any] | None, *, skip_bad: bool) -> Rows[Tagged]:
        return Rows.of(read_conllu(path, skip_bad=skip_bad), "sentences").used(path.name)

    @classmethod
    def learn(cls, examples: Sequence[Tagged], shape: Shape) -> dict[str, Any]:
        words = Words.learn((one.words for one in examples), buckets=shape.buckets)
        return {"tags": list(TAGS), "words": words.as_json()}

    def size(self, example: Tagged) -> int:
        return len(example.words)

    def choices(self, example: Tagged) -> int:
        return len(example.words)

    def text(self, example: Tagged) -> str:
        return " ".join(example.words)

    def model(self) -> Network:
        return Network(self.words, len(self.labels), self.shape)

    def logits(self, model: nn.Module, examples: Sequence[Tagged]) -> tuple[Tensor, Tensor]:
        device = next(model.parameters()).device
        target_N = torch.tensor([self.labels.index(tag) for one in examples for tag in one.tags], device=device)
        return model(self.words.batch([one.words for one in examples]).to(device)), target_N

    def scores(self, model: nn.Module, examples: Sequence[Tagged], cells: int) -> dict[str, float]:
        """Of all words, and of those that are not known, which training saw once or never."""
        judged = list(self.judged(model, examples, cells))
        unknown = [
            torch.tensor([self.words.number(word) == UNKNOWN for one in some for word in one.words])
            for some, _ in judged
        ]
        found = {"accuracy": percent(right_N for _, right_N in judged)}
        if any(bool(here.any()) for here in unknown):
            chosen = (right_N[here] for (_, right_N), here in zip(judged, unknown, strict=True))
            found["accuracy of unknown words"] = percent(chosen)
        return found


class Tagger(Predictor[Tagging]):
    """A trained tagger; `load` makes one."""

    def look(self, text: str) -> Answer:
        (found,) = self.tag([text])
        return Answer(found.words, " ".join(f"{word}/{tag}" for word, tag in zip(found.words, found.tags, strict=True)))

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        """The words of each text, and their tags.

        Raises:
            ValueError: one text instead of a list, or a text without a word, or with too many.
        """
        return [self._of_words(words) for words in cut_texts(texts, MOST_WORDS)]

    @torch.no_grad()
    def _of_words(self, words: Sequence[str]) -> Tagged:
        best_N = self.model(self.recipe.words.batch([words])).argmax(-1).tolist()
        return Tagged(tuple(words), tuple(self.recipe.labels[best] for best in best_N))


def load(folder: str | Path) -> Tagger:
    """The tagger that `foveate train tag -o folder` left.

    Raises:
        ValueError: there is none, or its files do not belong together.
    """
    return Tagger(*opened(folder, Tagging))
