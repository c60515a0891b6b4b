"""Asking a model again without some tokens, or without some links.

Axes: B sequences that differ in what was removed, H heads, Q queries, N tokens (keys).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .. import masks
from ..watch.events import Call, NotExpressibleError
from ..watch.standing import Standing
from .errors import FaithfulError
from .reading import map_of
from .subject import Subject

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
            with Hidden(self.subject.model, torch.stack(some), own=True):
                found += self.subject.log_odds(given_BN).tolist()
        return found


class Hidden(Standing):
    """Inside the `with`, links (B, Q|1, N) are gone from every call of attention to the N tokens: what is left is
    normalised again. A token always reads itself, unless `own` links may go, too."""

    changes = True
    error, doing = FaithfulError, "change"

    def __init__(self, model: nn.Module, gone_BQN: Tensor, own: bool = False) -> None:
        super().__init__(model)
        self.gone_BQN, self.own = gone_BQN, own
        self.changed = 0

    def __enter__(self) -> None:
        self.find()
        self.stand()

    def __exit__(self, kind: Any, *_: Any) -> None:
        self.let_go()
        if kind is None and not self.changed:
            raise FaithfulError("no attention to the text's tokens ran that could be changed")

    def wants(self, name: str) -> bool:
        return True

    def changes_inside(self, module: nn.Module) -> bool:
        return True

    def change(self, call: Call, wanted: list[tuple[Any, nn.Module]]) -> Call:
        try:
            event, (out_BHQV, put) = call.event(), call.open()
        except NotExpressibleError as why:
            raise FaithfulError(f"attention could not be changed: {why}") from None
        queries, keys = event.query.shape[2], event.key.shape[2]
        if len(event.query) != len(self.gone_BQN) or keys != self.gone_BQN.shape[-1]:
            return call
        gone_BQN = self.gone_BQN
        if gone_BQN.shape[1] not in (1, queries):
            return call
        if queries == keys and not self.own:
            gone_BQN = gone_BQN & ~torch.eye(keys, dtype=torch.bool, device=gone_BQN.device)
        left = masks.tensor(~gone_BQN[:, None])
        weights = map_of(replace(event, mask=left if event.mask is None else event.mask & left))
        self.changed += 1
        return replace(call, result=put(weights.read(event.value)[0].to(out_BHQV.dtype), weights))


def _split(things: list[Any], size: int) -> list[list[Any]]:
    return [things[first : first + size] for first in range(0, len(things), size)]
