"""Translation, or summarisation, as the training loop sees it: batches, loss, BLEU or ROUGE, pictures.

Axes: B sentences, T target tokens, M width, N target tokens that are no padding.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..bucketing import Batch, Bitext, Epoch, batches
from ..corpus import Pair, references
from ..subwords import BEGIN, END, PAD, Subwords, used
from ..training.loop import Losses
from ..training.loss import output_losses
from .goal import TRANSLATION, Goal
from .shape import Shape, Trained, build
from .translator import Translator

__all__ = ["Data", "Judge", "TranslationTask", "prepare"]


Judge = Callable[[Translator], dict[str, float]]  # what else to measure at each validation


@dataclass(frozen=True)
class Data:
    """Pairs as numbers, and the sub-words that made them; `outputs` are those that targets use."""

    pairs: Sequence[Pair]
    train: Bitext
    valid: Sequence[Pair]
    subwords: Subwords
    outputs: torch.Tensor

    def drawn(self, chance: random.Random) -> Bitext:
        """The pairs cut at random, as the sub-words' `dropout` says (Provilkov et al. 2020)."""
        sides = [p.source for p in self.pairs], [p.target for p in self.pairs]
        sources, targets = (list(self.subwords.drawn_ids(texts, chance)) for texts in sides)
        return Bitext(sources, _renumbered(targets, self.outputs, len(self.subwords)))


def prepare(
    train: Sequence[Pair],
    valid: Sequence[Pair],
    size: int,
    subwords: Subwords | None = None,
    *,
    dropout: float = 0.0,
    copies: bool = False,
) -> Data:
    """Learn sub-words of both languages together (or take given ones), and encode the training pairs with them.

    Args:
        dropout: how often `Data.drawn` leaves out a merge.
        copies: all sub-words are outputs.
    """
    if subwords is None:
        subwords = Subwords.train((text for pair in train for text in (pair.source, pair.target)), size)
    subwords.dropout = dropout or None
    sources, targets = (subwords.ids(texts) for texts in ([p.source for p in train], [p.target for p in train]))
    outputs = torch.arange(len(subwords)) if copies else used([*targets, _reachable(subwords, train)])
    return Data(train, Bitext(sources, _renumbered(targets, outputs, len(subwords))), valid, subwords, outputs)


def _reachable(subwords: Subwords, train: Sequence[Pair]) -> list[int]:
    """What targets may hold besides where merges are left out."""
    return sorted(subwords.reachable([p.target for p in train])) if subwords.dropout else []


def _renumbered(targets: Sequence[Sequence[int]], outputs: torch.Tensor, size: int) -> list[list[int]]:
    """As outputs are numbered."""
    number = torch.zeros(size, dtype=torch.int64).scatter_(0, outputs, torch.arange(len(outputs))).tolist()
    return [[number[i] for i in ids] for ids in targets]


