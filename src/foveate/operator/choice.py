"""Which backend runs a problem, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from . import blocks, native, reference, sdpa
from .problem import Problem

__all__ = ["BACKENDS", "Choice", "choose"]

Backend = Callable[[Problem, Tensor, float], Tensor]
BACKENDS: dict[str, Backend] = {
    "reference": reference.output,
    "sdpa": sdpa.output,
    "native": native.output,
    "blocks": blocks.output,
}
DENSE_MASK_LIMIT = 1 << 22  # entries of a dense mask that the fused kernel may be handed


@dataclass(frozen=True)
class Choice:
    """A backend's name and the reason for it."""

    backend: str
    reason: str


def choose(problem: Problem, v_BGKV: Tensor, backend: str = "auto", dropout: float = 0.0) -> Choice:
    """Settle the backend. A backend that is named never gives way to another one.

    Raises:
        ValueError: an unknown name, or a named backend that cannot express the problem.
    """
    if backend not in ("auto", *BACKENDS):
        names = ", ".join(repr(name) for name in ("auto", *BACKENDS))
        raise ValueError(f"unknown backend {backend!r}; expected one of {names}")
    if backend in ("reference", "blocks"):
        return Choice(backend, "it was asked for")
    if backend == "native" or (backend == "auto" and not dropout and native.worthwhile(problem)):
        hindrance = native.obstacle(problem, v_BGKV)
        if backend == "native" and hindrance is not None:
            raise ValueError(f"backend 'native' cannot compute this attention: {hindrance}; use 'auto' or 'blocks'")
        if hindrance is None:
            why = "it was asked for" if backend == "native" else "the compiled core is the fastest here"
            return Choice("native", why)
    obstacle = sdpa.obstacle(problem, v_BGKV)
    if backend == "sdpa":
        if obstacle is not None:
            raise ValueError(f"backend 'sdpa' cannot compute this attention: {obstacle}; use 'auto' or 'blocks'")
        return Choice("sdpa", "it was asked for")
    if obstacle is not None:
        return Choice("blocks", f"the fused kernel cannot: {obstacle}")
    g = problem.geometry
    plain = problem.mask is None and problem.bias is None
    if plain or sdpa.is_plain_causal(problem):
        if v_BGKV.shape[-1] != problem.q_BHQD.shape[-1] and g.queries * g.keys > DENSE_MASK_LIMIT:
            return Choice("blocks", "values of another width than keys would form all weights")
        return Choice("sdpa", "the fused kernel needs no mask here")
    if g.queries * g.keys <= DENSE_MASK_LIMIT:
        return Choice("sdpa", "its mask and bias are small enough to be formed")
    if problem.tracked:
        return Choice("sdpa", "with gradients, blocks would keep more than the mask and bias that it forms")
    return Choice("blocks", "a dense mask or bias would be large, and blocks can skip what it hides")
