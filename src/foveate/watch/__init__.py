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

from .session import CaptureError, CaptureWarning, Session

__all__ = ["CaptureError", "CaptureWarning", "watch"]


def watch(
    model: nn.Module,
    layers: str | Iterable[str] | None = None,
    *,
    keep: str = "qk",
    dtype: torch.dtype | None = None,
    to: str | PathLike[str] | torch.device | None = "cpu",
    tokenizer: Any = None,
    overwrite: bool = False,
) -> Session:
    """Watch a model's attention: a context manager that gives a `Recording`.

    No output bit of the model changes. Queries and keys are copied, weights are computed when looked at.

    Args:
        model: any `nn.Module`.
        layers: module paths to keep, as globs ("*.3.*") or as paths they lie under ("encoder.layer.3"). Default: all.
        keep: "qk", or "qkv" to keep the values too.
        dtype: keep copies in this dtype, e.g. `torch.float16` for half the memory; maps still give out numbers in
            the model's dtype. Default: the model's own.
        to: a device for the copies, None for the model's own, or a path: then calls go straight to a recording on
            disk there, and memory does not grow.
        tokenizer: turns ids into tokens (anything with `convert_ids_to_tokens`, or a function of a list of ids).
        overwrite: replace a finished recording at the path `to`.

    Raises:
        CaptureError: nothing was captured (at the end), `layers` matches nothing, or the model is compiled.
        ValueError: an option is unknown.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"watch takes an nn.Module; got {type(model).__name__}")
    if keep not in ("qk", "qkv"):
        raise ValueError(f"unknown keep {keep!r}; expected 'qk' or 'qkv'")
    if dtype is not None and not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating point dtype; got {dtype}")
    return Session(model, layers, keep, dtype, to, tokenizer, overwrite)
