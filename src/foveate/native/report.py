"""What the compiled core does in this process, for people to read."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .library import find

__all__ = ["Config", "config"]


@dataclass(frozen=True)
class Config:
    """`native`: whether the compiled core is in use; `isa`: on which instructions; `threads`: on how many threads at
    most; `reason`: why so, or why it is not in use. `cuda`: what computes statistics of tensors on a CUDA device."""

    native: bool
    isa: str | None
    threads: int
    reason: str
    cuda: str


def config() -> Config:
    """How foveate computes in this process. `FOVEATE_NATIVE` in the environment turns the compiled core off (`0`) or
    chooses its instructions (`portable`, `avx2`, `avx512`, `avx512bf16`); it is read once. `FOVEATE_TRITON=0` turns the
    Triton kernels off.

    Raises:
        ValueError: FOVEATE_NATIVE holds something else.
    """
    from ..gpu.find import described  # that package takes its results' form from this one

    core = find()
    return Config(core.library is not None, core.isa, torch.get_num_threads(), core.reason, described())
