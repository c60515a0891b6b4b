"""What heads read, in mean and covariance: from it follows what the others can stand in for when some go.

A removed head is predicted by the heads of its module that stay, at the same place, as well as a linear map can (least
squares, as Kwon et al. 2022 tune masks without training); the prediction is linear, so it goes into their columns of
the output's projection, and its constant into the bias. Nothing is computed more than without it.

Axes: C = H D numbers that heads read, side by side; R of them are removed and K kept; M model width; N places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .sites import find

__all__ = ["Moments", "StandIn", "moments"]

RIDGE = 1e-3  # of the mean variance: heads that are nearly the same do not blow up


@dataclass(frozen=True)
class StandIn:
    """x_R is taken to be x_K by (K, R) + constant (R,)."""

    removed_R: Tensor
    kept_K: Tensor
    map_KR: Tensor
    constant_R: Tensor

    def put(self, x_C: Tensor) -> Tensor:
        """(..., C), what is removed replaced by what stands in for it."""
        kept_K, removed_R = self.kept_K.to(x_C.device), self.removed_R.to(x_C.device)
        found = x_C.index_select(-1, kept_K) @ self.map_KR.to(x_C) + self.constant_R.to(x_C)
        return x_C.index_copy(-1, removed_R, found)


@dataclass(frozen=True)
class Moments:
    """Mean (C,) and covariance (C, C) of what the heads of a module read, in float64; `width` numbers a head.

    `constant`: whether the output has a bias to take a constant in.
    """

    mean_C: Tensor
    covariance_CC: Tensor
    width: int
    constant: bool

    def without(self, heads: Sequence[int]) -> StandIn:
        """What stands in for these heads."""
        where_C = torch.arange(len(self.mean_C)) // self.width
        gone_C = torch.isin(where_C, torch.tensor(list(heads)))
        r, k = gone_C.nonzero()[:, 0], (~gone_C).nonzero()[:, 0]
        of_CC = self.covariance_CC
        if not self.constant:
            of_CC = of_CC + torch.outer(self.mean_C, self.mean_C)
        kk = of_CC[k][:, k]
        ridge = RIDGE * kk.diagonal().mean().clamp(min=1e-30) if len(k) else 0.0
        map_KR = torch.linalg.solve(kk + ridge * torch.eye(len(k), dtype=kk.dtype), of_CC[k][:, r])
        constant_R = self.mean_C[r] - self.mean_C[k] @ map_KR if self.constant else torch.zeros(len(r), dtype=kk.dtype)
        return StandIn(r, k, map_KR, constant_R)


@torch.no_grad()
def moments(model: nn.Module, run: Callable[[], object]) -> dict[str, Moments]:
    """What the heads of each module read, by its path.

    Args:
        run: runs the model on some data. All places count alike, those of padding too.
    """
    sums: dict[str, tuple[Tensor, Tensor, int]] = {}
    hooks = []

    def adds(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            x_NC = given[0].detach().flatten(0, -2).double().cpu()
            first, second, count = sums.get(path, (0, 0, 0))
            sums[path] = first + x_NC.sum(0), second + x_NC.T @ x_NC, count + len(x_NC)

        return hook

    sites = find(model)
    for path, site in sites.items():
        if site.heads:
            hooks.append(model.get_submodule(site.output).register_forward_pre_hook(adds(path)))
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    for path, (first, second, count) in sums.items():
        mean_C = first / count
        biased = model.get_submodule(sites[path].output)._parameters.get("bias") is not None
        found[path] = Moments(mean_C, second / count - torch.outer(mean_C, mean_C), sites[path].width, biased)
    return found
