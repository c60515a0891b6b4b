"""A translator as it is pruned: chosen and judged on validation pairs, trained on further ones as it was before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..bucketing import Batch, Bitext, batches
from ..corpus import Pair, references
from ..subwords import PAD
from ..training import Task
from ..training.loss import output_losses
from ..translation import Translator, store
from ..translation.task import Data, TranslationTask

__all__ = ["TranslatorSubject"]

TOKENS = 4096
SAMPLE = 64  # sentences that are translated to see how long it takes


class TranslatorSubject:
    """See `Subject`.

    Args:
        data: pairs on which heads are chosen, and the model is judged.
        train: pairs to train on; default: none.
        most: of `data`, how many pairs tell what a head is worth, spread over all; it is judged on all of them.

    Raises:
        ValueError: the translator has no attention that can be pruned.
    """

    relative = False

    def __init__(
        self, translator: Translator, data: Sequence[Pair], train: Sequence[Pair] | None = None, *, most: int = 400
    ) -> None:
        if translator.shape.arch != "transformer":
            raise ValueError(f"{translator.shape.name}: it has one attention with one head, and nothing to prune")
        self.translator, self.data, self.train = translator, list(data), None if train is None else list(train)
        self.name, self.metric = translator.shape.name, translator.metric.name
        self._settings: dict[str, Any] = translator.facts.get("settings", {})
        self._sources, self._references = references(self.data)
        some = self.data[:: max(1, -(-len(self.data) // most))]
        self._batches = list(batches(self._bitext(some), tokens=TOKENS))

    @property
    def model(self) -> nn.Module:
        return self.translator.model

    def batches(self) -> Iterable[Batch]:
        return self._batches

    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, int]:
        device = model.embedding.table.device
        real_BT = (batch.target_out_BT != PAD).to(device)
        given = (t.to(device) for t in (batch.source_BS, batch.source_lengths_B, batch.target_in_BT))
        hidden_NM = model(*given)[real_BT]
        targets_N = batch.target_out_BT.to(device)[real_BT]
        found = output_losses(hidden_NM, model.embedding.output_weight(), model.embedding.bias, targets_N)
        return found.smoothed, batch.tokens  # without smoothing it is the plain loss, and has gradients

    def measure(self) -> dict[str, float]:
        found = self.translator.translate(self._sources, beam=1, weights=False)
        scores = self.translator.metric.score([t.text for t in found], self._references)
        return {name: round(score, 3) for name, score in scores.items()}

    def work(self) -> object:
        return self.translator.translate(self._sources[:SAMPLE], beam=1, weights=False)

    def task(self) -> Task[Any] | None:
        if self.train is None:
            return None
        subwords = self.translator.subwords
        subwords.dropout = self._settings.get("subword_dropout") or None
        outputs = self.translator.model.embedding.outputs.cpu()
        data = Data(self.train, self._bitext(self.train), self.data, subwords, outputs)
        names = ("tokens", "smoothing", "tokenize")
        same: dict[str, Any] = {name: self._settings[name] for name in names if name in self._settings}
        return TranslationTask(data, self.translator.shape, goal=self.translator.goal, pictures=0, **same)

    def save(self, folder: Path) -> None:
        made, half = self.translator, bool(self._settings.get("half"))
        store.save(folder, made.model, made.subwords, made.shape, made.facts, half=half)

    def reopen(self, folder: Path) -> None:
        self.translator = store.load(folder)

    def _bitext(self, pairs: Sequence[Pair]) -> Bitext:
        ids = self.translator.subwords.ids
        targets = [self.translator.numbers(one) for one in ids([p.target for p in pairs])]
        return Bitext(ids([p.source for p in pairs]), targets)
