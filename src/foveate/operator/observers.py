"""Who is told of each attention call: how `watch` sees models that are built on our own operator."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["observe", "tell"]

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


def tell(weights: Any, v_BGKV: Any = None) -> None:
    for callback, values in tuple(_local.__dict__.get("stack", ())):
        if values:
            callback(weights, v_BGKV)
        else:
            callback(weights)
