"""A factor for each head of a model, 1 where nothing is changed, while it is being decided which heads go.

A factor stands where heads are put side by side, before the output's projection: with 0 a head is knocked out, its
gradient at 1 is the score of Michel et al. 2019, and a learned one is a gate (Voita et al. 2019). Axes: H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from .moments import Moments, StandIn
from .prune import prunable
from .sites import find

__all__ = ["Switches", "Unit"]

Unit = tuple[str, tuple[int, ...]]  # a module's path, and heads of it that go together


class Switches:
    """A context manager: inside, heads count as much as their factors say.

    Args:
        factors: more factors (H,) by module, asked for at each call.
        stand_ins: moments by module: in the place of a head that is off stands what the others say of it.

        with Switches(model) as switches:
            switches.off = {("encoder.layers.0.attention", (2,))}

    Raises:
        ValueError: the model has no attention that can be pruned.
    """

    def __init__(
        self,
        model: nn.Module,
        factors: Mapping[str, Callable[[], Tensor]] | None = None,
        stand_ins: Mapping[str, Moments] | None = None,
    ) -> None:
        self.model, self.factors, self.moments = model, dict(factors or {}), dict(stand_ins or {})
        self._stand_ins: dict[str, StandIn] = {}
        self.units: tuple[Unit, ...] = tuple((path, unit) for path, units in prunable(model).items() for unit in units)
        self._off: dict[str, Tensor] = {}
        self._hooks: list[Any] = []

    @property
    def off(self) -> Iterable[Unit]:
        return self._units

    @off.setter
    def off(self, units: Iterable[Unit]) -> None:
        """Knock these units out, and no others."""
        self._units, self._off = tuple(units), {}
        sites = find(self.model)
        for path, heads in self._units:
            module = sites[path]
            like = module.slabs[0].parameter
            factor_H = self._off.setdefault(path, torch.ones(module.heads, device=like.device, dtype=like.dtype))
            factor_H[list(heads)] = 0
        gone = {path: (factor_H == 0).nonzero()[:, 0].tolist() for path, factor_H in self._off.items()}
        self._stand_ins = {path: self.moments[path].without(gone[path]) for path in gone if path in self.moments}

    def __enter__(self) -> Switches:
        for path, site in find(self.model).items():
            projection = self.model.get_submodule(site.output)
            self._hooks.append(projection.register_forward_pre_hook(self._hook(path, site.width)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def _hook(self, path: str, width: int) -> Callable[[nn.Module, tuple[Tensor, ...]], Any]:
        def switched(module: nn.Module, given: tuple[Tensor, ...]) -> Any:
            x, *rest = given
            if path in self.factors:
                x = x * self.factors[path]().to(x.dtype).repeat_interleave(width)
            if path in self._off:
                on = self._off[path].to(x.dtype).repeat_interleave(width)
                x = self._stand_ins[path].put(x) if path in self._stand_ins else x * on
            return (x, *rest)

        return switched
