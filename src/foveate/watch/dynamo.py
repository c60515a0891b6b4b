"""Where compiled code begins: the function mode steps aside, and calls of FlexAttention are seen.

A function mode on the stack is traced into whatever `torch.compile` made, which changes its code, or breaks it. Every
way into compiled code goes through `set_eval_frame`, so that is where the mode is taken off and put back. FlexAttention
is always compiled (its eager form compiles its inner operator), so its calls are seen there too, whatever name the
model has for them: compiled with `torch.compile(flex_attention)`, or not.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from .frames import recording_here
from .mode import is_active, pause, resume

__all__ = ["ensure", "release"]

TellFlex = Callable[[dict[str, Any]], None]
_lock = threading.Lock()
_installed: dict[str, Any] = {}


def ensure(tell: TellFlex) -> None:
    """Stand at the way into compiled code, once `torch._dynamo` has been imported. Costs nothing when done."""
    if _installed or "torch._dynamo.eval_frame" not in sys.modules:
        return
    home = sys.modules["torch._dynamo.eval_frame"]
    original = getattr(home, "set_eval_frame", None)
    if original is None:
        return

    def set_eval_frame(callback: Any) -> Any:
        wrapper = _wrapper(sys._getframe(1))
        if callback is None:
            prior = original(None)
            resume(wrapper)
            return prior
        if callable(callback) and wrapper is not None and is_active():
            given = _flex_call(wrapper) if recording_here() else None
            if given is not None:
                tell(given)
            pause(wrapper)
        return original(callback)  # from here on every Python call in this thread may be traced

    with _lock:
        if not _installed:
            _installed.update(home=home, original=original, patched=set_eval_frame)
            _replace(home, original, set_eval_frame)


def release() -> None:
    """Undo `ensure`."""
    with _lock:
        if _installed:
            _replace(_installed["home"], _installed["patched"], _installed["original"])
        _installed.clear()


def _replace(home: Any, old: Any, new: Any) -> None:
    for name in ("set_eval_frame", "_maybe_set_eval_frame"):  # usually two names of one function
        if home.__dict__.get(name) is old:
            home.__dict__[name] = new


def _wrapper(frame: FrameType | None) -> FrameType | None:
    """The frame of the function that `torch.compile` made, from which we are called, directly or nearly so."""
    for _ in range(2):
        if frame is None or frame.f_code.co_name == "compile_wrapper":
            return frame
        frame = frame.f_back
    return None


def _flex_call(wrapper: FrameType) -> dict[str, Any] | None:
    """The arguments of a call of flex_attention that is about to run compiled, or None for any other call."""
    flex = getattr(sys.modules.get("torch.nn.attention.flex_attention"), "flex_attention", None)
    caller, inside = wrapper.f_back, wrapper.f_locals
    if flex is None:
        return None
    if caller is not None and caller.f_code is flex.__code__:  # called plainly: it compiles its inner operator
        return dict(caller.f_locals)
    if "fn" in inside and inspect.unwrap(inside["fn"]) is flex:
        bound = inspect.signature(flex).bind(*inside.get("args", ()), **inside.get("kwargs", {}))
        bound.apply_defaults()
        return dict(bound.arguments)
    return None
