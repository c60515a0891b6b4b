"""Which model, and of what size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ...nn import RNNEncoderDecoder, TransformerEncoderDecoder
from ...nn.recurrent import Attends
from ..encoders import check_shares

__all__ = ["Arch", "Shape", "Trained", "build"]

Arch = Literal["rnn", "transformer"]
Trained = RNNEncoderDecoder | TransformerEncoderDecoder


@dataclass(frozen=True)
class Shape:
    """The architecture and its widths; what the other architecture needs is left alone.

    Args:
        arch: "rnn" (Bahdanau et al. 2015) or "transformer" (Vaswani et al. 2017).
        attention: of an "rnn": "additive", "dot", "general", or "none" for one fixed vector.
        width: of embeddings; of a Transformer everywhere.
        hidden: of an "rnn", its recurrent states.
        heads, layers, inner: of a "transformer".
        dropout, state_dropout, head_dropout: as in the models.
    """

    arch: Arch = "rnn"
    attention: Attends = "additive"
    width: int = 256
    hidden: int = 384
    heads: int = 4
    layers: int = 4
    inner: int = 512
    dropout: float = 0.3
    state_dropout: float = 0.4
    head_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.arch not in ("rnn", "transformer"):
            raise ValueError(f"unknown arch {self.arch!r}; expected 'rnn' or 'transformer'")
        check_shares(self, "dropout", "state_dropout", "head_dropout")

    @property
    def name(self) -> str:
        """For people: what kind of model this is."""
        if self.arch == "transformer":
            return "Transformer"
        return "RNN, one fixed vector" if self.attention == "none" else f"RNN, {self.attention} attention"


def build(shape: Shape, vocabulary: int, outputs: Tensor) -> Trained:
    """A model with fresh parameters, for a vocabulary of which targets use `outputs`."""
    if shape.arch == "transformer":
        return TransformerEncoderDecoder(
            vocabulary,
            outputs=outputs,
            width=shape.width,
            heads=shape.heads,
            layers=shape.layers,
            inner=shape.inner,
            dropout=shape.dropout,
            head_dropout=shape.head_dropout,
        )
    return RNNEncoderDecoder(
        vocabulary,
        outputs=outputs,
        width=shape.width,
        hidden=shape.hidden,
        attention=shape.attention,
        dropout=shape.dropout,
        state_dropout=shape.state_dropout,
    )
