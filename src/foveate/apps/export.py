"""A page in one file: queries, keys and masks go into it, and it computes every weight itself, offline.

Where it cannot, because a score is no product or a normaliser no softmax, a small call's weights go in as they are.

Axes: B batch, H heads, G key heads, Q queries, K keys, D width, V value width.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.apps import page
from foveate.apps.errors import UserError
from foveate.map import AttentionMap
from foveate.normalizers import Softmax, lead
from foveate.scores import Dot
from foveate.views.given import is_given
from foveate.views.source import Source
from foveate.views.wire import dumps

LIMIT = 50_000_000  # bytes of a page
SMALL = 8_000_000  # bytes of float32 up to which nothing is rounded
DENSE = 1 << 20  # weights of one call that go in as they are
_HALF_MAX = 65504.0


class Blob:
    """Arrays one after another, each distinct one once."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self._known: dict[tuple[bytes, str, tuple[int, ...]], int] = {}

    def add(self, array: NDArray[Any], dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
        """The reference {offset, shape, dtype} to `array`, aligned to 4 bytes."""
        data = np.ascontiguousarray(array).tobytes()
        key = (hashlib.sha256(data).digest(), dtype, shape)
        if key not in self._known:
            self._known[key] = self.size
            self.parts.append(data + b"\0" * (-len(data) % 4))
            self.size += len(self.parts[-1])
        return {"offset": self._known[key], "shape": list(shape), "dtype": dtype}

    def add_floats(self, tensor: Tensor, half: bool) -> dict[str, Any]:
        numbers = tensor.detach().float().cpu()
        fits = bool((numbers.abs() <= _HALF_MAX).all())
        kind = "float16" if half and fits else "float32"
        return self.add(numbers.numpy().astype(f"<f{2 if kind == 'float16' else 4}"), kind, tuple(tensor.shape))

    def add_bits(self, flags: Tensor) -> dict[str, Any]:
        return self.add(np.packbits(flags.cpu().numpy(), axis=-1), "bits", tuple(flags.shape))


def page_of(source: Source, title: str = "", limit: int = LIMIT) -> str:
    """The HTML of a self-contained page.

    Raises:
        UserError: the page would be larger than `limit` bytes, or a score or normaliser in it is one that a page cannot
            compute, of a call with more than `DENSE` weights.
    """
    floats = sum(_numbers(one) for one in source.maps) * 4
    half = floats > SMALL
    _check_size((floats // 2 if half else floats) * 4 // 3, limit)
    blob = Blob()
    calls = [_embedded(source, index, one, blob, half) for index, one in enumerate(source.maps)]
    _check_size(blob.size * 4 // 3, limit)
    document = source.document()  # of stored calls it does not know the scores: it has looked at no map
    named = zip(document.calls, calls, strict=True)
    document = replace(document, calls=tuple(replace(call, score=made["score"]["name"]) for call, made in named))
    data = {
        "document": document.with_id("embedded").as_json(),
        "calls": calls,
        "blob": base64.b64encode(b"".join(blob.parts)).decode(),
    }
    text = page.static(dumps(data), title or document.title or "foveate")
    _check_size(len(text), limit)
    return text


def write(source: Source, path: str | os.PathLike[str], title: str = "", limit: int = LIMIT) -> Path:
    """Write the page; whoever reads `path` meanwhile sees the old file or the new one, never half of one."""
    target = Path(path)
    text = page_of(source, title, limit)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}") from None
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(f"cannot write {target}: {error.strerror}") from None
        raise
    return target


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _numbers(one: AttentionMap) -> int:
    held = sum(t.numel() for t in (one.query, one.key, one.value) if t is not None)
    if is_given(one):
        return held + one.shape.numel()
    return held if _can_compute(one) else held + 2 * one.shape.numel()


def _can_compute(one: AttentionMap) -> bool:
    """Whether a page computes these weights itself."""
    return isinstance(one.problem.score, Dot) and isinstance(one.problem.normalizer, Softmax)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise UserError(
            f"the page would take {size / 1e6:,.0f} MB, more than the limit of {limit / 1e6:,.0f} MB; record "
            "fewer layers (watch(model, layers=...)), a shorter text, or raise limit=; `foveate view` shows any length"
        )


def _embedded(source: Source, index: int, one: AttentionMap, blob: Blob, half: bool) -> Mapping[str, Any]:
    problem, score = one.problem, one.problem.score
    product = isinstance(score, Dot)
    axes = [source.axes(index, sequence) for sequence in range(len(source.document().sequences))]
    above, left = [rows.first for rows, _ in axes], [columns.first for _, columns in axes]
    dense = None if _can_compute(one) else _dense(one, blob, above, left, half and is_given(one))
    allowed, bias = _mask_and_bias(one)
    sinks = problem.normalizer.sinks if isinstance(problem.normalizer, Softmax) else None
    return {
        "query": blob.add_floats(_shifted(problem.q_BHQD, above, 2), half),
        "key": blob.add_floats(_shifted(problem.k_BGKD, left, 2), half),
        "value": None if one.value is None else blob.add_floats(_shifted(one.value, left, 2), half),
        "mask": None if allowed is None else blob.add_bits(_shifted(_shifted(allowed, above, 2), left, 3)),
        "bias": None if bias is None else blob.add_floats(_shifted(_shifted(bias, above, 2), left, 3), half),
        "sinks": None if sinks is None else blob.add_floats(sinks, False),
        "score": {"name": score.name, "scale": score.scale if product else None, "softcap": score.softcap},
        "dense": dense,
        "lengths": [[rows.length, columns.length] for rows, columns in axes],
    }


def _dense(one: AttentionMap, blob: Blob, above: list[int], left: list[int], half: bool) -> dict[str, Any]:
    """Weights and scores (B, H, Q, K) and the rows' statistic (B, H, Q).

    Given weights are their own scores, and go in once.

    Raises:
        UserError: there are too many.
    """
    problem = one.problem
    score, normalizer = problem.score, problem.normalizer
    if one.shape.numel() > DENSE and not is_given(one):
        what = f"the score {score.name!r}" if not isinstance(score, Dot) else f"the normalizer {normalizer.name!r}"
        raise UserError(
            f"{what} cannot be computed inside a page, and {one.shape.numel():,} weights of a call are too many to go "
            f"in as they are; {DENSE:,} may. fv.view shows every score and normalizer, at any length"
        )
    with torch.no_grad():
        raw = problem.raw(*problem.geometry.everything)
        tables = {"weights": torch.as_tensor(one.dense()), "scores": raw, "statistic": lead(one.statistic())}
    tables = {name: _shifted(table, above, 2) for name, table in tables.items()}
    return {
        "weights": blob.add_floats(_shifted(tables["weights"], left, 3), half),
        "scores": blob.add_floats(_shifted(tables["scores"], left, 3), half),
        "statistic": blob.add_floats(tables["statistic"], False),
        "normalizer": normalizer.name,
        "statistic_name": normalizer.means,
    }


def _shifted(tensor: Tensor, starts: list[int], axis: int) -> Tensor:
    """(B|1, ...) with every sequence moved to the front of `axis`, past the padding on its left."""
    if not any(starts) or tensor.shape[axis] == 1:
        return tensor
    every = tensor.expand(len(starts), *tensor.shape[1:])
    return torch.stack([one.roll(-start, axis - 1) for one, start in zip(every, starts, strict=True)])


def _mask_and_bias(one: AttentionMap) -> tuple[Tensor | None, Tensor | None]:
    """Who may attend (B|1, H|1, Q, K), and a bias (B|1, H|1, Q|1, K) of finite numbers; None where there is none."""
    problem = one.problem
    _, _, queries, keys = problem.geometry.shape
    allowed = problem.allowed(*problem.geometry.everything)
    if allowed is not None:
        allowed = None if allowed.all() else allowed.expand(*allowed.shape[:2], queries, keys)
    bias: Tensor | None = None
    if problem.bias is not None:
        bias = problem.bias.block(problem.geometry, problem.geometry.everything, problem.q_BHQD)
        bias = torch.where(bias <= torch.finfo(bias.dtype).min, torch.zeros_like(bias), bias)
        bias = bias.expand(*bias.shape[:3], keys) if bool(bias.any()) else None
    return allowed, bias
