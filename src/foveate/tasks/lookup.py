"""Answer a question from a page that was never seen before: one word of the page, pointed at by attention.

The question becomes one query, the page's words in their context are keys, and the weights of this one attention are
the answer's probabilities (pointer networks, Vinyals et al. 2015). So an answer cannot be remembered, only found.

Axes: B examples, Q words of a question, K words of a page, M width of word vectors, H width of an encoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import masks
from ..attend import attention
from ..nn import AttentionPooling
from .encoders import Shape, TextEncoder, WordVectors
from .recipe import Answer, Predictor, Recipe, opened, told
from .rows import Malformed, Rows, decoded, lines_of
from .words import WordBatch, Words, cut_words

__all__ = ["Found", "LookingUp", "Reader", "Shape", "load", "parted"]

MOST_WORDS = 5000
RARE = 500  # a word that stands in fewer than one of so many examples is not known: it is a name
SHARP = 4.0  # by how much likeness is multiplied before a softmax
COMMON = {"width": 128, "layers": 1, "dropout": 0.1, "unknown": 0.3, "buckets": 20_000}


@dataclass(frozen=True)
class Example:
    """A question, a page, and the place of the answer in it."""

    question: tuple[str, ...]
    page: tuple[str, ...]
    place: int


class Pointer(nn.Module):
    """Attention of one query over a page; (B, H), (B, K, H) -> logarithms of its weights (B, K), up to a constant.

    Training takes them from the scores, which neither vanish nor need values; else they are those of the map itself, so
    that what is seen is what answers.
    """

    is_cross_attention = True  # which `foveate.watch` asks for

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, query_BH: Tensor, page_BKH: Tensor, lengths_B: Tensor) -> Tensor:
        q_B1H, k_BKH = self.query(query_BH)[:, None], self.key(page_BKH)
        scale = q_B1H.shape[-1] ** -0.5
        if not self.training:
            q, k, v = (t[:, None] for t in (q_B1H, k_BKH, page_BKH))
            return attention(q, k, v, scale=scale, mask=masks.padding(lengths_B))[1].dense()[:, 0, 0].log()
        outside_BK = torch.arange(k_BKH.shape[1], device=k_BKH.device) >= lengths_B[:, None]
        return (scale * (q_B1H @ k_BKH.mT)[:, 0]).masked_fill(outside_BK, float("-inf"))


class Alignment(nn.Module):
    """What of the question is like a word of the page, and how like it is: (B, K, M), (B, Q, M) -> (B, K, M + 1)."""

    is_cross_attention = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.compare = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.compare.weight)  # a word is like itself

    def forward(self, page_BKM: Tensor, question_BQM: Tensor, lengths_B: Tensor) -> Tensor:
        q, k, v = (t[:, None] for t in (self.compare(page_BKM), self.compare(question_BQM), question_BQM))
        like_BKM = attention(q, k, v, scale=SHARP, mask=masks.padding(lengths_B))[0][:, 0]
        return torch.cat([like_BKM, (like_BKM * page_BKM).sum(-1, keepdim=True)], dim=-1)


class Network(nn.Module):
    """One set of word vectors for questions and pages, so that names are alike in both; each word of the page is told
    what it is like in the question, an encoder carries that to its neighbours, and the question points."""

    def __init__(self, words: Words, shape: Shape) -> None:
        super().__init__()
        self.vectors = WordVectors(words, shape.width, unknown=shape.unknown)
        self.dropout = nn.Dropout(shape.dropout)
        self.alignment = Alignment(shape.width)
        self.join = nn.Linear(2 * shape.width + 1, shape.width)
        self.encoder = TextEncoder(shape)
        self.question = AttentionPooling(shape.width)
        self.ask = nn.Linear(shape.width, self.encoder.width)
        self.pointer = Pointer(self.encoder.width)

    def forward(self, question: WordBatch, page: WordBatch) -> Tensor:
        """Logits (B, K) of the page's words; -inf behind its end."""
        asked_BQM, read_BKM = self.vectors(question), self.vectors(page)
        like_BKN = self.alignment(read_BKM, asked_BQM, question.lengths_B)
        joined_BKM = self.dropout(self.join(torch.cat([read_BKM, like_BKN], dim=-1)))
        page_BKH = self.encoder(joined_BKM, page.lengths_B)
        query_BM, _ = self.question(asked_BQM, question.lengths_B)
        out: Tensor = self.pointer(self.ask(query_BM), page_BKH, page.lengths_B)
        return out


