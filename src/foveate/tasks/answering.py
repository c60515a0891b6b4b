"""Which words of a text answer a question? Two heads point at the first and the last of them.

Their weights are the answer: nothing chooses from a list of answers, so none can be learned by heart. Words that are
not known have no vector of their own; equal ones have the same signs (`identity`), with which the question's words are
found again in the text. A word of the text sees the question and its neighbours, never the whole text: so what it
becomes does not depend on how long the text is.

Axes: B examples, L words (the question, then the text), M width, S signs, D width of a pointer's head, V known words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from .. import masks
from ..attend import attention
from ..map import AttentionMap
from ..nn import Encoder, MultiHeadAttention
from ..nn.parts import split_heads
from ..positions import RelativeBuckets
from .bucketing import cut
from .encoders import check_shares, chosen
from .facts import questions
from .identity import signs
from .recipe import Recipe, percent
from .rows import Malformed, Rows, decoded, lines_of
from .words import cut_words

__all__ = ["LONGEST", "MOST_WORDS", "Answering", "Example", "Network", "Shape", "asked", "best", "of_row"]

MOST_WORDS = 4000  # of a question and its text
LONGEST = 12  # words of an answer
PAD, MARK, UNKNOWN, FIRST = 0, 1, 2, 3
ASKS = "?"  # ends each question, whatever it ended with; the answer is asked for from there
MADE = {"train": 24_000, "valid": 500, "test": 1_000}  # examples, where there is no file
HIDDEN = -1e4  # the logit of a place that cannot be chosen


@dataclass(frozen=True)
class Shape:
    """An encoder's widths.

    Args:
        width, layers, heads, inner: of the Transformer.
        window: how many words before and after itself a word of the text sees.
        signs: that tell words apart, a multiple of 8.
        dropout: of what each layer adds.
        unknown: how often training takes a known word for one that it does not know.

    Raises:
        ValueError: a name that is unknown, or a number out of range.
    """

    arch: str = "transformer"
    width: int = 96
    layers: int = 3
    heads: int = 4
    inner: int = 192
    window: int = 32
    signs: int = 128
    dropout: float = 0.0
    unknown: float = 0.03

    def __post_init__(self) -> None:
        chosen("arch", self.arch, ("transformer",))
        check_shares(self, "dropout", "unknown")
        if self.window < 1:
            raise ValueError(f"window must be at least 1; got {self.window}")

    @property
    def name(self) -> str:
        """For people."""
        return "Transformer with pointers"


@dataclass(frozen=True)
class Example:
    """A question (`asked`) and a text as words, and the places of the answer: its first word, and one past its last."""

    question: tuple[str, ...]
    context: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Batch:
    """A question and its text in one row, padded on the right."""

    numbers_BL: Tensor
    signs_BLS: Tensor
    looks_BL: Tensor
    same_BL: Tensor  # 1 where a word of the text is a word of the question, too, else 0
    asked_B: Tensor  # words of the question
    lengths_B: Tensor


class Network(nn.Module):
    """Words, an encoder, and a pointer. `known`: how many words have a vector of their own."""

    def __init__(self, known: int, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.table = nn.Embedding(FIRST + known, shape.width, padding_idx=PAD)
        self.signs = nn.Linear(shape.signs, shape.width, bias=False)
        self.looks = nn.Embedding(len(LOOKS), shape.width)
        self.same = nn.Embedding(2, shape.width)
        self.encoder = Encoder(
            shape.layers,
            shape.width,
            shape.heads,
            shape.inner,
            dropout=shape.dropout,
            attention=lambda: MultiHeadAttention(
                shape.width, shape.heads, positions=RelativeBuckets(shape.heads, max_distance=16 + shape.window)
            ),
        )
        self.pointer = Pointer(shape.width)
        for table in (self.table, self.looks, self.same):
            nn.init.normal_(table.weight, std=shape.width**-0.5)
        nn.init.normal_(self.signs.weight, std=shape.signs**-0.5)
        with torch.no_grad():
            self.table.weight[PAD] = 0.0
            first: Any = self.encoder.layers[0].attention
            first.key.weight.copy_(first.query.weight)  # equal words find each other from the first step on

    def forward(self, batch: Batch) -> AttentionMap:
        """(B, 2, 1, L): where each answer begins and ends."""
        numbers_BL = batch.numbers_BL
        if self.training and self.shape.unknown:  # in question and text alike
            drawn_BV = torch.rand(len(numbers_BL), self.table.num_embeddings, device=numbers_BL.device)
            hidden_BL = drawn_BV.gather(1, numbers_BL) < self.shape.unknown
            numbers_BL = torch.where(hidden_BL & (numbers_BL >= FIRST), UNKNOWN, numbers_BL)
        unknown_BL1 = (numbers_BL == UNKNOWN)[..., None]
        x_BLM = self.table(numbers_BL) + self.looks(batch.looks_BL) + self.same(batch.same_BL)
        x_BLM = x_BLM + self.signs(batch.signs_BLS * unknown_BL1)
        question = masks.padding(batch.asked_B)
        inside = masks.padding(batch.lengths_B)
        x_BLM = self.encoder(x_BLM, mask=question | masks.window(self.shape.window) & inside)
        asks_B1M = x_BLM[torch.arange(len(x_BLM)), batch.asked_B - 1][:, None]
        out: AttentionMap = self.pointer(asks_B1M, x_BLM, inside & ~question)
        return out


class Pointer(nn.Module):
    """Two heads, whose weights are what is wanted of them: where an answer begins, and where it ends."""

    is_cross_attention = True  # which `foveate.watch` asks for

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width)

    def forward(self, asks_B1M: Tensor, x_BLM: Tensor, mask: masks.Mask) -> AttentionMap:
        """(B, 2, 1, L)."""
        q_B21D, k_B2LD = split_heads(self.query(asks_B1M), 2), split_heads(self.key(x_BLM), 2)
        return attention(q_B21D, k_B2LD, k_B2LD, mask=mask)[1]


LOOKS = ("lower", "Capital", "UPPER", "digits", "mark")


def _look(word: str) -> int:
    """Which kind of word it is, by its characters alone."""
    if word[0].isnumeric():
        return 3
    if not word[0].isalpha():
        return 4
    return (1 + (word.isupper() and len(word) > 1)) if word[0].isupper() else 0


def _same_words(one: Example) -> list[int]:
    """0 for words of the question, 1 for those of the text that the question has, too (Chen et al. 2017), else 0."""
    there = {word.lower() for word in one.question}
    return [*[0] * len(one.question), *(int(word.lower() in there) for word in one.context)]


class Answering(Recipe[Example]):
    """`known`: words, and in which share of the examples each is; any other word is what its signs are. And how many
    words the longest answer has."""

    task, command, about, unit, shapes = "answering", "qa", "It answers questions from a text", "question", Shape
    summary = "train a model that finds the answer to a question in a text it has never seen"
    files, ending = "a TSV file (question, text, answer), where the answer stands in the text", ".tsv"
    sizes: ClassVar = {
        "transformer": {
            "width": 96, "layers": 3, "heads": 4, "inner": 192, "window": 32, "signs": 128,
            "dropout": 0.0, "unknown": 0.03,
        }
    }  # fmt: skip
    epochs = 8
    rates: ClassVar = {"transformer": {"peak": 3e-3, "warmup": 150}}

    def __init__(self, shape: Shape, known: dict[str, Any]) -> None:
        super().__init__(shape, known)
        words, self.longest = known["words"], known["longest"]
        if not all(0 < share <= 1 for share in words.values()) or not 1 <= self.longest <= LONGEST:
            raise ValueError(f"shares of words are above 0 and at most 1, and an answer has 1 to {LONGEST} words")
        self.numbers = {word: number for number, word in enumerate(words, FIRST)}

    @classmethod
    def read(cls, path: Path, known: dict[str, Any] | None, *, skip_bad: bool) -> Rows[Example]:
        return Rows.of(_read(path, skip_bad)).used(path.name)

    @classmethod
    def made(cls, name: str, seed: int) -> Rows[Example]:
        drawn = questions(seed, MADE[name], split=name)
        examples = [of_row(one.question, one.context, one.answer, "made") for one in drawn]
        return Rows(examples, len(examples), unit="examples")

    @classmethod
    def learn(cls, examples: Sequence[Example], shape: Shape) -> dict[str, Any]:
        """Words that are in a three hundredth of all examples: what questions are made of, not what they are about."""
        counts: Counter[str] = Counter()
        for one in examples:
            counts.update({word.lower() for word in (*one.question, *one.context)})
        least = max(3, len(examples) // 300)
        shares = {word: round(count / len(examples), 5) for word, count in sorted(counts.items()) if count >= least}
        longest = max(past - first for one in examples for first, past in one.spans)
        return {"words": shares, "longest": longest}

    def size(self, example: Example) -> int:
        return len(example.question) + len(example.context)

    def choices(self, example: Example) -> int:
        return 2

    def text(self, example: Example) -> str:
        return " ".join((*example.question, *example.context))

    def model(self) -> Network:
        return Network(len(self.numbers), self.shape)

    def batch(self, examples: Sequence[Example], device: torch.device | None = None) -> Batch:
        """Of one example or more."""
        rows = [(*one.question, *one.context) for one in examples]
        longest = max(map(len, rows))
        place: dict[str, int] = {"": 0}  # padding
        places = [[place.setdefault(word, len(place)) for word in row] for row in rows]
        number = [PAD, *(self.numbers.get(word.lower(), UNKNOWN) for word in list(place)[1:])]
        looks = [len(LOOKS) - 1, *(_look(word) for word in list(place)[1:])]
        same = [_same_words(one) + [0] * (longest - len(row)) for one, row in zip(examples, rows, strict=True)]
        at_BL = torch.tensor([[*row, *[0] * (longest - len(row))] for row in places])
        asked_B = torch.tensor([len(one.question) for one in examples])
        numbers_BL = torch.tensor(number)[at_BL]
        numbers_BL[torch.arange(len(rows)), asked_B - 1] = MARK
        parts = (
            numbers_BL,
            signs(place, self.shape.signs)[at_BL],
            torch.tensor(looks)[at_BL],
            torch.tensor(same),
            asked_B,
            torch.tensor([len(row) for row in rows]),
        )
        return Batch(*(part.to(device) for part in parts))

    def logits(self, model: nn.Module, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        device = next(model.parameters()).device
        weights = model(self.batch(examples, device))[...]
        logits_B2L = weights[:, :, 0].clamp(min=torch.finfo(weights.dtype).tiny).log()
        targets = []
        for row, one in enumerate(examples):  # where an answer stands more than once, all places together are one
            for head in (0, 1):
                places = sorted({len(one.question) + span[head] - head for span in one.spans})
                together = logits_B2L[row, head, places].logsumexp(0)
                targets.append(places[0])
                if len(places) > 1:
                    logits_B2L = logits_B2L.clone()
                    logits_B2L[row, head, places] = HIDDEN
                    logits_B2L[row, head, places[0]] = together
        return logits_B2L.flatten(0, 1), torch.tensor(targets, device=device)

    def scores(self, model: nn.Module, examples: Sequence[Example], cells: int) -> dict[str, float]:
        """How many answers are right, word for word, in percent."""
        right = []
        sizes = np.array([self.size(one) for one in examples])
        for rows in cut(np.argsort(sizes, kind="stable"), sizes, cells):
            some = [examples[row] for row in rows]
            weights = model(self.batch(some, next(model.parameters()).device))[:, :, 0].cpu()
            found = [
                best(weights[i, :, len(one.question) : self.size(one)], self.longest) for i, one in enumerate(some)
            ]
            right += [_same(one, *span) for one, span in zip(some, found, strict=True)]
        return {"accuracy": percent([torch.tensor(right)])}


def asked(question: str) -> tuple[str, ...]:
    """The words of a question, of which the last is "?" and no other is; none if there is no word."""
    words = [word for word in cut_words(question) if word != ASKS]
    words = words[:-1] if words and words[-1] in (".", "!", ":") else words
    return (*words, ASKS) if words else ()


def best(weights_2L: Tensor, longest: int) -> tuple[int, int]:
    """The likeliest span of at most `longest` words: its first, and one past its last."""
    both_LL = (weights_2L[0, :, None] * weights_2L[1, None]).triu().tril(longest - 1)
    first, last = divmod(int(both_LL.argmax()), weights_2L.shape[1])
    return first, last + 1


def _same(one: Example, first: int, past: int) -> bool:
    answers = {tuple(word.lower() for word in one.context[a:b]) for a, b in one.spans}
    return tuple(word.lower() for word in one.context[first:past]) in answers


def _places(context: Sequence[str], answer: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Where an answer stands in a text, first with its capitals, else whatever they are."""
    for text, wanted in ((list(context), list(answer)), *[([w.lower() for w in t] for t in (context, answer))]):
        n = len(wanted)
        found = tuple((at, at + n) for at in range(len(text) - n + 1) if text[at : at + n] == wanted)
        if found:
            return found
    return ()


