"""The function mode: sees scaled_dot_product_attention, flex_attention, multi_head_attention_forward and softmax,
whoever calls them, while a watched module runs.

An active mode switches off the fused paths of `nn.MultiheadAttention` and `nn.TransformerEncoder`, and is traced into
compiled code. So it is on the stack only inside ordinary modules, and taken off around those.
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

from .frames import recording_here, suspended

__all__ = ["Handler", "Watching", "mode_off", "mode_on", "softmaxes"]

Handler = Callable[[tuple[Any, ...], dict[str, Any], Any], None]
softmaxes: frozenset[Any] = frozenset(
    {F.softmax, torch.softmax, torch.Tensor.softmax, F.log_softmax, torch._softmax, F.softmin}
    | {getattr(torch.special, "softmax", torch.softmax)}
)


class Watching(TorchFunctionMode):
    """Calls every function untouched; tells handlers of those they asked for.

    `handlers[function](args, kwargs, result)` runs after the call, so that an error of the call is the caller's own.
    """

    def __init__(self, handlers: dict[Any, Handler]) -> None:
        self.handlers = handlers

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        handler = self.handlers.get(func)
        if handler is None or not recording_here() or _is_ours(sys._getframe(1)):
            return func(*args, **kwargs)
        with suspended():
            result = func(*args, **kwargs)
        handler(args, kwargs, result)
        return result


def _is_ours(frame: Any) -> bool:
    """Whether foveate's own operator makes the call: `observe` tells of that."""
    return str(frame.f_globals.get("__name__", "")).startswith("foveate.")


class _State(threading.local):
    def __init__(self) -> None:
        self.mode: Watching | None = None
        self.active = False


_here = _State()


@contextmanager
def mode_on(handlers: dict[Any, Handler]) -> Iterator[None]:
    """Inside, the mode is active in this thread."""
    if _here.active:
        yield
        return
    if _here.mode is None:
        _here.mode = Watching(handlers)
    torch._C._push_on_torch_function_stack(_here.mode)
    _here.active = True
    try:
        yield
    finally:
        _push(_pop_down_to(_here.mode))
        _here.active = False


@contextmanager
def mode_off() -> Iterator[None]:
    """Inside, the mode is not on the stack, as if nothing watched; other modes stay."""
    if not _here.active or _here.mode is None:
        yield
        return
    above = _pop_down_to(_here.mode)
    _push(above)
    _here.active = False
    try:
        yield
    finally:
        others = [torch._C._pop_torch_function_stack() for _ in above]
        _push([_here.mode])
        _push(others)
        _here.active = True


def _pop_down_to(mode: Watching) -> list[Any]:
    """Take `mode` off the stack, and all above it; those are returned, topmost first."""
    above: list[Any] = []
    while torch._C._len_torch_function_stack():
        top = torch._C._pop_torch_function_stack()
        if top is mode:
            break
        above.append(top)
    return above


def _push(modes: list[Any]) -> None:
    for mode in reversed(modes):
        torch._C._push_on_torch_function_stack(mode)
