"""Who is running: a stack of module frames per thread, kept by wrapping `forward` of the watched modules.

Hooks would do for names, but hooks on any sub-module switch off the fused path of `nn.TransformerEncoderLayer`, and
so would change output bits. A wrapped `forward` does not: the wrapper sits in the instance, calls the original
with the untouched arguments, and is taken out when the session ends.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from .standing import Standing

__all__ = [
    "Frame",
    "attach",
    "changes_here",
    "detach",
    "frames",
    "is_compiled",
    "recording_here",
    "seeing_here",
    "standing_here",
    "suspended",
    "unrecorded",
]

_lock = threading.RLock()


class Frame:
    """One running call of a module that somebody stands around."""

    def __init__(self, module: nn.Module, tap: Tap, args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.module = module
        self.tap = tap
        self.args, self.kwargs = args, kwargs
        self.inner_calls: set[int] = set()  # ids of modules called directly inside


class _Thread(threading.local):
    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.quiet = 0  # nothing is recorded
        self.deaf = 0  # nor changed


_here = _Thread()


def frames() -> list[Frame]:
    """The frames of this thread, outermost first."""
    return _here.frames


class suspended:
    """Inside, nothing is recorded or changed in this thread: the call has been seen already, at a higher level."""

    def __enter__(self) -> None:
        _here.quiet += 1
        _here.deaf += 1

    def __exit__(self, *_: object) -> None:
        _here.quiet -= 1
        _here.deaf -= 1


class unrecorded:
    """Inside, nothing is recorded in this thread, but calls may be changed."""

    def __enter__(self) -> None:
        _here.quiet += 1

    def __exit__(self, *_: object) -> None:
        _here.quiet -= 1


def recording_here() -> bool:
    """Whether a call seen now, in this thread, is one to record: not the recomputation of a backward pass, not a
    trace, not inside a call that has been recorded."""
    return (
        bool(_here.frames)
        and not _here.quiet
        and torch._C._current_graph_task_id() == -1
        and torch._C._functorch.maybe_current_level() is None
        and not torch.jit.is_tracing()
    )


def changes_here() -> bool:
    """Whether calls in this thread may be changed. That holds in a backward pass too: what activation checkpointing
    computes again must be what was computed."""
    return not _here.deaf and any(session.changes for frame in _here.frames for session in frame.tap.sessions)


def seeing_here() -> bool:
    """Whether calls in this thread are to be recorded or may be changed."""
    return recording_here() or changes_here()


def standing_here() -> list[Any]:
    """Those that stand around some module now running in this thread, in the order in which they began."""
    found: dict[int, Standing] = {}
    for frame in _here.frames:
        for session in frame.tap.sessions:
            found.setdefault(id(session), session)
    return sorted(found.values(), key=lambda session: session.began)


Around = Callable[[Frame, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


class Tap:
    """Stands in for one module's `forward`, for all that stand around the module."""

    def __init__(self, module: nn.Module, slot: str, around: Around):
        self.original: Callable[..., Any] = getattr(module, slot)
        functools.update_wrapper(self, self.original, updated=())  # a wrapper's own attributes stay its own
        self.sessions: list[Standing] = []
        self.module, self.slot = module, slot
        self.had = module.__dict__.get(slot)
        self.around = around

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return self.original(*args, **kwargs)
        stack = _here.frames
        frame = Frame(self.module, self, args, kwargs)
        if stack:
            stack[-1].inner_calls.add(id(self.module))
        depth = len(stack)
        stack.append(frame)
        try:
            return self.around(frame, self.original, args, kwargs)
        finally:
            del stack[depth:]

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy of the module runs its own forward, and nobody stands around it."""
        return MethodType(type(self.module).forward, memo[id(self.module)])


def is_compiled(module: nn.Module) -> bool:
    """Whether calls of this module run compiled code: what happens inside cannot be watched without changing it."""
    return module.__dict__.get("_compiled_call_impl") is not None or "_orig_mod" in module._modules


def attach(module: nn.Module, session: Standing, around: Around) -> None:
    """Let `session` stand around every call of `module`."""
    slot = _slot(module)
    with _lock:
        tap = module.__dict__.get(slot)
        if not isinstance(tap, Tap):
            tap = Tap(module, slot, around)
            module.__dict__[slot] = tap
        tap.sessions = [*tap.sessions, session]


def detach(module: nn.Module, session: Standing) -> None:
    """Undo `attach`; with its last session the tap is gone."""
    with _lock:
        for slot in ("forward", "_compiled_call_impl"):
            tap = module.__dict__.get(slot)
            if not isinstance(tap, Tap) or session not in tap.sessions:
                continue
            tap.sessions = [s for s in tap.sessions if s is not session]
            if tap.sessions:
                continue
            if tap.had is None:
                del module.__dict__[slot]
            else:
                module.__dict__[slot] = tap.had


def _slot(module: nn.Module) -> str:
    return "forward" if module.__dict__.get("_compiled_call_impl") is None else "_compiled_call_impl"
