"""A Transformer encoder (Vaswani et al. 2017; Xiong et al. 2020 for the place of the norms).

Axes: B batch, L length, M model width, F inner width of the feed-forward network.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from ..masks import Mask
from .affine import Linear
from .attention import MultiHeadAttention

__all__ = ["Activation", "Encoder", "EncoderLayer", "FeedForward", "Sublayers", "final_norm"]

Activation = str | Callable[[Tensor], Tensor]
Norm = Literal["pre", "post"]
MakesAttention = Callable[[], nn.Module]  # makes the self-attention of one layer
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "linear": nn.Identity,
}


class FeedForward(nn.Module):
    """Two linear maps with an activation between, at every position alike.

    Args:
        width, inner: M, F.
        activation: "gelu", "relu", "silu", "tanh" or "linear", or a module or function on tensors.
        gated: what the activation gives is multiplied, element by element, by a third linear map of the input (Shazeer
            2020, "GLU variants improve Transformer"; with "linear": bilinear, products of any two features).

    Raises:
        ValueError: an unknown activation.
    """

    def __init__(self, width: int, inner: int, *, activation: Activation = "gelu", gated: bool = False) -> None:
        super().__init__()
        if isinstance(activation, str):
            if activation not in ACTIVATIONS:
                names = ", ".join(repr(name) for name in ACTIVATIONS)
                raise ValueError(f"unknown activation {activation!r}; expected {names} or a function")
            activation = ACTIVATIONS[activation]()
        self.widen = Linear(width, inner)
        self.activation = activation
        self.gate = Linear(width, inner) if gated else None
        self.narrow = Linear(inner, width)

    def forward(self, x_BLM: Float[Tensor, "*B L M"]) -> Float[Tensor, "*B L M"]:
        """(B, L, M) -> (B, L, M)."""
        x_BLF: Tensor = self.activation(self.widen(x_BLM))
        if self.gate is not None:
            x_BLF = x_BLF * self.gate(x_BLM)
        out: Tensor = self.narrow(x_BLF)
        return out


class Sublayers(nn.Module):
    """Base of layers: how a residual, its norm and dropout go around a sub-layer."""

    def __init__(self, dropout: float, norm: Norm) -> None:
        super().__init__()
        if norm not in ("pre", "post"):
            raise ValueError(f"norm must be 'pre' or 'post'; got {norm!r}")
        self.dropout = nn.Dropout(dropout)
        self.norm_first = norm == "pre"

    def around(self, norm: nn.Module, sublayer: Callable[[Tensor], Tensor], x_BLM: Tensor) -> Tensor:
        """x + sublayer(norm(x)), or norm(x + sublayer(x))."""
        if self.norm_first:
            return x_BLM + self.dropout(sublayer(norm(x_BLM)))
        out: Tensor = norm(x_BLM + self.dropout(sublayer(x_BLM)))
        return out


class EncoderLayer(Sublayers):
    """Attention, then a feed-forward network.

    Args:
        width, heads, inner: M, H, F.
        dropout: of what each sub-layer adds.
        head_dropout: as in `MultiHeadAttention`; not of an `attention` that is given.
        norm: "pre" norms what a sub-layer reads, "post" what it and the residual add up to.
        activation: as in `FeedForward`.
        attention: makes the self-attention, such as `lambda: MultiHeadAttention(512, 8, groups=2)`; default: plain.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        inner: int,
        *,
        dropout: float = 0.0,
        head_dropout: float = 0.0,
        norm: Norm = "pre",
        activation: Activation = "gelu",
        attention: MakesAttention | None = None,
    ) -> None:
        super().__init__(dropout, norm)
        self.attention_norm = nn.LayerNorm(width)
        plain = partial(MultiHeadAttention, width, heads, head_dropout=head_dropout)
        self.attention = (plain if attention is None else attention)()
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, inner, activation=activation)

    def forward(self, x_BLM: Float[Tensor, "*B L M"], *, mask: Mask | Any | None = None) -> Float[Tensor, "*B L M"]:
        """(B, L, M) -> (B, L, M)."""
        x_BLM = self.around(self.attention_norm, lambda x: self.attention(x, mask=mask), x_BLM)
        return self.around(self.feed_forward_norm, self.feed_forward, x_BLM)


class Encoder(nn.Module):
    """A stack of `EncoderLayer`s, `options` being theirs, and, where they norm first, a last norm."""

    def __init__(self, layers: int, width: int, heads: int, inner: int, **options: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(width, heads, inner, **options) for _ in range(layers))
        self.norm = final_norm(width, options)

    def forward(self, x_BLM: Float[Tensor, "*B L M"], *, mask: Mask | Any | None = None) -> Float[Tensor, "*B L M"]:
        """(B, L, M) -> (B, L, M)."""
        for layer in self.layers:
            x_BLM = layer(x_BLM, mask=mask)
        out: Tensor = self.norm(x_BLM)
        return out


def final_norm(width: int, options: dict[str, Any]) -> nn.Module:
    """The norm after the last layer: what layers that norm first leave undone."""
    return nn.LayerNorm(width) if options.get("norm", "pre") == "pre" else nn.Identity()
