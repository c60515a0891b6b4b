"""Who is told of each attention call, or may give another answer: how `watch` and what changes attention reach models
that are built on our own operator."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["observe", "revise", "tell"]

_local = threading.local()


@contextmanager
def observe(callback: Callable[..., None], values: bool = False) -> Iterator[None]:
    """Inside the `with`, every `fv.attention` call of this thread hands its `AttentionMap` to `callback`.

    With `values`, the callback gets the values (B, G, K, V) as well, which the map itself does not hold.
    """
    stack = _local.__dict__.setdefault("stack", [])
    stack.append((callback, values))
    try:
        yield
    finally:
        stack.remove((callback, values))


@contextmanager
def revise(callback: Callable[[Any, Any, Any, float], tuple[Any, Any]]) -> Iterator[None]:
    """Inside the `with`, every `fv.attention` call of this thread gives what `callback` makes of it: the callback gets
    the `AttentionMap`, values (B, G, K, V), output (B, H, Q, V) and dropout, and returns map and output."""
    stack = _local.__dict__.setdefault("revising", [])
    stack.append(callback)
    try:
        yield
    finally:
        stack.remove(callback)


def tell(weights: Any, v_BGKV: Any = None, out_BHQV: Any = None, dropout: float = 0.0) -> tuple[Any, Any]:
    """Map and output of a call, once those who revise it have, and those who observe it have been told."""
    if out_BHQV is not None:
        for callback in tuple(_local.__dict__.get("revising", ())):
            weights, out_BHQV = callback(weights, v_BGKV, out_BHQV, dropout)
    for observer, values in tuple(_local.__dict__.get("stack", ())):
        if values:
            observer(weights, v_BGKV)
        else:
            observer(weights)
    return weights, out_BHQV
