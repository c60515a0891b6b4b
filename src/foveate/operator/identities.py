"""Statistics from any kernel that returns the log-sum-exp of its rows beside its output, by two identities:

    entropy    lse - scale q.o', where o' is the output with the keys as values
    received   its log is the log-sum-exp of attention with swapped roles: queries [k, 1], keys [q, -lse / scale]

Both are exact in float32, but the entropy is the difference of two numbers: where a row's mean score is large beside
it, digits cancel, and the problem is left to blocks. In half precision o' is rounded to a few digits (errors of 1e-4 to
1e-1 nats), so that the entropy is not offered; attention received is, as -lse / scale is spread over three columns,
which together hold float32, if the kernel keeps its sums in float32: PyTorch's on the CPU does not (errors of 1e-4).

Axes: B batch, H heads, G key heads, Q queries, K keys, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..native import NAN_ROWS, Found, Wanted
from ..scores import Dot
from ..shapes import full_precision
from . import gpu
from .problem import Problem
from .sdpa import is_plain_causal

__all__ = ["KERNELS", "Kernel", "entropy", "obstacle", "passes", "received"]

Kernel = Callable[[Tensor, Tensor, Tensor, float, bool], tuple[Tensor, Tensor]]  # q, k, v, scale, causal -> output, lse
MOST_FLASH = 256  # the widest heads of that kernel
SPLIT = 3  # columns that hold a float32 in half precision
MOST_MEAN = 6.0  # mean score of a row, up to which its entropy errs at most twice as much as from the weights


def _cpu(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=scale)


def _flash(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, False, scale=scale)[:2]


def _efficient(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    found = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True, 0.0, causal, scale=scale)
    return found[0], found[1][..., : q.shape[2]]  # its rows are filled up


def _flex(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    from torch.nn.attention.flex_attention import AuxRequest, create_block_mask, flex_attention

    seen = None
    if causal:
        seen = create_block_mask(lambda b, h, i, j: j <= i, None, None, q.shape[2], k.shape[2], device=q.device.type)
    out, aux = flex_attention(q, k, v, block_mask=seen, scale=scale, return_aux=AuxRequest(lse=True))
    assert isinstance(aux.lse, Tensor)
    return out, aux.lse


KERNELS: dict[str, Kernel] = {"cpu": _cpu, "flash": _flash, "efficient": _efficient, "flex": _flex}


def entropy(
    q: Float[Tensor, "B H Q D"], k: Float[Tensor, "B H K D"], kernel: Kernel, scale: float, causal: bool = False
) -> tuple[Float[Tensor, "B H Q"], Float[Tensor, "B H Q"]]:
    """Entropy in nats, and the log-sum-exp. `causal` takes as many queries as keys."""
    q, k = _filled(q), _filled(k)
    out, lse = kernel(q, k, k, scale, causal)
    wide = torch.promote_types(q.dtype, torch.float32)
    return (lse.to(wide) - scale * (q.to(wide) * out.to(wide)).sum(-1)).clamp(min=0), lse


def received(
    q: Float[Tensor, "B H Q D"],
    k: Float[Tensor, "B H K D"],
    lse: Float[Tensor, "B H Q"],
    kernel: Kernel,
    scale: float,
    causal: bool = False,
) -> Float[Tensor, "B H K"]:
    """Attention received by each key, summed over the queries, in the dtype of `lse`."""
    rest, parts = -lse / scale, []
    for _ in range(SPLIT if q.dtype.itemsize < 4 else 1):
        parts.append(rest.to(q.dtype))
        rest = rest - parts[-1].to(rest.dtype)
    marked = _filled(torch.cat([q, torch.stack(parts, -1)], -1))
    asking = _filled(torch.cat([k, k.new_ones(*k.shape[:-1], len(parts))], -1))
    if causal:  # key j is seen by the queries from j on: causal, once both run backwards
        marked, asking = marked.flip(2), asking.flip(2)
    mass = kernel(asking, marked, marked, scale, causal)[1].exp()
    return mass.flip(2) if causal else mass


def obstacle(problem: Problem, v_BGKV: Tensor | None, wanted: Wanted) -> str | None:
    """Why these identities do not give what is wanted; None if they do."""
    q, score, normalizer = problem.q_BHQD, problem.score, problem.normalizer
    hindrance = gpu.odd(problem, v_BGKV)
    if hindrance is not None:
        return hindrance
    assert isinstance(score, Dot) and score.scale is not None
    if v_BGKV is not None:
        return "they give no output"
    if wanted.top or wanted.pooled:
        return "the largest weights and thumbnails follow from no identity"
    if q.dtype == torch.float64 and q.device.type != "cpu":
        return "its inputs are float64"
    if wanted.entropy and q.dtype.itemsize < 4:
        return f"the entropy would be less exact than from weights, in {q.dtype}"
    if wanted.received and q.dtype.itemsize < 4 and q.device.type == "cpu":
        return f"on the CPU, PyTorch's kernel rounds the log-sum-exp in {q.dtype}"
    if score.softcap is not None or normalizer.tensors:
        return "its score has a softcap, or its normalizer sinks"
    if score.scale == 0:
        return "its scale is 0"
    g = problem.geometry
    if problem.mask is not None and not (is_plain_causal(problem) and g.queries == g.keys):
        return "its mask is not plain causal over as many queries as keys"
    return None


def passes(problem: Problem, v_BGKV: Tensor | None, wanted: Wanted, rows: slice) -> Iterator[tuple[slice, Found]]:
    """What the identities give over all rows. A status other than 0 leaves the problem to blocks."""
    score, causal, device = problem.score, problem.mask is not None, problem.q_BHQD.device
    assert isinstance(score, Dot) and score.scale is not None and v_BGKV is None
    q, k = problem.q_BHQD.detach(), problem.k_BGKD.detach().repeat_interleave(problem.shared, dim=1)
    kernel = KERNELS[kernel_for(device, q.dtype, q.shape[-1])]
    with full_precision(device):
        spread, lse = entropy(q, k, kernel, score.scale, causal)
        mass = received(q, k, lse, kernel, score.scale, causal) if wanted.received else None
    fine = bool((lse.abs() < torch.inf).all()) and (mass is None or bool((mass < torch.inf).all()))
    if wanted.entropy or (wanted.received and q.dtype.itemsize < 4):
        fine = fine and bool(((lse - spread).abs() <= MOST_MEAN).all())
    found = Found(0 if fine else NAN_ROWS, None, lse.double(), spread)
    yield rows, found if mass is None else replace(found, received=mass.double())


def kernel_for(device: torch.device, dtype: torch.dtype, width: int) -> str:
    """The name of PyTorch's kernel for these queries."""
    if device.type == "cpu":
        return "cpu"
    return "flash" if dtype.itemsize < 4 and width + SPLIT <= MOST_FLASH else "efficient"


def _filled(t: Tensor) -> Tensor:
    """Zeros added up to a width that every kernel takes, a multiple of 8."""
    return F.pad(t, (0, -t.shape[-1] % 8)) if t.shape[-1] % 8 else t
