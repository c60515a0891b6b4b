"""Recurrences that read a sequence from both ends, without packing it: padding is on the right and never read before
the sequence itself.

Axes: B batch, L length, M input width, H hidden width of both directions together.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from . import affine

__all__ = ["BidirectionalRNN", "Cell", "both_ways", "orthogonal", "run_over"]

Cell = Literal["gru", "lstm"]
CELLS: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class BidirectionalRNN(nn.Module):
    """Layers of two recurrences each, one from either end (Schuster & Paliwal 1997).

        states, summary = rnn(x, lengths)

    Args:
        width: M.
        hidden: H, even, half of it for each direction.
        cell: "gru" (Cho et al. 2014) or "lstm" (Hochreiter & Schmidhuber 1997).
        dropout: of what each further layer reads.

    Raises:
        ValueError: an unknown cell, an odd hidden width, or no layer.
    """

    def __init__(self, width: int, hidden: int, *, layers: int = 1, cell: Cell = "gru", dropout: float = 0.0) -> None:
        super().__init__()
        if cell not in get_args(Cell):
            raise ValueError(f"unknown cell {cell!r}; expected 'gru' or 'lstm'")
        if hidden % 2:
            raise ValueError(f"hidden must be even, half of it for each direction; got {hidden}")
        if layers < 1:
            raise ValueError(f"layers must be at least 1; got {layers}")
        made = CELLS[cell]
        widths = [width, *[hidden] * (layers - 1)]
        self.forwards = nn.ModuleList(made(w, hidden // 2, batch_first=True) for w in widths)
        self.backwards = nn.ModuleList(made(w, hidden // 2, batch_first=True) for w in widths)
        self.dropout = nn.Dropout(dropout)
        orthogonal(self)

    def forward(
        self, x_BLM: Float[Tensor, "B L M"], lengths_B: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B L H"], Float[Tensor, "B H"]]:
        """States of both directions at each place, and of each direction the last one; padding has states, too."""
        summary_BH = x_BLM[:, 0]
        for layer, (ahead, back) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            x_BLM, summary_BH = both_ways(ahead, back, self.dropout(x_BLM) if layer else x_BLM, lengths_B)
        return x_BLM, summary_BH


def both_ways(forwards: nn.Module, backwards: nn.Module, x_BLM: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
    """States (B, L, H) of two recurrences, one from either end, and their last ones (B, H)."""
    turned_BL1 = _turned(lengths_B, x_BLM.shape[1])[..., None]
    ahead, _ = run_over(forwards, x_BLM)
    back, _ = run_over(backwards, x_BLM.gather(1, turned_BL1.expand_as(x_BLM)))
    last_B11 = (lengths_B - 1)[:, None, None].expand(-1, 1, ahead.shape[-1])
    summary = torch.cat([ahead.gather(1, last_B11), back.gather(1, last_B11)], dim=-1)[:, 0]
    back = back.gather(1, turned_BL1.expand_as(back))
    return torch.cat([ahead, back], dim=-1), summary


def run_over(module: Any, x_BLM: Tensor, *start: Tensor) -> tuple[Tensor, Any]:
    """Outputs (B, L, H) and the last state. Autocast on a GPU would run it in float16, whatever its dtype."""
    if x_BLM.is_cuda:
        with torch.autocast("cuda", enabled=False):
            found: tuple[Tensor, Any] = module(x_BLM.float(), *(s.float() for s in start))
            return found
    if isinstance(module, nn.GRU) and affine.by_onednn(x_BLM[:, 0], module.all_weights[0][0]):
        return affine.gru(module, x_BLM, *(start or [x_BLM.new_zeros(1, len(x_BLM), module.hidden_size)]))
    found = module(x_BLM, *start)
    return found


def orthogonal(module: nn.Module) -> None:
    """What each gate multiplies the state with becomes an orthogonal matrix (Saxe et al. 2014)."""
    for name, weight in module.named_parameters():
        if name.split(".")[-1].startswith("weight_hh"):
            for gate in weight.chunk(len(weight) // weight.shape[1]):
                nn.init.orthogonal_(gate)


def _turned(lengths_B: Tensor, length: int) -> Int[Tensor, "B L"]:
    """For each place the place of its mirror image within the sentence; padding stays where it is."""
    place_L = torch.arange(length, device=lengths_B.device)
    mirrored_BL = lengths_B[:, None] - 1 - place_L
    return torch.where(mirrored_BL >= 0, mirrored_BL, place_L)
