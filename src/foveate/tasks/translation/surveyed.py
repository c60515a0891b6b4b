"""A translator as a survey of heads takes it: pairs of texts as sub-words, and one forced pass over a batch of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from ...heads.batches import Batch
from ...heads.subject import Subject
from ..subwords import BEGIN, END, PAD
from .translator import Translator

__all__ = ["SurveyedTranslator"]


class SurveyedTranslator(Subject):
    """See `Subject`. Ids are those of the vocabulary on both sides, as people read them; targets are renumbered when
    they are run. Each source ends with the end symbol, each target begins with the begin symbol.

    Args:
        most: tokens of a text that are read, at most; None: any number.
    """

    def __init__(self, translator: Translator, *, name: str = "", most: int | None = None) -> None:
        model: Any = translator.model
        self.translator = translator
        name = name or translator.shape.name
        super().__init__(model, model, model, name, None, frozenset((PAD, BEGIN, END)), PAD, BEGIN, most)

    @property
    def two_sided(self) -> bool:
        return True

    @property
    def mixed(self) -> bool:
        return True

    def _tokenized(self, texts: list[str], target: bool) -> Iterable[Sequence[int]]:
        return [[*ids, END] for ids in self.translator.subwords.ids(texts)]

    def tokens(self, ids: Sequence[int]) -> list[str]:
        return self.translator.subwords.pieces(ids)

    @torch.no_grad()
    def run(self, batch: Batch) -> None:
        assert batch.target is not None
        device = next(self.model.parameters()).device
        numbers = [self.translator.numbers(row) for row in batch.target.ids.tolist()]
        given = batch.source.ids, batch.source.lengths, torch.tensor(numbers)
        self.model(*(t.to(device) for t in given))
