"""Cross-entropy of an output layer, computed with it, some rows at a time.

An output over O words makes N x O logits, the largest tensor of a small language model by far: formed whole, it is
written and read six times over, in main memory. Some rows at a time it stays in the cache, and as the gradient of
softmax is at hand with the loss, it is taken at once: the backward has nothing left to compute.

Axes: N places to predict, M width, O outputs; n some of N.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...shapes import at_a_time

__all__ = ["Losses", "output_losses"]

NUMBERS = 1 << 21  # logits held at a time, on a CPU


class Losses(NamedTuple):
    """Sums over all places, in nats: with smoothed targets (what is learned), and of the true words alone."""

    smoothed: Tensor
    plain: Tensor


def output_losses(
    hidden_NM: Float[Tensor, "N M"],
    weight_OM: Float[Tensor, "O M"],
    bias_O: Float[Tensor, " O"],
    target_N: Int[Tensor, " N"],
    *,
    smoothing: float = 0.0,
) -> Losses:
    """Cross-entropy of softmax(hidden weight' + bias) with targets of which `smoothing` is spread over all outputs
    evenly (Szegedy et al. 2016, section 7).

    Under autocast products are taken in its dtype. `smoothed` has gradients, once; `plain` has none.

    Raises:
        ValueError: smoothing outside [0, 1).
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing must be at least 0 and less than 1; got {smoothing}")
    device = hidden_NM.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_NM.dtype
    with torch.autocast(device, enabled=False):
        return Losses(*_OutputLosses.apply(hidden_NM, weight_OM, bias_O, target_N, smoothing, dtype))


class _OutputLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor, smoothing: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        h_NM, w_OM, b_O = hidden.to(dtype), weight.to(dtype), bias.to(dtype)
        wide = torch.promote_types(weight.dtype, torch.float32)
        to_h, to_w = torch.empty_like(h_NM), torch.zeros_like(weight, dtype=wide)
        to_b = torch.zeros_like(bias, dtype=wide)
        smoothed, plain = (torch.zeros((), dtype=wide, device=hidden.device) for _ in range(2))
        outputs = len(weight)
        step = max(1, at_a_time(NUMBERS, hidden.device) // outputs)
        for at in range(0, len(hidden), step):
            h_nM, y_n1 = h_NM[at : at + step], target[at : at + step, None]
            s_nO = torch.addmm(b_O, h_nM, w_OM.mT)
            g_nO = torch.softmax(s_nO, -1)
            lse_n = s_nO.amax(-1).to(wide) - g_nO.amax(-1).to(wide).log()  # logsumexp would be rounded to dtype
            true_n = s_nO.gather(1, y_n1)[:, 0].to(wide)
            plain += (lse_n - true_n).sum()
            smoothed += (lse_n - (1 - smoothing) * true_n - smoothing * s_nO.mean(-1, dtype=wide)).sum()
            if smoothing:
                g_nO.sub_(smoothing / outputs)
            g_nO.scatter_add_(1, y_n1, g_nO.new_full(y_n1.shape, smoothing - 1))
            torch.mm(g_nO, w_OM, out=to_h[at : at + step])
            to_w += g_nO.mT @ h_nM
            to_b += g_nO.sum(0, dtype=wide)
        ctx.save_for_backward(to_h, to_w, to_b)
        ctx.dtypes = hidden.dtype, weight.dtype, bias.dtype
        ctx.mark_non_differentiable(plain)
        return smoothed, plain

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        found = ((t * grad).to(dtype) for t, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True))
        return *found, None, None, None
