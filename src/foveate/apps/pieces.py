"""Feed-forward layers over a long text, some positions at a time.

What a pass over a long text holds at most is not attention's: it is what lies inside a feed-forward layer, four times
as wide as the model, and once more for each step of its activation. Each position is computed by itself there, so a
piece of the text at a time gives the same, up to how a kernel rounds matrices of another height.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["in_pieces"]

PIECE = 2048  # positions
OVERLAP = 8  # positions of which a second result tells whether others had a part in the first
NAMES = ("mlp", "feed_forward", "ffn", "DenseReluDense")  # what transformers calls them


@contextmanager
def in_pieces(model: nn.Module, piece: int = PIECE) -> Iterator[None]:
    """Inside, the model's feed-forward layers take (B, N, M) of more than `piece` positions in pieces.

    Any other call of them is left alone: with a gradient, of several arguments or results. So is, after a trial, a
    layer in which positions read each other. One thread may do this to a model at a time.
    """
    with ExitStack() as undo:
        for path, module in model.named_modules():
            if path.rpartition(".")[2] in NAMES and "forward" not in vars(module):
                vars(module)["forward"] = _Pieces(module.forward, piece)
                undo.callback(vars(module).pop, "forward")
        yield


class _Pieces:
    """Stands in for the `forward` of one layer."""

    def __init__(self, original: Callable[..., Any], piece: int) -> None:
        self.original, self.piece = original, piece

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        x = args[0] if len(args) == 1 and not kwargs else None
        if not isinstance(x, Tensor) or x.ndim != 3 or x.shape[1] <= self.piece or torch.is_grad_enabled():
            return self.original(*args, **kwargs)
        parts = x.split(self.piece, dim=1)
        first = self.original(parts[0].contiguous())  # some layers take views of their input
        if not isinstance(first, Tensor) or first.shape[:2] != parts[0].shape[:2] or not self._by_position(x, first):
            return self.original(x)
        out = first.new_empty(*x.shape[:2], *first.shape[2:])
        out[:, : self.piece] = first
        del first
        for n, part in enumerate(parts[1:], 1):
            out[:, n * self.piece : (n + 1) * self.piece] = self.original(part.contiguous())
        return out

    def _by_position(self, x: Tensor, first: Tensor) -> bool:
        """Whether the last positions of the first piece come out the same among others."""
        overlap = min(OVERLAP, self.piece // 2)
        start = self.piece - overlap
        again = self.original(x[:, start : self.piece + overlap].contiguous())[:, :overlap]
        close = torch.finfo(first.dtype).eps ** 0.5
        scale = first.abs().amax().clamp(min=torch.finfo(first.dtype).tiny)
        return bool(((again - first[:, start:]).abs() <= close * scale).all())
