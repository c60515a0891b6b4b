"""Attention weights that are given as numbers, as other tools hand them over, shown like any other.

There is nothing lazy about them: the numbers are held as they are, and what they came from is not known. So that every
question of a viewer is answered in one way, they become maps whose score looks its weight up.

Axes: B batch, H heads, Q queries, K keys; R rows and C columns of a block, P points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveate.map import AttentionMap
from foveate.normalizers.given import AsGiven
from foveate.recording import CallInfo, MemoryCall, Notes, Recording
from foveate.scores.table import Table

__all__ = ["GIVEN", "UNKNOWN", "call_of", "is_given", "recording_of", "tables_of"]

GIVEN = "given"  # what their score and their normaliser are called
# What nobody knows of a pair whose weight was given, in the fields of `Source.pair`.
UNKNOWN: dict[str, Any] = {"query": [], "key": [], "score": None, "scaled": None, "statistic": None}
_RULE = "weights are a tensor (batch, heads, queries, keys), or one for each layer, as a model's outputs.attentions"


def is_given(one: AttentionMap) -> bool:
    """Whether a map's weights were given as numbers, so that nobody knows its queries, keys and scores."""
    return isinstance(one.problem.score, Table)


def tables_of(weights: Any, name: str = "attention") -> list[Tensor]:
    """Each layer's weights, (B, H, Q, K).

    Args:
        weights: a tensor or array (B, H, Q, K), (H, Q, K) or (Q, K), one (layers, B, H, Q, K), or a sequence of the
            former, one for each layer. Rows need not sum to 1.

    Raises:
        TypeError: it is something else.
        ValueError: a shape that is none of these, no layer at all, or numbers below 0.
    """
    if isinstance(weights, Tensor | np.ndarray):
        layers = list(weights) if weights.ndim == 5 else [weights]
    elif isinstance(weights, Sequence) and not isinstance(weights, str):
        layers = list(weights)
    else:
        raise TypeError(f"{name}: {_RULE}; got {type(weights).__name__}")
    if not layers or any(layer is None for layer in layers):
        raise ValueError(
            f"{name} holds no weights: fused attention does not return them. Record the model instead, "
            "`with fv.watch(model) as seen: model(...)`, or ask it for attn_implementation='eager'"
        )
    return [_table(layer, f"{name}[{n}]" if len(layers) > 1 else name) for n, layer in enumerate(layers)]


def _table(layer: Any, name: str) -> Tensor:
    if not isinstance(layer, Tensor | np.ndarray):
        raise TypeError(f"{name}: {_RULE}; got {type(layer).__name__}")
    table = torch.as_tensor(layer).detach()
    if not 2 <= table.ndim <= 4 or 0 in table.shape:
        raise ValueError(f"{name} must be (batch, heads, queries, keys), none of them 0; got {tuple(table.shape)}")
    if not table.is_floating_point():
        table = table.float()
    if bool(table.amin() < 0):
        raise ValueError(f"{name} must hold weights, 0 or more; it holds numbers below 0: are these scores?")
    return table[(None,) * (4 - table.ndim)]


def recording_of(
    tables: dict[str, list[Tensor]], numbers: Sequence[int] | None = None, notes: Notes | None = None
) -> Recording:
    """Weights as a recording, which lives in memory and cannot be saved.

    Args:
        tables: kind ("encoder", "decoder", "cross", or "" to tell from the numbers) -> each layer's (B, H, Q, K).
        numbers: what the layers are called, 0, 1, 2, ... by default.
    """
    return Recording(notes, list(_calls(tables, numbers)))


def _calls(tables: dict[str, list[Tensor]], numbers: Sequence[int] | None) -> Iterator[MemoryCall]:
    for kind, layers in tables.items():
        for number, table in zip(numbers or range(len(layers)), layers, strict=True):
            known = kind or ("decoder" if _is_causal(table) else "encoder")
            name = f"{kind}.layers.{number}" if kind else f"layers.{number}"
            yield call_of(CallInfo(name, known, f"layer {number}", number, table.shape[1], GIVEN), table)


def call_of(info: CallInfo, table: Tensor) -> MemoryCall:
    """Weights (B, H, Q, K) as a call."""
    batch, heads, queries, keys = table.shape
    nothing = table.new_zeros(1, 1, 1, 1)  # in the place of queries and keys; takes no memory
    sides = nothing.expand(batch, heads, queries, 1), nothing.expand(batch, heads, keys, 1)
    return MemoryCall(info, 0, *sides, None, {"score": Table(table), "normalizer": AsGiven()})


def _is_causal(table: Tensor) -> bool:
    """Whether no query reads a key after its own; a single query may."""
    queries, keys = table.shape[2:]
    if queries < 2 or keys < queries:
        return False
    return not any(bool(head.triu(keys - queries + 1).any()) for head in table.flatten(0, 1))
