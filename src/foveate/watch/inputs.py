"""What text went in: ids, attention masks and so the tokens, lengths and starts of each sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..masks import Mask
from ..masks.base import And
from ..masks.given import Dense
from ..masks.sequences import Padding
from ..recording import Recording

__all__ = ["Inputs"]

CACHES = ("cache", "past_key_values")  # what transformers calls it, from 5.24 on and before


@dataclass
class _Side:
    """The ids of one side (source or target), grown by cached generation steps."""

    ids: Tensor | None = None
    mask: Tensor | None = None
    given: int = 0  # tokens of each sequence that were there at first

    def note(self, ids: Any, mask: Any, cached: bool) -> None:
        if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.dtype.is_floating_point:
            return
        new, old = ids.detach().cpu().clone(), self.ids
        table = mask.detach().cpu().clone() if isinstance(mask, Tensor) and mask.ndim == 2 else None
        if old is None:
            self.ids, self.mask, self.given = new, table, new.shape[1]
        elif len(new) != len(old):
            return
        elif new.shape[1] >= old.shape[1] and torch.equal(new[:, : old.shape[1]], old):
            self.ids, self.mask = new, table
        elif (
            not cached and new.shape[1] == old.shape[1] + 1 and torch.equal(new[:, : self.given], old[:, : self.given])
        ):
            self.ids, self.mask = new, table  # a search without a cache, whose sequences changed places
        elif cached:
            self.ids = torch.cat([old, new], dim=1)
            self.mask = table if table is not None else self.mask

    def spans(self) -> tuple[list[int], list[int]] | None:
        """Lengths and starts of the real tokens of each sequence."""
        if self.ids is None:
            return None
        batch, n = self.ids.shape
        if self.mask is None or len(self.mask) != batch:
            return [n] * batch, [0] * batch
        real = self.mask[:, :n] > 0
        if real.shape[1] < n:  # tokens generated since are real
            real = torch.cat([real, torch.ones(batch, n - real.shape[1], dtype=torch.bool)], dim=1)
        starts = real.byte().argmax(-1)
        return real.sum(-1).tolist(), starts.tolist()


class Inputs:
    """Watches the ids that the model, its encoder and its decoder are called with."""

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        config = getattr(model, "config", None)
        self.two_sided = bool(getattr(config, "is_encoder_decoder", False))
        self.sees = hasattr(config, "vision_config")
        self.tokenizer = tokenizer
        self.source, self.target = _Side(), _Side()

    def note(self, path: str, outermost: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        last = path.rsplit(".", 1)[-1]
        if not outermost and last != "decoder":
            return
        ids = kwargs.get("input_ids", args[0] if args else None)
        cached = any(_filled(kwargs.get(name)) for name in CACHES)
        if self.two_sided and last == "decoder":
            self.target.note(ids, kwargs.get("attention_mask"), cached)
        elif outermost:
            self.source.note(ids, kwargs.get("attention_mask"), cached)

    def write(self, recording: Recording) -> None:
        """Set tokens, ids, lengths and starts of the recording, unless the caller has."""
        if self.sees and any(recording.info(name).kind == "cross" for name in recording):
            self.source, self.target = _Side(), self.source  # its text reads a picture
        elif self.sees and not _read_by(recording, self.source.given):
            self.source = _Side()  # only its picture was recorded
        for side, prefix, names in ((self.source, "", "input_ids"), (self.target, "target_", "target_ids")):
            if side.ids is not None and side.mask is None and not prefix:
                side.mask = _real(recording)
            spans = side.spans()
            if spans is None or side.ids is None:
                continue
            ids, (lengths, starts) = side.ids.tolist(), spans
            found: dict[str, Any] = {names: ids, f"{prefix}lengths": lengths, f"{prefix}starts": starts}
            if self.tokenizer is not None:
                rows = [row[s : s + n] for row, n, s in zip(ids, lengths, starts, strict=True)]
                found[f"{prefix}tokens"] = [_texts(self.tokenizer, row) for row in rows]
            for name, value in found.items():
                if getattr(recording, name) is None:
                    setattr(recording, name, value)
        real = _real(recording) if recording.lengths is None else None
        if real is not None:
            recording.lengths = real.sum(-1).tolist()
            recording.starts = real.byte().argmax(-1).tolist()


def _read_by(recording: Recording, count: int) -> bool:
    """Whether some module began with so many tokens."""
    return any(call.step == 0 and call.shape[-1] == count for call in recording._order)


def _real(recording: Recording) -> Tensor | None:
    """Without an attention mask of the usual form, the padding in the first self-attention says which tokens are
    real, (B, K)."""
    for call in recording._order:
        if call.info.kind != "cross":
            return None if call.stored else _visible(call.arguments().get("mask"), call.shape[-1])
    return None


def _visible(mask: Mask | None, keys: int) -> Tensor | None:
    if isinstance(mask, And):
        left = _visible(mask.left, keys)
        return left if left is not None else _visible(mask.right, keys)
    if isinstance(mask, Padding):
        lengths = mask.lengths[:, None]
        places = torch.arange(keys, device=lengths.device)
        return places >= keys - lengths if mask.side == "left" else places < lengths
    if isinstance(mask, Dense) and mask.table.ndim == 4 and mask.table.shape[1:3] == (1, 1):
        return mask.table[:, 0, 0]
    return None


def _filled(cache: Any) -> bool:
    """Whether a cache holds earlier tokens."""
    if cache is None:
        return False
    try:
        return int(cache.get_seq_length()) > 0
    except (AttributeError, TypeError, ValueError):
        return True


def _texts(tokenizer: Any, ids: list[int]) -> list[str]:
    convert = getattr(tokenizer, "convert_ids_to_tokens", None)
    return [str(token) for token in (tokenizer(ids) if convert is None else convert(ids))]