class LookingUp(Recipe[Example]):
    """`known`: words."""

    task, command, about, unit, shapes = "lookup", "qa", "A reader that answers from a page", "question", Shape
    summary = "train a reader, which answers questions from a page that it has never seen"
    files, ending = "a TSV file (question, tab, page, tab, answer: one word of the page)", ".tsv"
    sizes: ClassVar = {
        "rnn": {**COMMON, "cell": "gru", "hidden": 128},
        "transformer": {**COMMON, "layers": 2, "heads": 4, "inner": 256},
    }
    epochs = 3
    rates: ClassVar = {"rnn": {"peak": 3e-3, "warmup": 100}, "transformer": {"peak": 2e-3, "warmup": 200}}

    def __init__(self, shape: Shape, known: dict[str, Any]) -> None:
        super().__init__(shape, known)
        self.words = Words.of_json(known["words"])

    @classmethod
    def read(cls, path: Path, known: dict[str, Any] | None, *, skip_bad: bool) -> Rows[Example]:
        return Rows.of(_read(path, skip_bad)).used(path.name)

    @classmethod
    def learn(cls, examples: Sequence[Example], shape: Shape) -> dict[str, Any]:
        texts = (text for one in examples for text in (one.question, one.page))
        return {"words": Words.learn(texts, least=max(2, len(examples) // RARE), buckets=shape.buckets).as_json()}

    def size(self, example: Example) -> int:
        return len(example.page)

    def choices(self, example: Example) -> int:
        return 1

    def text(self, example: Example) -> str:
        return f"{' '.join(example.question)}\t{' '.join(example.page)}"

    def model(self) -> Network:
        return Network(self.words, self.shape)

    def logits(self, model: nn.Module, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        device = next(model.parameters()).device
        question, page = ([getattr(one, side) for one in examples] for side in ("question", "page"))
        place_B = torch.tensor([one.place for one in examples], device=device)
        return model(*(self.words.batch(texts).to(device) for texts in (question, page))), place_B


def _read(path: Path, skip_bad: bool) -> Iterator[Example | Malformed]:
    for number, line in enumerate(lines_of(path), 1):
        place = f"{path.name}:{number}"
        try:
            yield _example(decoded(line, place, number), place)
        except Malformed as error:
            if not skip_bad:
                raise
            yield error


def _example(line: str, place: str) -> Example:
    columns = line.split("\t")
    if len(columns) != 3:
        message = f"expected 3 columns, a question, a page and the answer, separated by a tab; got {len(columns)}"
        raise Malformed(place, message, "not 3 columns")
    question, page = (tuple(cut_words(text)) for text in columns[:2])
    answer = columns[2].strip()
    for name, filled in (("question", question), ("page", page), ("answer", answer)):
        if not filled:
            raise Malformed(place, f"the {name} is empty", "empty column")
    if len(question) + len(page) > MOST_WORDS:
        message = f"question and page have {len(question) + len(page):,} words; at most {MOST_WORDS:,} are allowed"
        raise Malformed(place, message, f"more than {MOST_WORDS:,} words")
    if page.count(answer) != 1:
        message = f"the answer must be a word that stands in the page once; {answer!r} does {page.count(answer)} times"
        raise Malformed(place, message, "answer not in the page once")
    return Example(question, page, page.index(answer))


@dataclass(frozen=True)
class Found:
    """The word of the page that answers, how probable it is, and how much of each word was read: the probabilities."""

    answer: str
    probability: float
    page: tuple[str, ...]
    weights: tuple[float, ...]


class Reader(Predictor[LookingUp]):
    """A trained reader; `load` makes one."""

    shown = "pointer"

    def look(self, text: str) -> Answer:
        question, page = parted(text)
        found = self.find(question, page)
        return Answer(found.page, told(found.answer, found.probability), (" ".join(question.split()),))

    @torch.no_grad()
    def find(self, question: str, page: str) -> Found:
        """The answer to a question.

        Raises:
            ValueError: either has no word, or together they have too many.
        """
        asked, read = (tuple(cut_words(text)) for text in (question, page))
        if not asked or not read:
            raise ValueError(f"there is no word in the {'page' if asked else 'question'}")
        if len(asked) + len(read) > MOST_WORDS:
            raise ValueError(f"there are {len(asked) + len(read):,} words; at most {MOST_WORDS:,} are read")
        logits_BK = self.model(self.recipe.words.batch([asked]), self.recipe.words.batch([read]))
        weights = logits_BK[0].softmax(-1).tolist()
        best = weights.index(max(weights))
        return Found(read[best], weights[best], read, tuple(weights))


def parted(text: str) -> tuple[str, str]:
    """The question and the page of a text that holds both: a tab is between them, or the first question mark.

    Raises:
        ValueError: there is neither.
    """
    question, tab, page = text.partition("\t")
    if not tab:
        question, mark, page = text.partition("?")
        question += mark
        if not mark:
            raise ValueError("give a question, and then the page that answers it; the question ends with ? or a tab")
    return question, page


def load(folder: str | Path) -> Reader:
    """The reader that `foveate train qa -o folder` left.

    Raises:
        ValueError: there is none, or its files do not belong together.
    """
    return Reader(*opened(folder, LookingUp))
