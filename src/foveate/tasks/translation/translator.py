"""A trained model that translates, and shows what it read for each word.

Axes: B sentences, H heads, T target tokens (the end symbol among them), S source tokens (the end symbol among them).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ...heads.pruning.prune import record_of
from ...map import AttentionMap
from ...nn import search
from ...nn.search import Hypothesis
from ..alignment import Links, Reading, hard
from ..bucketing import SourceBatch, in_length_order
from ..subwords import BEGIN, END, PAD, UNKNOWN, Encoded, Subwords
from .forcing import Forced, default_reading, force
from .goal import GOALS, TRANSLATION, Goal
from .metrics import Metric
from .pruned import reading_of
from .shape import Shape, Trained

__all__ = ["Sampling", "Translation", "Translator"]

FORBIDDEN = (PAD, BEGIN, UNKNOWN)
TOKENS = 4096


@dataclass(frozen=True)
class Sampling:
    """Draw translations instead of searching for the best: at a temperature, from the most probable tokens only."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Translation:
    """A sentence and its translation.

    `score` is the logarithm of its probability over its length norm (Wu et al. 2016, eq. 14), `token_scores` those of
    tokens and of the end. What each token read is None for a model with a fixed vector.
    """

    source: str
    text: str
    tokens: tuple[str, ...]
    source_tokens: tuple[str, ...]
    score: float
    token_scores: tuple[float, ...]
    finished: bool
    source_words: tuple[str, ...]
    words: tuple[str, ...]
    forced: Forced | None = field(default=None, repr=False)
    reading: Reading | None = field(default=None, repr=False)
    alternatives: tuple[Translation, ...] = ()

    @property
    def weights(self) -> AttentionMap | None:
        """(H, T, S); rows and columns end with the end symbol."""
        if self.forced is None or self.reading is None:
            return None
        return self.forced.maps[self.reading.modules[-1]]

    @property
    def word_weights(self) -> Tensor | None:
        """(words, source words), the share of the end symbol and of closing punctuation removed."""
        return None if self.forced is None or self.reading is None else self.forced.word_weights(self.reading)

    @property
    def alignment(self) -> Links | None:
        """(source word, word) pairs: for each word the source word that it read most."""
        found = self.word_weights
        return None if found is None else hard(found)


