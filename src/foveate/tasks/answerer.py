"""A trained model that answers questions: from a text that is given, or from the facts of a store that it looks up.

Axes: B questions (one), L words of the text, N facts of a store, S signs, k facts that are read,
A most words of an answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..retrieval import lookup
from .answering import ASKS, MOST_WORDS, Answering, Example, asked, best, spans
from .identity import MOST, signs
from .recipe import Answer, Predictor, opened, told
from .words import cut_words

__all__ = ["Answered", "Answerer", "Store", "load", "load_builtin"]

CHUNK = 4096  # facts whose keys are made at a time
BEST = 16  # facts of a store that are read
POINTS = "begins looks at the first word of the answer; of ends, the row of that word looks at the last one."
RAREST = 1e-3  # share of texts that a word is in, where it is not known


@dataclass(frozen=True)
class Answered:
    """An answer, as it stands in the text.

    probability: of the answer, wherever it stands in the text.
    words, weights: of the text, and how likely the answer begins or ends with each, half of both; together 1.
    first, past: which words the answer is, one past the last.
    fact: which line of a store it was read from, from 0; None without a store.
    """

    question: str
    answer: str
    probability: float
    words: tuple[str, ...]
    weights: tuple[float, ...]
    first: int
    past: int
    fact: int | None = None


@dataclass(frozen=True, eq=False)
class Store:
    """Facts, a sentence or two each, and what they are looked up by: `keys_NS`, float16. `Answerer.store` makes one."""

    facts: tuple[str, ...]
    keys_NS: Tensor

    def __len__(self) -> int:
        return len(self.facts)


class Answerer(Predictor[Answering]):
    """A trained model; `load` makes one."""

    def look(self, text: str) -> Answer:
        """The same for a text that begins with its question; raises ValueError as `ask`, or if there is none."""
        question, mark, context = text.partition(ASKS)
        if not mark or not question.strip():
            raise ValueError("a question with its question mark comes first, then the text that answers it")
        words = asked(question)
        found = self.of_words(words, cut_words(context))
        return Answer((*words, *found.words), told(found.answer, found.probability), ("answer",), (POINTS,))

    def ask(self, question: str, context: str) -> Answered:
        """The answer that a text gives to a question; some answer it gives always.

        Raises:
            ValueError: there is no word in one of them, or there are too many.
        """
        found = self.of_words(asked(question), cut_words(context))
        places = _places(context, found.words)
        text = context[places[found.first][0] : places[found.past - 1][1]]
        return replace(found, question=question, answer=" ".join(text.split()))

    @torch.no_grad()
    def of_words(self, question: Sequence[str], context: Sequence[str]) -> Answered:
        """The same for words; raises ValueError if there are none, or too many."""
        if not question or not context:
            raise ValueError(f"there is no word in the {'text' if question else 'question'}")
        if (count := len(question) + len(context)) > MOST_WORDS:
            message = f"question and text have {count:,} words; at most {MOST_WORDS:,} are read"
            raise ValueError(f"{message}: make a store of a longer text, a sentence or two a line")
        batch = self.recipe.batch([Example(tuple(question), tuple(context), ())])
        likely_LA = spans(*self.model(batch), longest=self.recipe.longest)[0, len(question) :]
        first, past = best(likely_LA)
        said = [word.lower() for word in context[first:past]]
        lowered = [word.lower() for word in context]
        places = [at for at in range(len(context)) if lowered[at : at + len(said)] == said]
        probability = float(likely_LA[places, len(said) - 1].sum())
        read = tuple(((likely_LA.sum(1) + _ends(likely_LA)) / 2).tolist())
        text = " ".join(context[first:past])
        return Answered(" ".join(question), text, min(1.0, probability), tuple(context), read, first, past)

    def store(self, facts: Iterable[str]) -> Store:
        """Facts that questions can be asked of, as many as memory holds: a kilobyte each.

        Raises:
            ValueError: there is none.
        """
        kept = tuple(fact.strip() for fact in facts)
        if not any(kept):
            raise ValueError("a store needs at least one fact")
        return Store(kept, torch.cat([self._keys(kept[at : at + CHUNK]) for at in range(0, len(kept), CHUNK)]))

    def ask_store(self, question: str, store: Store, k: int = BEST) -> Answered:
        """Look up the k facts that share most with the question, then read the answer from them as from a text.

        Raises:
            ValueError: as `ask`.
        """
        if not asked(question):
            raise ValueError("there is no word in the question")
        (query_S,) = self._keys([" ".join(asked(question))])
        found = lookup(query_S.float(), store.keys_NS, k=min(k, len(store)), score="dot")
        lines = [line for line in found.indices.tolist() if store.facts[line]]
        texts = [fact if fact[-1] in ".!?" else f"{fact}." for fact in (store.facts[line] for line in lines)]
        lengths = [len(cut_words(text)) for text in texts]
        if (count := sum(lengths) + len(asked(question))) > MOST_WORDS:
            message = f"the question and the facts that fit best ({len(texts)}) have {count:,} words"
            raise ValueError(f"{message}; at most {MOST_WORDS:,} are read: ask for fewer facts, or make them shorter")
        answered = self.ask(question, " ".join(texts))
        return replace(answered, fact=lines[int((torch.tensor(lengths).cumsum(0) <= answered.first).sum())])

    def rarity(self, word: str) -> float:
        """How much it says that two texts share a word, in lower case: the less, the more texts it is in."""
        share: float = self.recipe.known["words"].get(word, RAREST)
        return -math.log(share)

    def _keys(self, texts: Sequence[str]) -> Tensor:
        """(N, S): the sum of the signs of a text's words, each as much as it says, of length 1; 0 without words."""
        cut = [sorted({word.lower() for word in cut_words(text)}) for text in texts]
        place = {word: number for number, word in enumerate(sorted({word for words in cut for word in words}))}
        table_WS = signs(place, MOST) if place else torch.zeros(1, MOST)
        flat = torch.tensor([place[word] for words in cut for word in words], dtype=torch.int64)
        rare = torch.tensor([self.rarity(word) for words in cut for word in words])
        starts = torch.tensor([0, *map(len, cut[:-1])]).cumsum(0)
        keys_NS = F.embedding_bag(flat, table_WS, starts, mode="sum", per_sample_weights=rare)
        return F.normalize(keys_NS, dim=-1).half()


def load(folder: str | Path) -> Answerer:
    """The model that `foveate train qa -o folder` left.

    Raises:
        ValueError: there is none, or its files do not belong together.
    """
    return Answerer(*opened(folder, Answering))


@cache
def load_builtin() -> Answerer:
    """The model of the package, which knows made-up facts only (`tasks.facts`)."""
    with resources.as_file(resources.files(__package__) / "facts" / "weights") as folder:
        return load(folder)


def _ends(likely_LA: Tensor) -> Tensor:
    """(L,): how likely the answer ends at each word."""
    ends_L = torch.zeros_like(likely_LA[:, 0])
    for more in range(min(likely_LA.shape)):
        ends_L[more:] += likely_LA[: len(likely_LA) - more, more]
    return ends_L


def _places(text: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """Where the words that a text was cut into stand in it."""
    places, at = [], 0
    for word in words:
        at = text.index(word, at)
        places.append((at, at + len(word)))
        at += len(word)
    return places
