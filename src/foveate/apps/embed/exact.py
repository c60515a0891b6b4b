"""A call from which a page computes every weight itself: queries, keys, and what else a weight is made of.

Where it cannot, because a score is no product or a normaliser no softmax, a small call's weights go in as they are.

Axes: B batch, H heads, G key heads, Q queries, K keys, D width, V value width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from foveate.apps.embed.parts import Parts, half_or_single
from foveate.apps.errors import UserError
from foveate.map import AttentionMap
from foveate.masks.spans import intervals
from foveate.normalizers import Softmax, lead
from foveate.scores import Dot
from foveate.shapes import Geometry
from foveate.views.axes import Axis
from foveate.views.given import is_given

__all__ = ["DENSE", "can_compute", "held", "shifted", "written"]

DENSE = 1 << 20  # weights of one call that go in as they are
TABLE = 1 << 25  # entries of a mask or bias that follows from no rule
Axes = list[tuple[Axis, Axis]]  # the queries and keys of each sequence


def can_compute(one: AttentionMap) -> bool:
    """Whether a page computes these weights itself."""
    return isinstance(one.problem.score, Dot) and isinstance(one.problem.normalizer, Softmax)


def held(one: AttentionMap, half: bool, values: bool) -> AttentionMap:
    """The map of the numbers as they are in the page: rounded, without values where these stay out."""
    p = one.problem
    return AttentionMap(
        half_or_single(p.q_BHQD, half),
        half_or_single(p.k_BGKD, half),
        value=half_or_single(one.value, half) if values and one.value is not None else None,
        score=p.score,
        mask=p.mask,
        bias=p.bias,
        normalizer=p.normalizer,
        dtype=torch.float32,
    )


def written(one: AttentionMap, axes: Axes, parts: Parts, half: bool) -> dict[str, Any]:
    """What docs/DESIGN.md calls an exact call.

    Raises:
        UserError: its weights cannot be computed in a page and are too many to go in, or a mask or bias is too large.
    """
    problem, score = one.problem, one.problem.score
    product = isinstance(score, Dot)
    above, left = [rows.first for rows, _ in axes], [columns.first for _, columns in axes]
    sinks = problem.normalizer.sinks if isinstance(problem.normalizer, Softmax) else None
    return {
        "query": parts.add_floats(shifted(problem.q_BHQD, above, 2), half),
        "key": parts.add_floats(shifted(problem.k_BGKD, left, 2), half),
        "value": None if one.value is None else parts.add_floats(shifted(one.value, left, 2), half),
        "sinks": None if sinks is None else parts.add_floats(sinks, False),
        "score": {"name": score.name, "scale": score.scale if product else None, "softcap": score.softcap},
        **_allowed(one, axes, parts),
        **_bias(one, above, left, parts, half),
        "dense": None if can_compute(one) else _dense(one, parts, above, left, half and is_given(one)),
    }


def _allowed(one: AttentionMap, axes: Axes, parts: Parts) -> dict[str, Any]:
    """Who may attend: as intervals of each row's keys where the mask is such, as bits (B|1, H|1, Q, K) elsewhere."""
    problem, nothing = one.problem, {"mask": None, "spans": None}
    g = problem.geometry
    by_mask = not _hides(one)
    if problem.mask is None and by_mask:
        return nothing
    found = intervals(problem.mask, g) if problem.mask is not None and by_mask else None
    if found is not None:
        return {"mask": None, "spans": [_span(ends, axes, parts) for ends in found]}
    _affordable("mask", problem.allowed(*_corner(g)), one)
    allowed = problem.allowed(*g.everything)
    if allowed is None or bool(allowed.all()):
        return nothing
    above, left = [rows.first for rows, _ in axes], [columns.first for _, columns in axes]
    allowed = allowed.expand(*allowed.shape[:2], g.queries, g.keys)
    return {"mask": parts.add_bits(shifted(shifted(allowed, above, 2), left, 3)), "spans": None}


