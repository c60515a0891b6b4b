"""Giving freed memory back to the system while copies pile up.

Each kept copy is allocated between a model's temporaries, so that the heap cannot shrink when those are freed: on a
GPT-2-small shape at n = 4,096 the peak was 20 to 60 MB higher than it had to be. glibc gives the holes back when asked:
after a large call, and as the next few modules end, when the call's own temporaries have been freed.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["kept", "module_ended", "room"]

_LARGE = 1 << 23  # bytes kept of one call that pay for asking
_TIMES = 6  # modules until the next block's peak: projection, dropout, attention, norm, first linear, activation


_APART = 1 << 20  # bytes of one copy from which it gets a map of its own


def room(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised tensor for a copy that stays.

    A large one on the CPU gets a map of its own: between a model's temporaries it would keep the heap from using the
    same pages again, and the page faults cost a GPT-2-small pass at n = 1,024 several percent of its time.
    """
    count = shape.numel() * dtype.itemsize
    if device.type != "cpu" or count < _APART or not hasattr(mmap, "MAP_PRIVATE"):
        return torch.empty(shape, dtype=dtype, device=device)
    pages = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=dtype).view(shape)


class _Due(threading.local):
    times = 0


_due = _Due()


def kept(count: int) -> None:
    """A call of so many bytes has just been kept in this thread."""
    if count >= _LARGE:
        _due.times = _TIMES
        _give_back()


def module_ended() -> None:
    """A watched module has just returned in this thread."""
    if _due.times:
        _due.times -= 1
        _give_back()


def _give_back() -> None:
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    """glibc's malloc_trim, or None on other systems."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
