"""A watch that keeps nothing: each attention call is handed over while the model runs, and let go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..map import AttentionMap
from ..recording import CallInfo
from .checks import reproduces
from .events import Event
from .session import CaptureError, Session

__all__ = ["Hear", "Listening"]

Hear = Callable[[CallInfo, AttentionMap], None]


class Listening(Session):
    """A context manager; inside it `hear` is told of every attention call of the model as it happens.

    The maps hold the model's own queries and keys, so they must be looked at before `hear` returns: a cache may change
    them later. What `hear` raises comes out of the model's call.

    Args:
        model: any `nn.Module`.
        hear: takes what is known of the module, and the map (B, H, Q, K) of one call.
        layers: as in `fv.watch`.
    """

    def __init__(self, model: nn.Module, hear: Hear, layers: list[str | int] | None = None) -> None:
        super().__init__(model, layers, None, "qk", None, None, None, False, False)
        self.hear = hear

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.let_go()
        self.recording.not_captured = tuple(f"{name}: {why}" for name, why in sorted(self._not_captured().items()))
        if kind is None and not self.infos:
            raise CaptureError(self._nothing())

    def take(self, name: str, module: nn.Module, event: Event) -> None:
        if name not in self.infos and name not in self.missed and not reproduces(event):
            self.missed[name] = "queries, keys and mask as understood do not reproduce the module's output"
        if name in self.missed:
            return
        info = self.infos.setdefault(name, self._describe(name, module, event))
        self.hear(info, event.map())

    def _not_captured(self) -> dict[str, str]:
        return {name: why for name, why in super()._not_captured().items() if name not in self.infos}