def of_row(question: str, context: str, answer: str, place: str) -> Example:
    """An example of texts.

    Raises:
        Malformed: one of them has no word, there are too many, or the answer is not in the text.
    """
    one = Example(asked(question), tuple(cut_words(context)), ())
    wanted = cut_words(answer)
    for name, words in (("question", one.question), ("text", one.context), ("answer", wanted)):
        if not words:
            raise Malformed(place, f"the {name} has no word", "empty column")
    if (count := len(one.question) + len(one.context)) > MOST_WORDS:
        message = f"question and text have {count:,} words; at most {MOST_WORDS:,} are allowed"
        raise Malformed(place, message, f"more than {MOST_WORDS:,} words")
    if len(wanted) > LONGEST:
        message = f"the answer has {len(wanted)} words; at most {LONGEST} are allowed"
        raise Malformed(place, message, f"answer of more than {LONGEST} words")
    spans = _places(one.context, wanted)
    if not spans:
        raise Malformed(
            place, f"the answer {answer.strip()[:60]!r} does not stand in the text", "answer not in the text"
        )
    return replace(one, spans=spans)


def _read(path: Path, skip_bad: bool) -> Iterator[Example | Malformed]:
    for number, line in enumerate(lines_of(path), 1):
        place = f"{path.name}:{number}"
        try:
            columns = decoded(line, place, number).split("\t")
            if len(columns) != 3:
                message = f"expected 3 columns separated by tabs, a question, a text and the answer; got {len(columns)}"
                raise Malformed(place, message, "not 3 columns")
            yield of_row(columns[0], columns[1], columns[2], place)
        except Malformed as error:
            if not skip_bad:
                raise
            yield error
