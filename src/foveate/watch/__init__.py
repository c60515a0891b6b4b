"""Record the attention of any PyTorch model, unchanged.

    with fv.watch(model) as seen:
        model(**inputs)
    seen["encoder.layer.3.attention.self"]      # an AttentionMap

See docs/watch.md for what is seen, how, and what is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from typing import Any

import torch
from torch import nn

from ..shapes import whole
from .session import CaptureError, CaptureWarning, Session, is_device

__all__ = ["CaptureError", "CaptureWarning", "watch"]


def watch(
    model: nn.Module,
    layers: str | int | Iterable[str | int] | None = None,
    *,
    heads: int | Iterable[int] | None = None,
    keep: str = "qk",
    dtype: torch.dtype | None = None,
    to: str | PathLike[str] | torch.device | None = "cpu",
    tokenizer: Any = None,
    overwrite: bool = False,
    resume: bool = False,
) -> Session:
    """Watch a model's attention: a context manager that gives a `Recording`.

    No output bit of the model changes. Queries and keys are copied, weights are computed when looked at.

    Args:
        model: any `nn.Module`.
        layers: what to keep: numbers of layers (3, of every stack), and module paths, as globs ("*.3.*") or as paths
            they lie under ("encoder.layer.3"). Default: all.
        heads: query heads to keep, by number, of every module; the keys they read are kept with them. A module that
            has no such head is not captured. Default: all.
        keep: "qk", or "qkv" to keep the values too.
        dtype: keep copies in this dtype, e.g. `torch.float16` for half the memory; maps still give out numbers in
            the model's dtype. Default: the model's own.
        to: a device for the copies, None for the model's own, or a path: then calls go straight to a recording on
            disk there, and memory does not grow.
        tokenizer: turns ids into tokens (anything with `convert_ids_to_tokens`, or a function of a list of ids).
        overwrite: replace a finished recording at the path `to`.
        resume: go on with an unfinished one there: the model runs again, but its complete calls are not written again.

    Raises:
        CaptureError: nothing was captured (at the end), `layers` matches nothing, or the model is compiled.
        RecordingError: what is to be resumed is finished, or of another text or model.
        ValueError: an option is unknown, or a number of a layer or head is no whole number from 0.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"watch takes an nn.Module; got {type(model).__name__}")
    if keep not in ("qk", "qkv"):
        raise ValueError(f"unknown keep {keep!r}; expected 'qk' or 'qkv'")
    if dtype is not None and not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating point dtype; got {dtype}")
    chosen = None if heads is None else _numbers("heads", [heads] if isinstance(heads, int) else heads)
    patterns = None if layers is None else [layers] if isinstance(layers, str | int) else list(layers)
    _numbers("layers", [layer for layer in patterns or () if not isinstance(layer, str)] or [0])
    if resume and (overwrite or to is None or is_device(to)):
        raise ValueError("resume goes on with a recording at the path `to`, and overwrites nothing")
    return Session(model, patterns, chosen, keep, dtype, to, tokenizer, overwrite, resume)


def _numbers(what: str, given: Iterable[Any]) -> tuple[int, ...]:
    """Whole numbers from 0, each once, in ascending order."""
    found = tuple(sorted({whole(number, f"a number of {what}") for number in given}))
    if not found or found[0] < 0:
        raise ValueError(f"{what} must be numbers from 0; got {list(found)}")
    return found
