"""What attention modules are composed of besides projections: score, normaliser, mask and positions.

Axes: B batch, H heads, L length, D head width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from .. import masks
from ..biases import Bias
from ..masks import Mask
from ..normalizers import Normalizer
from ..scores import Score

__all__ = ["Parts", "Rotates", "merge_heads", "split_heads"]


@runtime_checkable
class Rotates(Protocol):
    """Positions that turn queries and keys, such as `fv.positions.Rotary`."""

    def rotate(self, x: Any, positions: Any = 0, *, length: int | None = None) -> Any:
        """(B, H, L, D), whose rows stand at `positions` (that of the first, or one each) in a text of `length`."""


class Parts(nn.Module):
    """Score, normaliser, mask and positions of a module, and how they go into a call of `fv.attention`.

    Args:
        score: as in `fv.attention`, learned ones included.
        normalizer: as in `fv.attention`, or a module that gives one.
        mask: one that holds in every call; a call's own is joined to it with `&`.
        positions: an object that rotates queries and keys, `rotate(x, positions, length=)`; or a bias, or a module
            that gives one (`fv.positions.alibi(heads)`, `fv.positions.RelativeBuckets(heads)`); or None.

    Parameters inside a part, such as the sinks of a softmax, become parameters of the module.

    Raises:
        TypeError: positions or a mask that are none of these.
    """

    def __init__(
        self,
        *,
        score: str | Score | Callable[[Tensor, Tensor], Tensor] | nn.Module = "scaled_dot",
        normalizer: str | Normalizer | nn.Module = "softmax",
        mask: Mask | None = None,
        positions: Rotates | Bias | nn.Module | None = None,
    ) -> None:
        super().__init__()
        if mask is not None and not isinstance(mask, Mask):
            raise TypeError(f"a module's mask must be one of fv.masks; got {type(mask).__name__}")
        if positions is not None and not isinstance(positions, Rotates | Bias | nn.Module):
            raise TypeError(
                "positions must rotate queries and keys, as fv.positions.Rotary does, or be a bias, as those of "
                f"fv.positions.alibi are; got {type(positions).__name__}"
            )
        self.score, self.normalizer, self.mask, self.positions = score, normalizer, mask, positions
        self.rotates = isinstance(positions, Rotates)
        self._with_parameters = [n for n in ("score", "normalizer", "positions") if self._adopt(n, getattr(self, n))]

    def _adopt(self, name: str, part: Any) -> bool:
        """Register the parameters inside a part that is no module; whether there are any."""
        found = False
        for field in fields(part) if is_dataclass(part) else ():
            inner, path = getattr(part, field.name), f"{name}_{field.name}"
            if isinstance(inner, nn.Parameter):
                self.register_parameter(path, inner)
                found = True
            else:
                found = self._adopt(path, inner) or found
        return found

    def part(self, name: str) -> Any:
        """Score, normaliser or positions, with their parameters as they are now (loading may have put others there)."""
        found = getattr(self, name)
        return self._current(name, found) if name in self._with_parameters else found

    def _current(self, name: str, part: Any) -> Any:
        changed = {}
        for field in fields(part) if is_dataclass(part) else ():
            inner, path = getattr(part, field.name), f"{name}_{field.name}"
            changed[field.name] = self._parameters[path] if path in self._parameters else self._current(path, inner)
        return replace(part, **changed) if changed else part

    def rotated(self, x_BHLD: Tensor, first: int, length: int) -> Tensor:
        """Queries or keys, turned if positions turn them; `first` is the position of the first row."""
        if not self.rotates:
            return x_BHLD
        turned: Tensor = self.part("positions").rotate(x_BHLD, first, length=length)
        return turned

    def options(self, mask: Any, bias: Any) -> dict[str, Any]:
        """Options for `fv.attention`, a call's own mask and bias included."""
        if self.mask is not None:
            given = None if mask is None else mask if isinstance(mask, Mask) else masks.tensor(mask)
            mask = self.mask if given is None else self.mask & given
        if self.positions is not None and not self.rotates:
            own = self.positions() if isinstance(self.positions, nn.Module) else self.part("positions")
            bias = own if bias is None else own + bias
        normalizer = self.normalizer() if isinstance(self.normalizer, nn.Module) else self.part("normalizer")
        return {"score": self.part("score"), "normalizer": normalizer, "mask": mask, "bias": bias}


def split_heads(x_BLM: Tensor, heads: int) -> Tensor:
    """(..., L, H D) -> (..., H, L, D)."""
    return x_BLM.unflatten(-1, (heads, x_BLM.shape[-1] // heads)).transpose(-3, -2)


def merge_heads(x_BHLD: Tensor) -> Tensor:
    """(..., H, L, D) -> (..., L, H D)."""
    return x_BHLD.transpose(-3, -2).flatten(-2)
