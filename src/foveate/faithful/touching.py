"""What stands around a model while a report reads its attention, or takes links out of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ..change import eager
from ..map import AttentionMap
from ..watch.events import Call, Event, NotExpressibleError, Put
from ..watch.functions import both
from ..watch.standing import Standing
from .errors import FaithfulError

__all__ = ["Touching", "map_of"]


class Touching(Standing):
    """A context manager inside which every call of attention goes through `touch`. Subclasses say what that does."""

    changes = True
    reweighs = False
    error, doing = FaithfulError, "explain"

    def __enter__(self) -> None:
        self.find()
        eager.stand(self)

    def __exit__(self, *_: Any) -> None:
        eager.let_go(self)

    def touch(self, module: nn.Module, event: Event, out_BHQV: Tensor, put: Put) -> Any:
        """What the caller of attention is given instead; None: what it is given anyway."""
        raise NotImplementedError

    # --- what interceptors ask

    def wants(self, name: str) -> bool:
        return True

    def changes_inside(self, module: nn.Module) -> bool:
        return True

    def change(self, call: Call, wanted: list[tuple[Any, nn.Module]]) -> Call:
        if len(wanted) > 1:
            self.factors()
        module = wanted[0][1]
        try:
            event, (out_BHQV, put) = call.event(), call.open()
        except NotExpressibleError as why:
            raise FaithfulError(f"the attention of {self.name_of(module)} is not understood: {why}") from None
        result = self.touch(module, event, out_BHQV, put)
        return call if result is None else Call(call.module, result, call.event, call.open)

    def factors(self, *_: Any) -> dict[int, float]:
        raise FaithfulError("a report cannot be made of a model whose attention is being changed")


def map_of(event: Event, mask: Any = None) -> AttentionMap:
    """The weights of a call, without gradients, where `mask` allows them, too."""
    return replace(event.detached(), mask=both(event.mask, mask)).map()
