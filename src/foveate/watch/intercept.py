"""Where calls are seen: around modules, in the function mode, in transformers' interface, in our own operator.

Each goes through `answer`: who changes it is asked first, then who records it is told, and the caller gets the result.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..operator import observe, revise
from . import dynamo, functions, handwritten, masking, memory, multihead
from .events import Call, Event, NotExpressibleError
from .frames import (
    Frame,
    changes_here,
    frames,
    is_compiled,
    recording_here,
    standing_here,
    suspended,
    unrecorded,
)
from .mode import Handler, mode_off, mode_on, softmaxes

__all__ = ["answer", "around"]


def around(frame: Frame, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run one call of a module that somebody stands around, with what must be in place for it."""
    outermost = len(frames()) == 1
    for session in frame.tap.sessions:
        session.entered(frame, outermost, args, kwargs)
    with ExitStack() as stack:
        if outermost:
            stack.callback(masking.forget)
            stack.enter_context(observe(_own, values=True))
            stack.enter_context(revise(_revised))
            dynamo.ensure(_flex)
            _HANDLERS.update(dict.fromkeys(functions.flex_operators(), _flex_uncompiled))
        if is_compiled(frame.module):
            if changes_here():  # then it runs uncompiled
                stack.enter_context(mode_on(_HANDLERS))
                stack.enter_context(unrecorded())
            else:
                stack.enter_context(mode_off())
                stack.enter_context(suspended())
            return run(*args, **kwargs)
        stack.callback(memory.module_ended)
        if not multihead.is_stock(frame.module) or _changed_inside(frame.module):
            stack.enter_context(mode_on(_HANDLERS))  # which keeps PyTorch's own modules off their fused paths
            result = run(*args, **kwargs)
            call = handwritten.call_of(frame.module, result, args, kwargs)
            return result if call is None else answer(call)
        stack.enter_context(mode_off())
        result = run(*args, **kwargs)
        _stock(frame, args, kwargs)
        return result


def _changed_inside(module: nn.Module) -> bool:
    """Whether one of PyTorch's own modules must not take a fused path, as that calls nothing that could be changed."""
    return changes_here() and any(session.changes_inside(module) for session in standing_here())


def _stock(frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Tell of a call of PyTorch's own attention modules that has just been made."""
    module = frame.module
    if isinstance(module, nn.MultiheadAttention):
        _tell(module, lambda: multihead.from_module(module, args, kwargs))
    elif isinstance(module, nn.TransformerEncoderLayer) and id(module.self_attn) not in frame.inner_calls:
        layer = module  # it took the fused path
        _tell(layer.self_attn, lambda: multihead.from_encoder_layer(layer, args, kwargs))


def answer(call: Call) -> Any:
    """What the caller of a call is given, once it has been changed, if somebody does that, and recorded."""
    call = _changed(call)
    _tell(call.module, call.event)
    return call.result


def _changed(call: Call) -> Call:
    """The call as those who change it want it, each asked in the order in which they began."""
    if not changes_here():
        return call
    wanted = []
    for session in standing_here():
        found = _known(session, call.module) if session.changes else None
        if found is not None and session.wants(session.name_of(found)):
            wanted.append((session, found))
    if not wanted:
        return call
    with suspended(), mode_off():
        return wanted[0][0].change(call, wanted)


def _tell(module: nn.Module | None, make: Callable[[], Event]) -> None:
    """Hand one call to every session that records the module; None: the innermost module that it stands around."""
    if not recording_here():
        return
    wanted = []
    for session in standing_here():
        found = None if session.changes else _known(session, module)
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
    """`module` if the session stands around it, else the innermost running module that it stands around."""
    if module is not None and id(module) in session.paths:
        return module
    for frame in reversed(frames()):
        if id(frame.module) in session.paths and session in frame.tap.sessions:
            return frame.module
    return None


def _own(weights: Any, v_BGKV: Tensor | None = None) -> None:
    """A call of `foveate.attention`."""
    _tell(None, partial(_event, weights, v_BGKV))


def _event(weights: Any, v_BGKV: Tensor | None, output: Tensor | None = None, dropout: float = 0.0) -> Event:
    p = weights.problem
    return Event(
        p.q_BHQD,
        p.k_BGKD,
        v_BGKV,
        mask=p.mask,
        bias=weights.bias,
        kind="decoder" if p.mask is not None and p.mask.is_causal else None,
        score=p.score,
        normalizer=p.normalizer,
        output=output,
        dropout=dropout,
    )


def _revised(weights: Any, v_BGKV: Tensor, out_BHQV: Tensor, dropout: float) -> tuple[Any, Tensor]:
    """A call of `foveate.attention`, before it gives its output and weights."""
    if not changes_here():
        return weights, out_BHQV

    def put(other: Tensor, changed: Any) -> tuple[Any, Tensor]:
        if changed is not None:
            changed.layout, changed.dtype = weights.layout, weights.dtype
        return weights if changed is None else changed, other

    result = weights, out_BHQV
    event = partial(_event, weights, v_BGKV, out_BHQV, dropout)
    revised: tuple[Any, Tensor] = _changed(Call(None, result, event, lambda: (out_BHQV, put))).result
    return revised


def _softmax(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A softmax over three or four axes may be attention written by hand."""
    result = func(*args, **kwargs)
    if recording_here():
        _by_hand(result)
    return result


def _by_hand(result: Any) -> None:
    if not isinstance(result, Tensor) or result.ndim not in (3, 4) or result.shape[-1] < 2:
        return
    for session in standing_here():
        found = None if session.changes else _known(session, None)
        if found is None:
            continue
        name = session.name_of(found)
        looks = "att" in name.lower() or "att" in type(found).__name__.lower()
        if result.ndim == 4 or result.shape[-1] == result.shape[-2] or looks:
            session.softmaxes.setdefault(name, f"a softmax over scores of shape {tuple(result.shape)} ran in it")


def _flex(given: dict[str, Any]) -> None:
    _tell(None, lambda: functions.from_flex(given))


def _flex_uncompiled(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """FlexAttention's inner operator, which is reached where nothing is compiled: while attention is changed."""
    with suspended():
        result = func(*args, **kwargs)
    given = functions.flex_given(args, kwargs)
    opened = partial(functions.open_flex, result)
    return answer(Call(None, result, partial(functions.from_flex, given, result[0]), opened))


def _sdpa(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with suspended():
        result = func(*args, **kwargs)
    event, opened = partial(functions.from_sdpa, args, kwargs, result), partial(functions.open_sdpa, result)
    return answer(Call(None, result, event, opened))


def _functional(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    event = partial(multihead.from_functional, args, kwargs)
    call = _changed(Call(None, None, event, partial(multihead.open_functional, args, kwargs)))
    result = call.result
    if result is None:
        with suspended():
            result = func(*args, **kwargs)
    _tell(None, call.event)
    return result


_HANDLERS: dict[Any, Handler] = {F.scaled_dot_product_attention: _sdpa, F.multi_head_attention_forward: _functional}
_HANDLERS.update(dict.fromkeys(softmaxes, _softmax))
