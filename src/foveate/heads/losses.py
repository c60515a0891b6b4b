"""What a loss tells of a batch: a mean over its sequences, or a sum over so many places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..shapes import whole

__all__ = ["Checked", "Loss", "checked", "mean_of"]

Loss = Callable[[nn.Module, Any], Tensor | tuple[Tensor, int]]
Checked = Callable[[nn.Module, Any], tuple[Tensor, int | None]]  # the number, and the places of a sum


def checked(loss: Loss) -> Checked:
    """The loss, its answers looked at.

    Raises:
        ValueError: when it is called: it gives no finite number, or a sum over no places.
    """

    def look(model: nn.Module, batch: Any) -> tuple[Tensor, int | None]:
        told = loss(model, batch)
        found, places = told if isinstance(told, tuple) and len(told) == 2 else (told, None)
        if not isinstance(found, Tensor) or found.numel() != 1 or not found.is_floating_point():
            raise ValueError(f"loss(model, batch) gives one floating number; got {type(found).__name__}")
        if places is not None and whole(places, "how many places a loss is a sum over") < 1:
            raise ValueError(f"a loss that is a sum is over one place or more; got {places}")
        if not bool(torch.isfinite(found.detach()).all()):
            raise ValueError("loss(model, batch) is not finite")
        return found.reshape(()), places

    return look


def mean_of(loss: Checked) -> Callable[[nn.Module, Any], Tensor]:
    """The same as one number: of a sum the mean over its places."""

    def mean(model: nn.Module, batch: Any) -> Tensor:
        found, places = loss(model, batch)
        return found if places is None else found / places

    return mean
