"""Which words of a text answer a question? One pointer says where the answer begins, another where it ends if so.

Their weights are the answer: nothing chooses from a list of answers, so none can be learned by heart. Words that are
not known have no vector of their own; equal ones have the same signs (`identity`), with which the question's words are
found again in the text. A word of the text sees the question and its neighbours, never the whole text: so what it
becomes does not depend on how long the text is.

Axes: B examples, L words (the question, then the text), M width, S signs, V known words, A most words of an answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from sys import intern
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import masks
from ..attend import attention
from ..map import AttentionMap
from ..nn import Encoder, MultiHeadAttention
from ..positions import RelativeBuckets
from .encoders import check_shares, chosen
from .facts import questions
from .identity import MOST, signs
from .recipe import Recipe, percent
from .rows import Malformed, Rows
from .words import cut_words

__all__ = ["LONGEST", "MOST_WORDS", "Answering", "Example", "Network", "Shape", "asked", "best", "of_row", "spans"]

MOST_WORDS = 4000  # of a question and its text
LONGEST = 12  # words of an answer
PAD, MARK, UNKNOWN, FIRST = 0, 1, 2, 3
ASKS = "?"  # ends each question, whatever it ended with; the answer is asked for from there
MADE = {"train": 100_000, "valid": 2_000, "test": 1_000}  # examples, where there is no file
HIDDEN = -1e4  # the logit of what cannot be chosen
ROWS = 512  # of ends, that are looked at together


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
        for name in ("window", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if not 8 <= self.signs <= MOST or self.signs % 8:
            raise ValueError(f"signs must be a multiple of 8 from 8 to {MOST}; got {self.signs}")

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
    """Words, an encoder, and two pointers.

    Args:
        known: how many words have a vector of their own.
        shape: of the encoder.
        longest: how many words an answer has at most.
    """

    def __init__(self, known: int, shape: Shape, longest: int) -> None:
        super().__init__()
        self.shape, self.longest = shape, longest
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
        self.begins, self.ends = Pointer(shape.width, crosses=True), Pointer(shape.width)
        for table in (self.table, self.looks, self.same):
            nn.init.normal_(table.weight, std=shape.width**-0.5)
        nn.init.normal_(self.signs.weight, std=shape.signs**-0.5)
        with torch.no_grad():
            self.table.weight[PAD] = 0.0
            first: Any = self.encoder.layers[0].attention
            first.key.weight.copy_(first.query.weight)  # equal words find each other from the first step on

    def forward(self, batch: Batch) -> tuple[AttentionMap, AttentionMap]:
        """(B, 1, 1, L): where each answer begins; and (B, 1, L, L): where it would end if it began at a word."""
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
        within = masks.window(0, max(1, self.longest - 1)) & inside  # itself alone would be a choice of one
        return self.begins(asks_B1M, x_BLM, inside & ~question), self.ends(x_BLM, x_BLM, within)


class Pointer(nn.Module):
    """A head whose weights are what is wanted of it. `crosses`: it is not the words that ask."""

    def __init__(self, width: int, *, crosses: bool = False) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.is_cross_attention = crosses  # which `foveate.watch` asks for

    def forward(self, asks_BQM: Tensor, x_BLM: Tensor, mask: masks.Mask) -> AttentionMap:
        """(B, 1, Q, L)."""
        q_B1QM, k_B1LM = self.query(asks_BQM).float()[:, None], self.key(x_BLM).float()[:, None]
        return attention(q_B1QM, k_B1LM, k_B1LM, mask=mask)[1]


def spans(begins: AttentionMap, ends: AttentionMap, *, longest: int) -> Tensor:
    """(B, L, A): how likely an answer begins at each word and has 1, 2, ... words; 0 where it would leave the text."""
    first_BL1 = begins[:, 0, 0][..., None]
    length = first_BL1.shape[1]
    found = []
    for start in range(0, length, ROWS):
        stop = min(length, start + ROWS)
        tile_BRC = F.pad(ends[:, 0, start:stop, start : min(length, stop + longest - 1)], (0, longest - 1))
        row_R1 = torch.arange(stop - start, device=tile_BRC.device)[:, None]
        found.append(tile_BRC[:, row_R1, row_R1 + torch.arange(longest, device=tile_BRC.device)])
    return first_BL1 * torch.cat(found, 1)


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
    use = '"What is ...?" --context "..."'
    precision = "float32"  # in bfloat16 a step of this width is hardly faster, and learns less
    rates: ClassVar = {"transformer": {"peak": 3e-3, "warmup": 150}}

    def __init__(self, shape: Shape, known: dict[str, Any]) -> None:
        super().__init__(shape, known)
        words, self.longest = known["words"], known["longest"]
        if not all(0 < share <= 1 for share in words.values()) or not 1 <= self.longest <= LONGEST:
            raise ValueError(f"shares of words are above 0 and at most 1, and an answer has 1 to {LONGEST} words")
        self.numbers = {word: number for number, word in enumerate(words, FIRST)}

    @classmethod
    def read(cls, path: Path, known: dict[str, Any] | None, *, skip_bad: bool) -> Rows[Example]:
        return Rows.of_lines(path, _example, skip_bad=skip_bad)

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
        return 1

    def text(self, example: Example) -> str:
        return " ".join((*example.question, *example.context))

    def model(self) -> Network:
        return Network(len(self.numbers), self.shape, self.longest)

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
        """(B, L A) the logarithm of how likely each span is, and (B,) which is the answer."""
        device = next(model.parameters()).device
        likely_BLA = spans(*model(self.batch(examples, device)), longest=self.longest)
        logits_BN = likely_BLA.clamp(min=torch.finfo(likely_BLA.dtype).tiny).log().flatten(1)
        targets = []
        for row, one in enumerate(examples):  # where an answer stands more than once, all places together are one
            starts = [(len(one.question) + first) * self.longest + past - first - 1 for first, past in one.spans]
            targets.append(starts[0])
            if len(starts) > 1:
                together = logits_BN[row, starts].logsumexp(0)
                logits_BN = logits_BN.clone()
                logits_BN[row, starts] = HIDDEN
                logits_BN[row, starts[0]] = together
        return logits_BN, torch.tensor(targets, device=device)

    def scores(self, model: nn.Module, examples: Sequence[Example], cells: int) -> dict[str, float]:
        """How many answers are right, word for word, in percent."""
        right = []
        for some in self.together(examples, cells):
            likely_BLA = spans(*model(self.batch(some, next(model.parameters()).device)), longest=self.longest).cpu()
            for one, likely_LA in zip(some, likely_BLA, strict=True):
                right.append(_same(one, *best(likely_LA[len(one.question) :])))
        return {"accuracy": percent([torch.tensor(right)])}


def asked(question: str) -> tuple[str, ...]:
    """The words of a question, of which the last is "?" and no other is; none if there is no word."""
    words = [word for word in cut_words(question) if word != ASKS]
    words = words[:-1] if words and words[-1] in (".", "!", ":") else words
    return (*words, ASKS) if words else ()


def best(likely_LA: Tensor) -> tuple[int, int]:
    """The likeliest span: its first word, and one past its last."""
    first, more = divmod(int(likely_LA.argmax()), likely_LA.shape[1])
    return first, first + more + 1


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
    one = Example(tuple(map(intern, asked(question))), tuple(map(intern, cut_words(context))), ())  # each word once
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


def _example(line: str, place: str) -> Example:
    columns = line.split("\t")
    if len(columns) != 3:
        message = f"expected 3 columns separated by tabs, a question, a text and the answer; got {len(columns)}"
        raise Malformed(place, message, "not 3 columns")
    return of_row(columns[0], columns[1], columns[2], place)
