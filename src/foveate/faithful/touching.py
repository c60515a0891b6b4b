"""What stands around a model while a report reads its attention, or takes links out of it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..change import eager
from ..map import AttentionMap
from ..normalizers import Softmax
from ..scores import Dot
from ..watch.events import Call, Event, NotExpressibleError, Put
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
        eager.forced()
        try:
            self.stand()
        except BaseException:
            eager.released()
            raise

    def __exit__(self, *_: Any) -> None:
        self.let_go()
        eager.released()

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
    sinks = None if event.sinks is None else event.sinks.detach()
    bias = event.bias.detach() if isinstance(event.bias, Tensor) else event.bias
    return AttentionMap(
        event.query.detach(),
        event.key.detach(),
        score=event.score or Dot(event.scale, event.softcap),
        normalizer=event.normalizer or Softmax(sinks),
        mask=event.mask if mask is None else mask if event.mask is None else event.mask & mask,
        bias=bias,
    )
