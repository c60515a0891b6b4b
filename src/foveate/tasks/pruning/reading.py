"""A model of transformers as it is pruned.

One that writes (a causal language model, an encoder-decoder) is judged by the loss of its next tokens. Any other by how
near its states stay to those of the whole model, and by whether the same texts are alike as were before.

Axes: B texts, L tokens, M width.
"""

from __future__ import annotations

import copy
import inspect
import math
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...heads.correlation import spearman
from ...heads.pruning import store
from ...heads.pruning.prune import record_of
from ..training import Task
from ..training.loop import Losses
from .choosing import mean_loss

__all__ = ["ReaderSubject"]

TOKENS = 4096  # of a batch, padding included
LONGEST = 256  # tokens of a text that are read
PAIRS = 2000  # of texts, whose likeness is compared
IGNORED = -100


class ReaderSubject:
    """See `Subject`.

    Args:
        model: of transformers, in evaluation mode; of the class that is to be saved.
        tokenizer: its own.
        data: texts on which heads are chosen and the model is judged; of an encoder-decoder `Pair`s.
        train: the same, to train on; default: none.
        most: of `data`, how many texts tell what a head is worth.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        data: Sequence[Any],
        train: Sequence[Any] | None = None,
        *,
        most: int = 400,
        seed: int = 1,
    ) -> None:
        self.name, self.tokenizer, self.seed = type(model).__name__, tokenizer, seed
        self._model, self.train = model, None if train is None else list(train)
        self.pairs = bool(getattr(model.config, "is_encoder_decoder", False))
        self.writes = self.pairs or type(model).__name__.endswith(("ForCausalLM", "LMHeadModel"))
        self._taken = set(inspect.signature(model.forward).parameters)
        self.relative = not self.writes
        self.metric = "negative perplexity" if self.writes else "agreement"
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token  # never read: the mask hides it
        self.data = list(data)
        some = self.data[:: max(1, -(-len(self.data) // most))]
        self.teacher = copy.deepcopy(model).eval() if self.data and not self.writes else None
        self._batches = self._prepared(some)
        self._all = self._batches if len(some) == len(self.data) else self._prepared(self.data)

    @property
    def model(self) -> nn.Module:
        found: nn.Module = self._model
        return found

    def batches(self) -> Iterable[dict[str, Tensor]]:
        return self._batches

    def loss(self, model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        batch = self._placed(batch)
        given = {name: t for name, t in batch.items() if name not in ("labels", "states")}
        if self.writes:
            logits_BLV, labels_BL = model(**given).logits, batch["labels"]
            if not self.pairs:  # a language model predicts what follows
                logits_BLV, labels_BL = logits_BLV[:, :-1], labels_BL[:, 1:]
            real = labels_BL != IGNORED
            return F.cross_entropy(logits_BLV[real].float(), labels_BL[real], reduction="sum"), int(real.sum())
        real = batch["attention_mask"].bool()
        states_BLM = _states(model, given)
        far = 1 - F.cosine_similarity(states_BLM[real], batch["states"][real], dim=-1)
        return far.sum(), int(real.sum())

    def measure(self) -> dict[str, float]:
        if self.writes:
            perplexity = round(math.exp(min(50.0, mean_loss(self, self._all))), 3)
            return {"perplexity": perplexity, self.metric: -perplexity}
        before, after = (torch.cat([_pooled(states, batch) for states, batch in self._both(which)]) for which in (0, 1))
        return {"agreement": round(_agreement(before, after), 4)}

    def work(self) -> object:
        batch = self._placed({name: t for name, t in self._batches[0].items() if name not in ("labels", "states")})
        with torch.no_grad():
            return self._model(**batch)

    def task(self) -> Task[Any] | None:
        return None if self.train is None else _Task(self)

    def save(self, folder: Path) -> None:
        if record_of(self.model) is None:
            self._model.save_pretrained(folder)
        else:
            store.save(self.model, folder)
        self.tokenizer.save_pretrained(folder)

    def reopen(self, folder: Path) -> None:
        self._model = store.load(folder, type(self._model))

    def _both(self, which: int) -> Iterable[tuple[Tensor, dict[str, Tensor]]]:
        """States of the whole model (0) or of this one (1), by batch."""
        for batch in map(self._placed, self._all):
            given = {name: t for name, t in batch.items() if name not in ("labels", "states")}
            with torch.no_grad():
                yield (batch["states"] if which == 0 else _states(self._model, given)), batch

    def _placed(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Where the model is."""
        return {name: t.to(self._model.device) for name, t in batch.items()}

    def _prepared(self, texts: Sequence[Any]) -> list[dict[str, Tensor]]:
        """Texts of about one length together, in batches; with what the model is held against."""
        return [self.batch(some) for some in self.cut(texts)]

    def cut(self, texts: Sequence[Any]) -> list[list[Any]]:
        """Batches of at most `TOKENS` cells, shortest texts first."""
        found: list[list[Any]] = []
        for text in sorted(texts, key=self._length):
            longest = min(LONGEST, max(4, self._length(text) // 3))  # tokens, of characters
            if not found or (len(found[-1]) + 1) * longest > TOKENS:
                found.append([])
            found[-1].append(text)
        return found

    def _length(self, text: Any) -> int:
        return max(len(text.source), len(text.target)) if self.pairs else len(text)

    def batch(self, texts: Sequence[Any]) -> dict[str, Tensor]:
        """Inputs of the model, padded on the right, with labels or the whole model's states."""
        sources = [text.source for text in texts] if self.pairs else list(texts)
        options = {"padding": True, "truncation": True, "max_length": LONGEST, "return_tensors": "pt"}
        side, self.tokenizer.padding_side = self.tokenizer.padding_side, "right"
        try:
            made = dict(self.tokenizer(sources, **options))
            if self.pairs:
                target = self.tokenizer(text_target=[text.target for text in texts], **options)
                labels = target["input_ids"].masked_fill(target["attention_mask"] == 0, IGNORED)
                made |= {"labels": labels, "decoder_input_ids": self._shifted(labels)}
        finally:
            self.tokenizer.padding_side = side
        if not self.pairs and self.writes:
            made["labels"] = made["input_ids"].masked_fill(made["attention_mask"] == 0, IGNORED)
        made = {name: t for name, t in made.items() if name == "labels" or name in self._taken}
        if self.teacher is not None:
            with torch.no_grad():
                made["states"] = _states(self.teacher, made)
        return made

    def _shifted(self, labels_BL: Tensor) -> Tensor:
        first = self._model.config.decoder_start_token_id
        found = labels_BL.new_full(labels_BL.shape, 0 if first is None else first)
        found[:, 1:] = labels_BL[:, :-1].masked_fill(labels_BL[:, :-1] == IGNORED, self.tokenizer.pad_token_id)
        return found


class _Task:
    """Training further, on the same loss."""

    def __init__(self, subject: ReaderSubject) -> None:
        self.subject, self.metric = subject, subject.metric
        self._cut = subject.cut(subject.train or [])

    def identity(self) -> dict[str, Any]:
        return {"model": self.subject.name, "batches": len(self._cut)}

    def batches(self, epoch: int, rank: int, world: int) -> Sequence[dict[str, Tensor]]:
        order = random.Random(f"{self.subject.seed} {epoch}").sample(range(len(self._cut)), len(self._cut))
        return _Lazy(self.subject, [self._cut[i][rank::world] or self._cut[i][:1] for i in order])

    def losses(self, model: nn.Module, batch: dict[str, Tensor]) -> Losses:
        loss, count = self.subject.loss(model, batch)
        return Losses(loss, {"loss": loss.detach()}, count)

    def validate(self, model: nn.Module) -> dict[str, float]:
        return self.subject.measure()

    def epoch_ended(self, model: nn.Module, epoch: int, folder: Path) -> None:
        pass


class _Lazy(Sequence[dict[str, Tensor]]):
    """Batches that are made when they are asked for."""

    def __init__(self, subject: ReaderSubject, texts: list[list[Any]]) -> None:
        self.subject, self.texts = subject, texts

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> dict[str, Tensor]:  # type: ignore[override]  # no slices
        return self.subject.batch(self.texts[index])


def _states(model: Any, given: dict[str, Tensor]) -> Tensor:
    """The last hidden states of a model's body."""
    taken = {name: t for name, t in given.items() if name not in ("labels", "states")}
    found: Tensor = model.base_model(**taken).last_hidden_state
    return found


def _pooled(states_BLM: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """The mean of a text's states, as sentence models take it."""
    real_BL1 = batch["attention_mask"][..., None].to(states_BLM)
    return F.normalize((states_BLM * real_BL1).sum(1) / real_BL1.sum(1), dim=-1)


def _agreement(before_NM: Tensor, after_NM: Tensor) -> float:
    """Spearman's correlation of how alike pairs of texts are, in one model and in the other."""
    count = len(before_NM)
    if count < 3:
        return float((before_NM * after_NM).sum(-1).mean())
    chance = random.Random(0)
    pairs = torch.tensor([chance.sample(range(count), 2) for _ in range(PAIRS)])
    alike = [(x[pairs[:, 0]] * x[pairs[:, 1]]).sum(-1) for x in (before_NM, after_NM)]
    return spearman(*alike)