class Translator:
    """Translates texts with a trained model.

    Made by `load(folder)` or `builtin()`.
    """

    def __init__(self, model: Trained, subwords: Subwords, shape: Shape, facts: dict[str, Any]) -> None:
        self.model, self.subwords, self.shape, self.facts = model.eval(), subwords, shape, facts
        self._outputs = model.embedding.outputs.cpu()
        self._number = torch.full((len(subwords),), UNKNOWN).scatter_(
            0, self._outputs, torch.arange(len(self._outputs))
        )

    @property
    def goal(self) -> Goal:
        """What it turns a text into."""
        return GOALS[self.facts.get("task", TRANSLATION.task)]

    @property
    def metric(self) -> Metric:
        """What it was judged by."""
        return self.goal.metric(self.facts.get("settings", {}).get("tokenize", "13a"))

    @property
    def has_attention(self) -> bool:
        if self.shape.arch == "rnn":
            return self.shape.attention != "none"
        model: Any = self.model
        return any(layer.cross_attention.heads for layer in model.decoder.layers)  # those that were not pruned

    @torch.no_grad()
    def translate(
        self,
        texts: Iterable[str],
        *,
        beam: int = 5,
        nbest: int = 1,
        length_penalty: float = 1.0,
        sampling: Sampling | None = None,
        weights: bool = True,
        tokens: int | None = None,
    ) -> list[Translation]:
        """The best translation of each text, with `nbest` - 1 alternatives.

        Args:
            beam: hypotheses kept per sentence; 1 is greedy search.
            length_penalty: as in `fv.nn.search.beam`.
            sampling: draw instead.
            weights: also what was read for each token, by forcing the translation through the model once more; costs
                little, and nothing is kept but queries and keys.
            tokens: source tokens that are translated at a time; default: 4,096, and 16 times as many on a GPU.

        Raises:
            ValueError: a text is empty, or an option breaks a rule.
        """
        if isinstance(texts, str):
            raise ValueError("texts must be a list of texts; one alone goes in as [text]")
        texts = list(texts)
        if beam < 1:
            raise ValueError(f"beam must be at least 1; got {beam}")
        for number, text in enumerate(texts):
            if not text.strip():
                raise ValueError(f"text {number + 1} of {len(texts)} is empty")
        if tokens is None:
            tokens = TOKENS if self.model.embedding.table.device.type == "cpu" else 16 * TOKENS
        sources = self.subwords.encode_batch(texts)
        found: list[list[Hypothesis]] = [[] for _ in texts]
        draw = None if sampling is None else torch.Generator().manual_seed(sampling.seed)
        for batch in in_length_order([s.ids for s in sources], max(1, tokens // max(1, beam))):
            for index, hypotheses in zip(
                batch.index_B.tolist(), self._search(batch, beam, nbest, length_penalty, sampling, draw), strict=True
            ):
                found[index] = hypotheses
        return self._told(texts, sources, found, weights)

    def _search(
        self,
        batch: SourceBatch,
        beam: int,
        nbest: int,
        length_penalty: float,
        sampling: Sampling | None,
        draw: torch.Generator | None,
    ) -> list[list[Hypothesis]]:
        device = self.model.embedding.table.device
        steps = self.model.steps(batch.source_BS.to(device), batch.source_lengths_B.to(device))
        common: dict[str, Any] = {
            "begin": BEGIN,
            "end": END,
            "limit_B": (2 * self._longest(batch.source_lengths_B) + 10).tolist(),
            "length_penalty": length_penalty,
            "forbid": FORBIDDEN,
            "nbest": nbest,
        }
        if sampling is None:
            return search.beam(steps, len(batch.index_B), size=max(beam, nbest), **common)
        return search.sample(
            steps,
            len(batch.index_B),
            generator=draw,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            **common,
        )

    def _longest(self, source_lengths_B: Tensor) -> Tensor:
        """What is about the most tokens that each target should have."""
        longest = self.facts.get("longest")
        return source_lengths_B if longest is None else torch.full_like(source_lengths_B, longest)

    def _told(
        self, texts: Sequence[str], sources: list[Encoded], found: list[list[Hypothesis]], weights: bool
    ) -> list[Translation]:
        owners = [i for i, hypotheses in enumerate(found) for _ in hypotheses]
        hypotheses = [h for group in found for h in group]
        targets = [self.subwords.spell(self._outputs[list(h.tokens)].tolist()) for h in hypotheses]
        forced: Iterable[Forced | None] = [None] * len(targets)
        if weights and self.has_attention:
            forced = self.force((sources[i], target) for i, target in zip(owners, targets, strict=True))
        told: list[list[Translation]] = [[] for _ in texts]
        for i, hypothesis, target, one in zip(owners, hypotheses, targets, forced, strict=True):
            told[i].append(
                Translation(
                    source=texts[i],
                    text=self.subwords.decode(target.ids),
                    tokens=target.pieces,
                    source_tokens=sources[i].pieces,
                    score=hypothesis.score,
                    token_scores=hypothesis.token_scores,
                    finished=hypothesis.finished,
                    source_words=sources[i].shown,
                    words=target.shown,
                    forced=one,
                    reading=self.reading,
                )
            )
        return [replace(group[0], alternatives=tuple(group[1:])) for group in told]

    def force(self, pairs: Iterable[tuple[Encoded, Encoded]]) -> Iterator[Forced]:
        """Given pairs, read by the model, in the order given; a few hundred at a time.

        Raises:
            ValueError: the model has one fixed vector and nothing to see.
        """
        if not self.has_attention:
            raise ValueError("a model with one fixed vector has no attention to look at")
        return force(self.model, pairs, self.numbers)

    def numbers(self, ids: Sequence[int]) -> list[int]:
        """Sub-words as targets are numbered; what targets never had is unknown."""
        found: list[int] = self._number[list(ids)].tolist()
        return found

    def align(self, pairs: Iterable[tuple[str, str]], reading: Reading | None = None) -> Iterator[Tensor]:
        """Word weights (target words, source words) of given translations, words being what white space parts.

        The share of the end symbol and of closing punctuation is removed.

        Args:
            reading: which attention to read, and how; default: the best one found for this model.
        """
        reading = reading or self.reading
        for one in self.force_words(pairs):
            yield one.word_weights(reading)

    def candidates(self, pairs: Iterable[tuple[str, str]], *, heads: bool = True) -> Iterator[dict[Reading, Tensor]]:
        """The same by every reading, for `foveate.tasks.alignment.choose`; without `heads` only by means of heads."""
        for one in self.force_words(pairs):
            yield one.candidates(heads=heads)

    def force_words(self, pairs: Iterable[tuple[str, str]]) -> Iterator[Forced]:
        """Given translations, read by the model; words are what white space parts."""
        words = self.subwords.encode_words
        return self.force((words(source.split()), words(target.split())) for source, target in pairs)

    @property
    def reading(self) -> Reading:
        """Which attention aligns best, as far as is known."""
        return reading_of(self.facts, default_reading(self.shape), record_of(self.model))