class TranslationTask:
    """Learns to predict each next word of the target, and is judged by what greedy search writes.

    Raises:
        ValueError: smoothing outside [0, 1), or `tokenize` is unknown to sacrebleu.
    """

    def __init__(
        self,
        data: Data,
        shape: Shape,
        *,
        goal: Goal = TRANSLATION,
        tokens: int = 4096,
        smoothing: float = 0.1,
        seed: int = 1,
        tokenize: str = "13a",
        pictures: int = 4,
        judge: Judge | None = None,
    ) -> None:
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing must be at least 0 and less than 1; got {smoothing}")
        self.data, self.shape, self.goal, self.scored = data, shape, goal, goal.metric(tokenize)
        self.metric = self.scored.name
        self.tokens, self.smoothing, self.seed, self.pictures = tokens, smoothing, seed, pictures
        self.sources, self.references = references(data.valid)
        self.judge = judge
        self._drawn: tuple[int, Bitext] | None = None  # of the last epoch that was asked for

    def model(self) -> Trained:
        """Fresh parameters, drawn from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return build(self.shape, len(self.data.subwords), self.data.outputs)

    def translator(self, model: nn.Module) -> Translator:
        return Translator(model, self.data.subwords, self.shape, self.facts())  # type: ignore[arg-type]

    def facts(self) -> dict[str, Any]:
        """What a translator must know beside its shape."""
        longest = int(self.data.train.targets.lengths.max(initial=0))
        return {"task": self.goal.task, **({} if self.goal.grows else {"longest": longest})}

    def identity(self) -> dict[str, Any]:
        """Shape, data and what batches and losses are made of."""
        return self._identity

    @cached_property
    def _identity(self) -> dict[str, Any]:
        valid = [
            text for source, targets in zip(self.sources, self.references, strict=True) for text in (source, *targets)
        ]
        return {
            "shape": asdict(self.shape),
            "tokens": self.tokens,
            "smoothing": self.smoothing,
            **self.scored.settings,
            "vocabulary": len(self.data.subwords),
            "subword_dropout": self.data.subwords.dropout or 0.0,
            "pairs": len(self.data.train),
            "checksum of the pairs": _checksum(self.data.train),
            "checksum of validation": zlib.crc32("\n".join(valid).encode()),
        }

    def batches(self, epoch: int, rank: int, world: int) -> Epoch:
        return batches(self._cut(epoch), tokens=self.tokens, seed=self.seed, epoch=epoch, rank=rank, world=world)

    def _cut(self, epoch: int) -> Bitext:
        """The pairs of an epoch: always the same, or cut anew."""
        if not self.data.subwords.dropout:
            return self.data.train
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = epoch, self.data.drawn(random.Random(f"{self.seed} {epoch}"))
        return self._drawn[1]

    def losses(self, model: Any, batch: Batch) -> Losses:
        batch = batch if len(batch.index_B) else _empty(batch)
        device = model.embedding.table.device
        source_BS, lengths_B = batch.source_BS.to(device), batch.source_lengths_B.to(device)
        real_BT = (batch.target_out_BT != PAD).to(device)
        hidden_NM = model(source_BS, lengths_B, batch.target_in_BT.to(device))[real_BT]
        smoothed, plain = output_losses(
            hidden_NM,
            model.embedding.output_weight(),
            model.embedding.bias,
            batch.target_out_BT.to(device)[real_BT],
            smoothing=self.smoothing,
        )
        return Losses(smoothed, {"loss": plain.detach()}, batch.tokens)

    def validate(self, model: nn.Module) -> dict[str, float]:
        found = self.translator(model).translate(self.sources, beam=1, weights=False)
        scores = self.scored.score([t.text for t in found], self.references)
        more = {} if self.judge is None else self.judge(self.translator(model))
        return {**{name: round(score, 3) for name, score in scores.items()}, **more}

    def epoch_ended(self, model: nn.Module, epoch: int, folder: Path) -> None:
        from ..training.curves import draw_curves
        from .pictures import draw_alignments

        draw_curves(folder / "log.jsonl", folder / "curves.png", self.metric, "token")
        translator = self.translator(model)
        if translator.has_attention and self.pictures:
            picture = folder / "pictures" / f"epoch-{epoch + 1:02d}.png"
            draw_alignments(translator, self.examples(self.pictures), picture)

    def examples(self, count: int) -> list[tuple[str, str]]:
        """A few validation pairs of a length that fits a picture, spread over the set; always the same ones."""
        pairs = [(s, r[0]) for s, r in zip(self.sources, self.references, strict=True)]
        fitting = [p for p in pairs if 6 <= len(p[0].split()) <= 14] or pairs
        return fitting[:: max(1, len(fitting) // count)][:count]


def _checksum(bitext: Bitext) -> int:
    found = 0
    for side in (bitext.sources, bitext.targets):
        for numbers in (side.lengths, side.flat):
            found = zlib.crc32(numbers.tobytes(), found)
    return found


def _empty(batch: Batch) -> Batch:
    """One row without anything to predict, for a process that got none: its gradients are zeros, and are there."""
    row = {"source_BS": END, "source_lengths_B": 1, "target_in_BT": BEGIN, "target_out_BT": PAD}
    filled = {name: getattr(batch, name).new_full((1,) * getattr(batch, name).ndim, n) for name, n in row.items()}
    return replace(batch, **filled)
