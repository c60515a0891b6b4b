"""What text went in: ids, attention masks and so the tokens, lengths and starts of each sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..masks import And, Mask, Padding
from ..recording import Recording

__all__ = ["Inputs"]


@dataclass
class _Side:
    """The ids of one side (source or target), grown by cached generation steps."""

    ids: Tensor | None = None
    mask: Tensor | None = None

    def note(self, ids: Any, mask: Any, cached: bool) -> None:
        if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.dtype.is_floating_point:
            return
        new, old = ids.detach().cpu().clone(), self.ids
        table = mask.detach().cpu().clone() if isinstance(mask, Tensor) and mask.ndim == 2 else None
        if old is None:
            self.ids, self.mask = new, table
        elif len(new) != len(old):
            return
        elif new.shape[1] >= old.shape[1] and torch.equal(new[:, : old.shape[1]], old):
            self.ids, self.mask = new, table
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
        self.tokenizer = tokenizer
        self.source, self.target = _Side(), _Side()

    def note(self, path: str, outermost: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        last = path.rsplit(".", 1)[-1]
        if not outermost and last != "decoder":
            return
        ids = kwargs.get("input_ids", args[0] if args else None)
        cached = _filled(kwargs.get("past_key_values"))
        if self.two_sided and last == "decoder":
            self.target.note(ids, kwargs.get("attention_mask"), cached)
        elif outermost:
            self.source.note(ids, kwargs.get("attention_mask"), cached)

    def write(self, recording: Recording) -> None:
        """Set tokens, ids, lengths and starts of the recording, unless the caller has."""
        for side, prefix, names in ((self.source, "", "input_ids"), (self.target, "target_", "target_ids")):
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
        if recording.lengths is None:
            self._from_masks(recording)

    def _from_masks(self, recording: Recording) -> None:
        """Without ids, the padding of the first self-attention tells the lengths."""
        for call in recording._order:
            mask = None if call.stored or call.info.kind == "cross" else call.arguments().get("mask")
            padding = _padding(mask)
            if padding is not None:
                lengths = padding.lengths.tolist()
                keys = call.shape[-1]
                recording.lengths = lengths
                recording.starts = [keys - n if padding.side == "left" else 0 for n in lengths]
                return


def _padding(mask: Mask | None) -> Padding | None:
    if isinstance(mask, Padding):
        return mask
    return (_padding(mask.left) or _padding(mask.right)) if isinstance(mask, And) else None


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
