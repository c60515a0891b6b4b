"""What a score is: one function on blocks of queries and keys, which the operator and the map both call.

Axes: b batch, h heads, R rows (some queries), C columns (some keys), D query width, E key width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Function", "Learned", "Score"]


class Score:
    """Base of all scores. Subclasses define `name` and `__call__`, and are frozen dataclasses."""

    scale: float | None = None
    softcap: float | None = None
    fresh: bool = True  # whether each call gives a new tensor, which may be written into
    mixes_widths: bool = False  # whether queries and keys may be of different widths

    @property
    def name(self) -> str:
        raise NotImplementedError

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Its parameters: gradients may flow to them."""
        return ()

    @property
    def per_head(self) -> bool:
        """Whether heads differ in their parameters."""
        return False

    def of_heads(self, heads: slice) -> Score:
        """The same score for some heads only."""
        return self

    def settle(self, scale: Any, heads: int, query_width: int, key_width: int) -> Score:
        """This score for one problem.

        Raises:
            ValueError: a scale was given to a score that has none, or its parameters do not fit.
        """
        if scale is not None:
            raise ValueError("scale goes with the scores 'dot', 'scaled_dot' and 'l2'; put it into your own function")
        return self

    def __call__(self, q: Float[Tensor, "*batch R D"], k: Float[Tensor, "*batch C E"]) -> Float[Tensor, "*batch R C"]:
        """Scores of a block. Where heads differ, the axis before R (and C) is that of the heads of `of_heads`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Function(Score):
    """A function of yours on blocks, `(..., R, D), (..., C, E) -> (..., R, C)`. Files cannot store it."""

    call: Callable[[Tensor, Tensor], Tensor]

    fresh = False
    mixes_widths = True

    @property
    def name(self) -> str:
        return getattr(self.call, "__name__", type(self.call).__name__)

    def __call__(self, q: Tensor, k: Tensor) -> Tensor:
        s, expected = self.call(q, k), (*q.shape[:-1], k.shape[-2])
        if not isinstance(s, Tensor):
            raise TypeError(f"the score {self.name} must give a tensor (..., R, C); got {type(s).__name__}")
        if tuple(s.shape) != expected:
            raise ValueError(
                f"the score {self.name} must give (..., R, C) = {expected} for blocks of queries (..., R, D) = "
                f"{tuple(q.shape)} and keys (..., C, E) = {tuple(k.shape)}; got {tuple(s.shape)}"
            )
        return s


class Learned(nn.Module):
    """Base of scores with weights to learn: modules, which give what is computed, a `Score`, by `form`."""

    def form(self) -> Score:
        """The score with the weights as they are now; it holds them, not copies."""
        raise NotImplementedError

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return self.form()(q, k)
