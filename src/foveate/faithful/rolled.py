"""Attention rollout (Abnar & Zuidema 2020): weights of all layers multiplied, with half of each token going past
attention, as the residual stream does. Heads are averaged; rows are normalised to 1 where sinks take a share.

Axes: B sequences, H heads, Q queries, N tokens, R rows that are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..map import AttentionMap
from ..recording import Recording
from ..recording.calls import layer_of, stack_of
from ..shapes import whole
from .attributions import past
from .layers import blocks

__all__ = ["rolled", "rollout"]

MOST = 1 << 26  # numbers of the result


def rollout(seen: Mapping[str, Any], *, under: str | None = None, rows: int | Iterable[int] | None = None) -> Tensor:
    """What each token above the last layer has of each token below the first, by the weights of a stack of layers.

    Only as many rows as are asked for are ever held: a layer is multiplied some queries at a time.

    Args:
        seen: what `watch` gave, with all layers of the stack and all their heads; or names with maps (B, H, N, N).
            Cross-attention is passed over.
        under: the path that the stack's modules lie under, where there are several ("vision_model").
        rows: tokens above the last layer, such as 0 for "[CLS]"; one or several. Default: all.

    Returns:
        (B, R, N) in float32, or (B, N) for one row; each row adds up to 1.

    Raises:
        ValueError: there is no such stack, there are several, layers or heads of it were not recorded, modules were
            called several times, there is no such row, or the result would have more than 2^26 numbers.
    """
    maps = _stack(seen, under)
    batch, _, tokens, _ = maps[0].problem.geometry.shape
    wanted = list(range(tokens)) if rows is None else [rows] if isinstance(rows, int) else list(rows)
    for row in wanted:
        if not 0 <= whole(row, "a row") < tokens:
            raise ValueError(f"rows are tokens, numbers from 0 to {tokens - 1}; got {row}")
    if batch * len(wanted) * tokens > MOST:
        raise ValueError(f"{len(wanted):,} rows of {tokens:,} tokens are more than {MOST:,} numbers: ask for some rows")
    start_RN = torch.zeros(len(wanted), tokens, dtype=torch.float64)
    start_RN[range(len(wanted)), wanted] = 1
    with torch.no_grad():
        found = torch.stack([rolled(maps, start_RN, sequence).float().cpu() for sequence in range(batch)])
    return found[:, 0] if isinstance(rows, int) else found


def rolled(maps: Sequence[AttentionMap], rows: Tensor, sequence: int = 0) -> Tensor:
    """Shares of tokens above the last map, (..., Q), as shares of those below the first, (..., N), of one sequence.

    The last map may be a pooling, whose queries are no tokens.
    """
    for weights in reversed(maps):
        found = rows.new_zeros(*rows.shape[:-1], weights.shape[-1])
        among = bool(weights.shape[-2] == weights.shape[-1])
        for at, w_HRN in blocks(weights, sequence):
            found += rows[..., at] @ past(w_HRN.mean(0).to(rows), at, among)
        rows = found
    return rows


def _stack(seen: Mapping[str, Any], under: str | None) -> list[AttentionMap]:
    """The self-attention of each layer of one stack, from the bottom up."""
    stacks: dict[str, list[str]] = {}
    for name in seen:
        crosses = isinstance(seen, Recording) and seen.info(name).kind == "cross"
        if not crosses and (under is None or f"{name}.".startswith(f"{under}.")):
            stacks.setdefault(stack_of(name), []).append(name)
    if not stacks:
        raise ValueError(f"no self-attention was recorded{f' under {under!r}' if under else ''}")
    if len(stacks) > 1:
        raise ValueError(
            f"rollout is of one stack of layers, and there are {', '.join(map(repr, stacks))}: choose by under="
        )
    ((_, names),) = stacks.items()
    numbers = [layer_of(name) for name in names]
    if None not in numbers and sorted(numbers, key=lambda n: n or 0) != list(range(len(names))):
        raise ValueError(f"rollout takes every layer once, from 0 on; recorded are {', '.join(map(str, numbers))}")
    if isinstance(seen, Recording) and any(seen.info(name).numbers is not None for name in names):
        raise ValueError("rollout takes all heads of each layer; some were left out")
    maps = [seen[name] for name in names]
    for name, one in zip(names, maps, strict=True):
        if not isinstance(one, AttentionMap):
            raise ValueError(f"rollout is of one run, and {name} was called {len(one)} times")
        if one.shape[-2:] != (maps[0].shape[-2],) * 2:
            raise ValueError(f"rollout is of tokens that read the same tokens; {name} is {tuple(one.shape)}")
    return [_batched(one) for one in maps]


def _batched(one: AttentionMap) -> AttentionMap:
    """The same map as (B, H, N, N)."""
    if len(one.shape) == 4:
        return one
    p = one.problem
    return AttentionMap(
        p.q_BHQD, p.k_BGKD, score=p.score, mask=p.mask, bias=p.bias, normalizer=p.normalizer, dtype=one.dtype
    )
