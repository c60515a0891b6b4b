"""`nn.Linear`, multiplied by oneDNN where PyTorch's usual library leaves half of the processor unused.

PyTorch multiplies float32 matrices by MKL, which keeps its AVX-512 kernels to Intel's processors. oneDNN, which PyTorch
brings along too, has them everywhere: on an AMD EPYC with AVX-512 it takes 0.4 to 0.55 of the time from 50 rows on.
"""

from __future__ import annotations

import math
import platform
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..shapes import is_tracked, is_transformed

__all__ = ["Linear", "by_onednn", "gru", "linear"]

FEWEST_ROWS = 16  # of which it is not slower; for one row it is, 4 times


def linear(
    x: Float[Tensor, "*B I"], weight: Float[Tensor, "O I"], bias: Float[Tensor, " O"] | None = None
) -> Float[Tensor, "*B O"]:
    """`torch.nn.functional.linear`. The two libraries may differ by a rounding of float32.

    `torch.backends.mkldnn.flags(enabled=False)` keeps it to PyTorch's choice.
    """
    if by_onednn(x, weight, bias):
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return out
    return nn.functional.linear(x, weight, bias)


def by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether `linear` takes oneDNN for these."""
    return _is_plain(x, weight, bias) and _is_better()


def gru(
    module: nn.GRU, x_BLI: Float[Tensor, "B L I"], start_1BH: Float[Tensor, "1 B H"]
) -> tuple[Float[Tensor, "B L H"], Float[Tensor, "1 B H"]]:
    """What a GRU of one layer and direction, `batch_first`, gives (Cho et al. 2014), its products by `linear`.

    PyTorch's own takes twice as long where oneDNN is the better library: it asks MKL.
    """
    of_input, of_state, input_bias, state_bias = module.all_weights[0]
    into_BLG = linear(x_BLI, of_input, input_bias)
    h_BH, outputs = start_1BH[0], []
    for into_BG in into_BLG.unbind(1):
        r_BH, z_BH, n_BH = into_BG.chunk(3, dim=-1)
        of_r_BH, of_z_BH, of_n_BH = linear(h_BH, of_state, state_bias).chunk(3, dim=-1)
        n_BH = torch.tanh(torch.addcmul(n_BH, torch.sigmoid(r_BH + of_r_BH), of_n_BH))
        h_BH = torch.lerp(n_BH, h_BH, torch.sigmoid(z_BH + of_z_BH))
        outputs.append(h_BH)
    return torch.stack(outputs, dim=1), h_BH[None]


class Linear(nn.Linear):
    """`torch.nn.Linear` by `linear`."""

    def forward(self, input: Tensor) -> Tensor:  # PyTorch's name
        """(..., I) -> (..., O)."""
        return linear(input, self.weight, self.bias)


def _is_plain(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether it is enough numbers of the right kind, and nobody differentiates, transforms or recasts them."""
    return (
        type(x) is Tensor
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and x.numel() >= FEWEST_ROWS * max(1, x.shape[-1])
        and not (is_transformed() or is_tracked(x, weight, bias) or torch.is_autocast_enabled("cpu"))
        and bool(torch.backends.mkldnn.enabled)
    )


@cache
def _is_better() -> bool:
    """On processors with AVX-512 that are not Intel's, where the operator is there and agrees."""
    if platform.machine() not in ("x86_64", "AMD64") or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    try:
        if "AuthenticAMD" not in Path("/proc/cpuinfo").read_text():
            return False
        x, weight, bias = (torch.arange(math.prod(s)).float().sin().view(s) for s in ((FEWEST_ROWS, 3), (5, 3), (5,)))
        found = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    except (OSError, AttributeError, RuntimeError):
        return False
    return torch.allclose(found, nn.functional.linear(x, weight, bias), atol=1e-5)
