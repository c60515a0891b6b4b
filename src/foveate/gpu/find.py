"""Whether Triton's kernels can be used, asked without importing Triton until tensors are where it could run."""

from __future__ import annotations

import os
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import torch

__all__ = ["described", "interpreted", "obstacle"]

OLDEST = (3, 4)


def interpreted() -> bool:
    """Whether TRITON_INTERPRET=1 asks for kernels to run in Python, on tensors anywhere; for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def installed() -> str | None:
    """Triton's version, if it is installed; it is not imported."""
    try:
        return version("triton")
    except PackageNotFoundError:
        return None


def obstacle(device: torch.device) -> str | None:
    """Why Triton's kernels cannot run on tensors of a device; None if they can."""
    if os.environ.get("FOVEATE_TRITON", "1") == "0":
        return "FOVEATE_TRITON=0 turns Triton's kernels off"
    found = installed()
    if found is None:
        return "triton is not installed"
    if tuple(int(n) for n in found.split(".")[:2]) < OLDEST:
        return f"triton {found} is older than {OLDEST[0]}.{OLDEST[1]}"
    if interpreted() and device.type in ("cpu", "cuda"):
        return None
    if device.type != "cuda":
        return "its inputs are not on a CUDA device"
    if torch.version.hip is not None or torch.cuda.get_device_capability(device) < (8, 0):
        return "the GPU is not an NVIDIA one of compute capability 8.0 or later"
    return None


def described() -> str:
    """What computes statistics of tensors on a CUDA device, in order, for people to read."""
    if not torch.cuda.is_available() and not interpreted():
        return "no CUDA device"
    hindrance = obstacle(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    first = f"triton {installed()}, " if hindrance is None else ""
    return f"{first}identities, blocks" + ("" if hindrance is None else f"; {hindrance}")
