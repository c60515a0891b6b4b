"""Where calls are seen: around modules, in the function mode, in transformers' interface, in our own operator."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..operator import observe
from . import dynamo, functions, masking, memory, multihead
from .events import Event, NotExpressibleError
from .frames import Frame, frames, is_compiled, recording_here, sessions_here, suspended
from .mode import Handler, mode_off, mode_on, softmaxes

__all__ = ["around", "tell"]


def around(frame: Frame, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run one call of a watched module, with what must be in place for it."""
    outermost = len(frames()) == 1
    if recording_here():
        for session in frame.tap.sessions:
            session.ran = True
            session.inputs.note(session.paths.get(id(frame.module), ""), outermost, args, kwargs)
    with ExitStack() as stack:
        if outermost:
            stack.callback(masking.forget)
            stack.enter_context(observe(_own, values=True))
            dynamo.ensure(_flex)
        if is_compiled(frame.module):
            stack.enter_context(mode_off())
            stack.enter_context(suspended())
            return run(*args, **kwargs)
        stack.callback(memory.module_ended)
        if not multihead.is_stock(frame.module):
            stack.enter_context(mode_on(_HANDLERS))
            return run(*args, **kwargs)
        stack.enter_context(mode_off())
        result = run(*args, **kwargs)
        _stock(frame, args, kwargs)
        return result


def _stock(frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Tell of a call of PyTorch's own attention modules that has just been made."""
    module = frame.module
    if isinstance(module, nn.MultiheadAttention):
        tell(module, lambda: multihead.from_module(module, args, kwargs))
    elif isinstance(module, nn.TransformerEncoderLayer) and id(module.self_attn) not in frame.inner_calls:
        layer = module  # it took the fused path
        tell(layer.self_attn, lambda: multihead.from_encoder_layer(layer, args, kwargs))


def tell(module: nn.Module | None, make: Callable[[], Event]) -> None:
    """Hand one call to every session that watches the module; None: the innermost module that it watches."""
    if not recording_here():
        return
    wanted = []
    for session in sessions_here():
        found = _known(session, module)
        if found is None:
            continue
        name = session.name_of(found)
        if session.accepts(name):
            wanted.append((session, name, found))
        else:
            session.skipped.add(name)
    if not wanted:
        return
    with suspended(), mode_off(), torch.no_grad():
        try:
            event = make()
        except (NotExpressibleError, RuntimeError, ValueError, TypeError) as why:
            for session, name, _ in wanted:
                session.missed.setdefault(name, str(why)[:300])
            return
        for session, name, found in wanted:
            session.take(name, found, event)


def _known(session: Any, module: nn.Module | None) -> nn.Module | None:
    """`module` if the session watches it, else the innermost running module that it watches."""
    if module is not None and id(module) in session.paths:
        return module
    for frame in reversed(frames()):
        if id(frame.module) in session.paths and session in frame.tap.sessions:
            return frame.module
    return None


def _own(weights: Any, v_BGKV: Tensor | None = None) -> None:
    """A call of `foveate.attention`."""
    p = weights.problem

    def make() -> Event:
        return Event(
            p.q_BHQD,
            p.k_BGKD,
            v_BGKV,
            mask=p.mask,
            bias=weights.bias,
            kind="decoder" if p.mask is not None and p.mask.is_causal else None,
            score=p.score,
            normalizer=p.normalizer,
        )

    tell(None, make)


def _softmax(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
    """A softmax over three or four axes may be attention written by hand."""
    if not isinstance(result, Tensor) or result.ndim not in (3, 4) or result.shape[-1] < 2:
        return
    for session in sessions_here():
        found = _known(session, None)
        if found is None:
            continue
        name = session.name_of(found)
        looks = "att" in name.lower() or "att" in type(found).__name__.lower()
        if result.ndim == 4 or result.shape[-1] == result.shape[-2] or looks:
            session.softmaxes.setdefault(name, f"a softmax over scores of shape {tuple(result.shape)} ran in it")


def _flex(given: dict[str, Any]) -> None:
    tell(None, lambda: functions.from_flex(given))


def _sdpa(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
    tell(None, lambda: functions.from_sdpa(args, kwargs, result))


def _functional(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
    tell(None, lambda: multihead.from_functional(args, kwargs))


_HANDLERS: dict[Any, Handler] = {F.scaled_dot_product_attention: _sdpa, F.multi_head_attention_forward: _functional}
_HANDLERS.update(dict.fromkeys(softmaxes, _softmax))
