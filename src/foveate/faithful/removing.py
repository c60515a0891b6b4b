"""Asking a model again without some tokens, or without some links.

Axes: B sequences that differ in what was removed, H heads, Q queries, N tokens (keys).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import masks
from ..watch.events import Event, Put
from .subject import Subject
from .touching import Touching, map_of

__all__ = ["HOW", "Hidden", "Removal"]

HOW = ("replace", "hide")
_TOKENS, _LINKS = 1 << 14, 1 << 24  # of a batch


class Removal:
    """The target's log-odds without some tokens; each set of tokens is asked for once.

    `how` is "replace", by what stands for a removed token, or "hide": the token stays, and no other one can read it in
    any layer or head.
    """

    def __init__(self, subject: Subject, how: str) -> None:
        self.subject, self.how = subject, how
        self.known: dict[frozenset[int], float] = {}

    def without(self, sets: Sequence[frozenset[int]]) -> list[float]:
        """Log-odds without each of these sets of tokens."""
        missing = list(dict.fromkeys(one for one in sets if one not in self.known))
        for some in _split(missing, min(self.subject.most, max(1, _TOKENS // self.subject.input.shape[1]))):
            gone_BN = torch.zeros(len(some), self.subject.input.shape[1], dtype=torch.bool)
            for row, one in enumerate(some):
                gone_BN[row, sorted(one)] = True
            self.known.update(zip(some, self._ask(gone_BN.to(self.subject.input.device)), strict=True))
        return [self.known[one] for one in sets]

    @torch.no_grad()
    def _ask(self, gone_BN: Tensor) -> list[float]:
        given_BN = self.subject.input.expand(len(gone_BN), *self.subject.input.shape[1:])
        if self.how == "replace":
            assert self.subject.hidden is not None
            at = gone_BN if given_BN.ndim == 2 else gone_BN[..., None]
            return self.subject.log_odds(torch.where(at, self.subject.hidden, given_BN)).tolist()
        with Hidden(self.subject.model, gone_BN[:, None]):
            return self.subject.log_odds(given_BN).tolist()

    @torch.no_grad()
    def without_links(self, tables: Sequence[Tensor]) -> list[float]:
        """Log-odds without each of these sets of links, (N, N) booleans."""
        found: list[float] = []
        count = self.subject.input.shape[1]
        for some in _split(list(tables), min(self.subject.most, max(1, _LINKS // count**2))):
            given_BN = self.subject.input.expand(len(some), *self.subject.input.shape[1:])
            with Hidden(self.subject.model, torch.stack(some)):
                found += self.subject.log_odds(given_BN).tolist()
        return found


class Hidden(Touching):
    """Inside the `with`, links (B, Q|1, N) are gone from every call of attention to the N tokens: what is left is
    normalised again. A token always reads itself."""

    def __init__(self, model: nn.Module, gone_BQN: Tensor) -> None:
        super().__init__(model)
        self.gone_BQN = gone_BQN

    def touch(self, module: nn.Module, event: Event, out_BHQV: Tensor, put: Put) -> Any:
        queries, keys = event.query.shape[2], event.key.shape[2]
        gone_BQN = self.gone_BQN
        fits = len(event.query) == len(gone_BQN) and keys == gone_BQN.shape[2] and gone_BQN.shape[1] in (1, queries)
        if not fits:
            return None
        if queries == keys:
            gone_BQN = gone_BQN & ~torch.eye(keys, dtype=torch.bool, device=gone_BQN.device)
        weights = map_of(event, masks.tensor(~gone_BQN[:, None]))
        return put(weights.read(event.value)[0].to(out_BHQV.dtype), weights)


def _split(things: list[Any], size: int) -> list[list[Any]]:
    return [things[first : first + size] for first in range(0, len(things), size)]