def _span(ends: tuple[Tensor, Tensor], axes: Axes, parts: Parts) -> dict[str, Any]:
    above, left = [rows.first for rows, _ in axes], [columns.first for _, columns in axes]
    found = []
    for end in ends:
        moved = shifted(end, above, 2)
        if any(left):
            lengths = torch.tensor([columns.length for _, columns in axes])[:, None, None]
            moved = torch.minimum((moved - torch.tensor(left)[:, None, None]).clamp(min=0), lengths)
        found.append(parts.add_places(moved))
    return {"first": found[0], "last": found[1]}


def _bias(one: AttentionMap, above: list[int], left: list[int], parts: Parts, half: bool) -> dict[str, Any]:
    """A bias of finite numbers: one for each distance where it is such, else (B|1, H|1, Q|1, K)."""
    problem, nothing = one.problem, {"bias": None, "distances": None}
    g = problem.geometry
    if problem.bias is None:
        return nothing
    table = problem.bias.by_distance()
    if table is not None:
        shifts = [b - a + g.queries - 1 for a, b in zip(above, left, strict=True)]
        return {"bias": None, "distances": {"table": parts.add_floats(table, False), "shifts": shifts}}
    bias = problem.bias.block(g, g.everything, problem.q_BHQD)
    bias = torch.where(bias <= torch.finfo(bias.dtype).min, torch.zeros_like(bias), bias)
    if not bool(bias.any()):
        return nothing
    bias = bias.expand(*bias.shape[:3], g.keys)
    return {"bias": parts.add_floats(shifted(shifted(bias, above, 2), left, 3), half), "distances": None}


def _hides(one: AttentionMap) -> bool:
    """Whether a bias hides a key."""
    problem = one.problem
    g = problem.geometry
    if problem.bias is None or problem.bias.by_distance() is not None:
        return False
    corner = _corner(g)
    _affordable("bias", problem.bias.block(g, corner, problem.q_BHQD[corner[:3]]), one)
    hidden = problem.bias.hidden(g, g.everything)
    return hidden is not None and bool(hidden.any())


def _corner(g: Geometry) -> tuple[slice, slice, slice, slice]:
    """Enough of a problem to see along which axes something varies."""
    batch, heads, rows, columns = (slice(0, min(2, n)) for n in g.shape)
    return batch, heads, rows, columns


def _affordable(what: str, corner: Tensor | None, one: AttentionMap) -> None:
    """Whether a table that varies along these axes may go in."""
    if corner is None:
        return
    entries = 1
    for size, full in zip(corner.shape, one.problem.geometry.shape, strict=True):
        entries *= full if size > 1 else 1
    if entries > TABLE:
        rules = {"mask": "causal, window, padding, documents, sinks", "bias": "one number for each distance"}
        raise UserError(
            f"a {what} of {entries:,} entries that follows from no rule is too large for a page; {TABLE:,} may go in, "
            f"and rules ({rules[what]}) of any length; embed='top' keeps the largest weights of such a call, "
            "and fv.view shows it as it is"
        )


def _dense(one: AttentionMap, parts: Parts, above: list[int], left: list[int], half: bool) -> dict[str, Any]:
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
            f"in as they are; {DENSE:,} may. embed='top' keeps the largest of each row; fv.view shows every score and "
            "normalizer, at any length"
        )
    with torch.no_grad():
        raw = problem.raw(*problem.geometry.everything)
        tables = {"weights": torch.as_tensor(one.dense()), "scores": raw, "statistic": lead(one.statistic())}
    tables = {name: shifted(table, above, 2) for name, table in tables.items()}
    return {
        "weights": parts.add_floats(shifted(tables["weights"], left, 3), half),
        "scores": parts.add_floats(shifted(tables["scores"], left, 3), half),
        "statistic": parts.add_floats(tables["statistic"], False),
        "normalizer": normalizer.name,
        "statistic_name": normalizer.means,
    }


def shifted(tensor: Tensor, starts: list[int], axis: int) -> Tensor:
    """(B|1, ...) with every sequence moved to the front of `axis`, past the padding on its left."""
    if not any(starts) or tensor.shape[axis] == 1:
        return tensor
    every = tensor.expand(len(starts), *tensor.shape[1:])
    return torch.stack([one.roll(-start, axis - 1) for one, start in zip(every, starts, strict=True)])
