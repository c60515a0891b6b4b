"""The function mode: sees scaled_dot_product_attention, multi_head_attention_forward and softmax, whoever calls them,
while a module that somebody stands around runs.

An active mode switches off the fused paths of `nn.MultiheadAttention` and `nn.TransformerEncoder`, and would be traced
into compiled code. So it is on the stack only inside ordinary modules, and taken off around those.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from .frames import seeing_here

__all__ = ["Handler", "Watching", "is_active", "mode_off", "mode_on", "pause", "resume", "softmaxes"]

Handler = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
softmaxes: frozenset[Any] = frozenset(
    {F.softmax, torch.softmax, torch.Tensor.softmax, F.log_softmax, torch._softmax, F.softmin}
    | {getattr(torch.special, "softmax", torch.softmax)}
)


class Watching(TorchFunctionMode):
    """Calls every function untouched, but those for which there is a handler: `handlers[function](function, args,
    kwargs)` makes the call and gives its result.
    """

    def __init__(self, handlers: dict[Any, Handler]) -> None:
        self.handlers = handlers

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        handler = self.handlers.get(func)
        if handler is None or not seeing_here() or _is_ours(sys._getframe(1)):
            return func(*args, **kwargs)
        return handler(func, args, kwargs)


def _is_ours(frame: Any) -> bool:
    """Whether foveate's own operator makes the call: `observe` tells of that."""
    return str(frame.f_globals.get("__name__", "")).startswith("foveate.")


class _State(threading.local):
    def __init__(self) -> None:
        self.mode: Watching | None = None
        self.paused: tuple[Any, int] | None = None  # by whom, and how many other modes lay above it


_here = _State()


def is_active() -> bool:
    """Whether the mode is on this thread's stack; torch itself takes it off inside `__torch_function__`."""
    mode = _here.mode
    return mode is not None and any(
        torch._C._get_function_stack_at(i) is mode for i in range(torch._C._len_torch_function_stack())
    )


def pause(owner: Any) -> None:
    """Take the mode off the stack until `resume(owner)`: compiled code begins."""
    if is_active():
        _here.paused = (owner, _take_out())


def resume(owner: Any) -> None:
    """Put a mode that `owner` paused back where it was."""
    if _here.paused is not None and _here.paused[0] is owner:
        _put_in(_here.paused[1])
        _here.paused = None


@contextmanager
def mode_on(handlers: dict[Any, Handler]) -> Iterator[None]:
    """Inside, the mode is active in this thread."""
    if is_active():
        yield
        return
    if _here.mode is None:
        _here.mode = Watching(handlers)
    torch._C._push_on_torch_function_stack(_here.mode)
    try:
        yield
    finally:
        _take_out()


@contextmanager
def mode_off() -> Iterator[None]:
    """Inside, the mode is not on the stack, as if nothing watched; other modes stay."""
    if not is_active():
        yield
        return
    above = _take_out()
    try:
        yield
    finally:
        _put_in(above)


def _take_out() -> int:
    """Take the mode off the stack; returns how many other modes lie above its place."""
    above: list[Any] = []
    while torch._C._len_torch_function_stack():
        top = torch._C._pop_torch_function_stack()
        if top is _here.mode:
            break
        above.append(top)
    _push(above)
    return len(above)


def _put_in(above: int) -> None:
    """Put the mode on the stack, below the topmost `above` modes."""
    others = [torch._C._pop_torch_function_stack() for _ in range(above)]
    _push([_here.mode])
    _push(others)


def _push(modes: list[Any]) -> None:
    """Push modes that were popped, so that the last one popped goes first."""
    for mode in reversed(modes):
        torch._C._push_on_torch_function_stack(mode)
