"""The calls of a generation as one map: the prompt's queries, and then the single query of each token that was read.

A cached step computes one query against all keys so far. Its newest key is read off each step, so that caches which
drop old keys (sliding windows) join like those which keep all; a sequence that beam search moved to another place of
the batch is followed back to where it came from. What does not join exactly is refused, with the reason.

Axes: B batch, H heads, G key heads, Q queries, K keys, N keys of the whole generation, T calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..biases import Bias, Distances, Given
from ..map import AttentionMap
from ..masks.given import Dense
from ..masks.intervals import Intervals
from ..masks.spans import spans
from ..shapes import Geometry
from .calls import Call

if TYPE_CHECKING:
    from .recording import Recording

__all__ = ["Generation", "NotJoinedError", "join"]

NEAR = 1e-3  # of the largest number: what computing a key again, in a batch of another shape, may change


class NotJoinedError(ValueError):
    """The calls of a module are not the steps of one generation, or cannot be shown as one map; the text says why."""


@dataclass(frozen=True)
class Generation:
    """What a recording holds of one `generate()`.

    `prompt`: rows that came before the first generated token's. `rows`: rows in all. `origin` (T, B): in which place
    of the batch each sequence of the last call was at every call; None: nothing was moved. `joined`: the modules whose
    calls are one map, and its shape (B, H, rows, N). `refused`: those whose calls cannot be, and why.
    """

    prompt: int
    rows: int
    origin: Tensor | None
    joined: dict[str, tuple[int, ...]]
    refused: dict[str, str]

    @classmethod
    def of(cls, recording: Recording) -> Generation | None:
        """The generation in a recording; None if there is none."""
        found: dict[str, _Steps] = {}
        refused: dict[str, str] = {}
        for name in recording:
            calls = recording._of(name)
            try:
                steps = _Steps.of(calls)
                if steps is not None:
                    found[name] = steps
            except NotJoinedError as error:
                refused[name] = str(error)
        if not found:
            return cls(0, 0, None, {}, refused) if refused else None
        lead = next((steps for steps in reversed(found.values()) if steps.leads), next(iter(found.values())))
        try:
            origin = lead.origin()
        except NotJoinedError as error:
            return cls(0, 0, None, {}, {**refused, **dict.fromkeys(found, str(error))})
        joined: dict[str, tuple[int, ...]] = {}
        for name, steps in found.items():
            why = steps.differs(lead)
            if why is None:
                joined[name] = (*steps.calls[0].shape[:2], steps.rows, steps.ends[-1])
            else:
                refused[name] = why
        return cls(lead.prompt, lead.rows, origin, joined, refused)


@dataclass(frozen=True)
class _Steps:
    """The calls of one module that are steps of one generation. `queries`, `keys`: of each call."""

    calls: list[Call]
    queries: tuple[int, ...]
    keys: tuple[int, ...]
    cross: bool
    cached: bool

    @classmethod
    def of(cls, calls: list[Call]) -> _Steps | None:
        """None: the module was called once, or its calls have nothing to do with each other.

        Raises:
            NotJoinedError: they look like steps, but are not those of one generation.
        """
        if len(calls) < 2:
            return None
        queries, keys = tuple(c.shape[-2] for c in calls), tuple(c.shape[-1] for c in calls)
        cross = calls[0].info.kind == "cross"
        ends = _ends(queries, keys)
        rising = all(b == a + 1 for a, b in pairwise(queries))
        if rising and (len(set(keys)) == 1 if cross else queries == keys):
            made = cls(calls, queries, keys, cross, False)
            return made if _same_batch(calls) and made._goes_on() else None
        growing = [q < k for q, k in zip(queries[1:], keys[1:], strict=True)]
        if not any(growing) and not (cross and set(queries[1:]) == {1}):
            return None
        if not _same_batch(calls):
            raise NotJoinedError("the number of sequences or heads changed on the way")
        if cross and len(set(keys)) == 1:
            return cls(calls, queries, keys, cross, True)
        if cross or not all(growing) or any(k > end for k, end in zip(keys, ends, strict=True)):
            raise NotJoinedError("several texts were run, or steps were taken back: the calls do not follow each other")
        return cls(calls, queries, keys, cross, True)

    @property
    def leads(self) -> bool:
        """Whether its keys tell where each sequence was: all of them, of a self-attention."""
        return not self.cross and self.keys == self.ends

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Keys there were in all at the end of each call."""
        return self.keys if self.cross or not self.cached else _ends(self.queries, self.keys)

    @property
    def rows(self) -> int:
        return sum(self.queries) if self.cached else self.queries[-1]

    @property
    def prompt(self) -> int:
        if not self.cached:
            return self.queries[0]
        single = 0
        while single < len(self.queries) - 1 and self.queries[-1 - single] == 1:
            single += 1
        return self.rows - single

    def differs(self, other: _Steps) -> str | None:
        if (self.rows, self.prompt) != (other.rows, other.prompt) or self.calls[0].shape[0] != other.calls[0].shape[0]:
            return "its calls are not those of the other modules"
        if self.cross and other.cross and self.cached and self.calls[0].shape[0] > 1:
            return "without a self-attention it cannot be told whether the search moved sequences about"
        return None

    def _goes_on(self) -> bool:
        """Of calls that begin anew at every token: whether each begins with what the one before ended with."""
        if self.cross:
            return all(_near(_keys(c, 0, 1), _keys(self.calls[0], 0, 1)) for c in self.calls[1:])
        for before, after in pairwise(self.calls):
            end = before.shape[-1]
            here, there = _keys(after, end - 1, end), _keys(before, end - 1, end)
            if not all(any(_near(row, other) for other in there) for row in here):
                return False
        return True

    def origin(self) -> Tensor | None:
        """(T, B), or None where every sequence stayed in its place.

        Raises:
            NotJoinedError: a sequence of a call goes on with none of the call before.
        """
        batch = self.calls[0].shape[0]
        if batch == 1 or not self.cached or not self.leads:
            return None
        found = [torch.arange(batch)]
        for i in range(len(self.calls) - 1, 0, -1):
            end = self.ends[i - 1]
            recent = max(0, min(self.ends[0], end) - 1)
            here, there = _keys(self.calls[i], recent, end), _keys(self.calls[i - 1], recent, end)
            parents = [b if torch.equal(here[b], there[b]) else self._parent(i, b, end) for b in range(batch)]
            found.append(torch.tensor(parents)[found[-1]])
        origin = torch.stack(found[::-1])
        return None if bool((origin == torch.arange(batch)).all()) else origin

    def _parent(self, i: int, b: int, end: int) -> int:
        here, there = _keys(self.calls[i], 0, end)[b], _keys(self.calls[i - 1], 0, end)
        for other in range(len(there)):
            if torch.equal(here, there[other]):
                return other
        raise NotJoinedError(f"sequence {b} of step {i} goes on with none of the step before: its keys are others")


def join(recording: Recording, name: str, generation: Generation | None = None) -> AttentionMap:
    """All calls of a module as one map (B, H, rows, N).

    Raises:
        NotJoinedError: it was called once, or its calls are not the steps of one generation; the text says why.
        KeyError: there is no such module.
    """
    calls = recording._of(name)
    generation = generation or Generation.of(recording)
    if generation is None or name not in generation.joined:
        why = "its calls are not steps of a generation" if generation is None else generation.refused.get(name)
        raise NotJoinedError(f"{name}: {why or 'it is no step of the generation'}")
    steps = _Steps.of(calls)
    assert steps is not None
    try:
        return _joined(steps, generation.origin)
    except NotJoinedError as error:
        raise NotJoinedError(f"{name}: {error}") from None


def _joined(steps: _Steps, origin: Tensor | None) -> AttentionMap:
    calls, last = steps.calls, steps.calls[-1]
    options = dict(last.options)
    if not steps.cached:
        arguments = last.arguments()
        return AttentionMap(arguments.pop("query"), arguments.pop("key"), **arguments)
    for call in calls[:-1]:
        for part in ("score", "normalizer"):
            if not _alike(call.options[part], options[part]):
                raise NotJoinedError(f"the {part} changed from step to step")
    query = torch.cat([_rows(call.read("query"), origin, i) for i, call in enumerate(calls)], dim=2)
    key = _assembled(steps, "key", origin)
    _check_keys(steps, key, origin)
    return AttentionMap(
        query,
        key,
        value=None if last.read("value") is None else _assembled(steps, "value", origin),
        score=options["score"],
        mask=_mask(steps, origin),
        bias=_bias(steps, last.shape[1]),
        normalizer=options["normalizer"],
        dtype=options["dtype"],
    )


def _rows(stored: Any, origin: Tensor | None, call: int, start: int = 0) -> Tensor:
    """Vectors from `start` of a call, its sequences in the order in which they end."""
    t: Tensor = stored[:, :, start:, :]
    return t if origin is None else t[origin[call]]


def _assembled(steps: _Steps, role: str, origin: Tensor | None) -> Tensor:
    """Keys or values of all places: of the first call all, of the others the new ones."""
    if steps.cross:
        return _rows(steps.calls[-1].read(role), None, -1)
    parts = []
    for i, call in enumerate(steps.calls):
        new = call.shape[-1] - (call.shape[-2] if i else call.shape[-1])
        parts.append(_rows(call.read(role), origin, i, new))
    return torch.cat(parts, dim=2)


def _check_keys(steps: _Steps, key: Tensor, origin: Tensor | None) -> None:
    """That the steps read the keys that were put together: the last step wholly, the others what came since the prompt.

    Of a single sequence, which no search can move, and whose cache keeps all, the last step tells it.
    """
    calls, first = steps.calls, steps.ends[0] - 1
    alone = key.shape[0] == 1 and steps.keys == steps.ends
    for i, call in enumerate(calls):
        if steps.cross:
            begin, end, low = 0, call.shape[-1], call.shape[-1] - 1
        else:
            begin, end = steps.ends[i] - call.shape[-1], steps.ends[i]
            low = begin if i == len(calls) - 1 else max(begin, first)
            if alone and i < len(calls) - 1:
                continue
        seen = _keys(call, low - begin, end - begin)
        seen = seen if origin is None or steps.cross else seen[origin[i]]
        if not torch.equal(seen, key[:, :, low:end]):
            raise NotJoinedError(f"step {i} read other keys than those that the steps before it left")


def _mask(steps: _Steps, origin: Tensor | None) -> Intervals:
    """Which run of keys every row saw, as each call's own mask has it."""
    firsts, lasts = [], []
    for i, call in enumerate(steps.calls):
        b, h, q, k = call.shape
        begin = 0 if steps.cross else steps.ends[i] - k
        low, high = (t.expand(-1, 1, q)[:, 0] for t in _interval(call.options["mask"], Geometry(b, h, q, k)))
        if origin is not None and len(low) > 1:
            low, high = low[origin[i]], high[origin[i]]
        empty = low >= high
        firsts.append((low + begin).masked_fill(empty, 0))
        lasts.append((high + begin).masked_fill(empty, 0))
    most = max(len(t) for t in firsts)
    return Intervals(*(torch.cat([t.expand(most, -1) for t in parts], dim=1) for parts in (firsts, lasts)))


def _interval(mask: Any, g: Geometry) -> tuple[Tensor, Tensor]:
    """(B|1, 1, Q|1) first key and one past the last."""
    if mask is None:
        return torch.zeros(1, 1, 1, dtype=torch.int64), torch.full((1, 1, 1), g.keys)
    found = spans(mask, g)
    if found is None and isinstance(mask, Dense):
        found = _runs(mask.table, g)
    if found is None or found[0].shape[1] != 1:
        raise NotJoinedError(f"its mask, {mask}, shows queries more than one run of keys, or heads different ones")
    return found


def _runs(table: Tensor, g: Geometry) -> tuple[Tensor, Tensor] | None:
    """The runs of True in the rows of a table (B|1, H|1, Q|1, K); None if a row has several."""
    t = table.reshape((1,) * (4 - table.ndim) + tuple(table.shape)).cpu().expand(-1, -1, -1, g.keys)
    count, first = t.sum(-1), t.byte().argmax(-1)
    places = torch.arange(g.keys)
    whole = (places >= first[..., None]) & (places < (first + count)[..., None])
    return (first, first + count) if torch.equal(whole, t) else None


def _bias(steps: _Steps, heads: int) -> Bias | None:
    """A bias that depends on the distance alone, as each call's own table has it."""
    tables = [call.options["bias"] for call in steps.calls]
    if all(table is None for table in tables):
        return None
    tables = [table.table if isinstance(table, Given) else table for table in tables]
    last = tables[-1]
    if steps.cross or steps.keys != steps.ends or not all(isinstance(t, Tensor) and t.shape[0] == 1 for t in tables):
        raise NotJoinedError("its bias is no number for each distance")
    total = steps.ends[-1]
    by_distance = last[0, :, -1, :].expand(-1, total)  # of the keys up to the last query, the nearest last
    for call, table in zip(steps.calls, tables, strict=True):
        queries, keys = call.shape[-2:]
        for row in range(queries):
            sees = keys - queries + row + 1
            mine = table[0, :, row if table.shape[2] > 1 else 0, :].expand(-1, keys)[:, :sees]
            if not torch.equal(mine, by_distance[:, total - sees :]):
                raise NotJoinedError("its bias is no number for each distance")
    rest = by_distance.new_zeros(by_distance.shape[0], steps.rows - 1)  # of keys after their query, which none sees
    return Distances(torch.cat([by_distance, rest], dim=1))


def _keys(call: Call, start: int, stop: int) -> Tensor:
    stored = call.read("key")
    assert stored is not None
    return stored[:, :, start:stop, :]


def _near(a: Tensor, b: Tensor) -> bool:
    size = float(a.abs().amax()) if a.numel() else 0.0
    return bool(torch.allclose(a.float(), b.float(), rtol=0.0, atol=NEAR * size))


def _ends(queries: Sequence[int], keys: Sequence[int]) -> tuple[int, ...]:
    ends = [keys[0]]
    for count in queries[1:]:
        ends.append(ends[-1] + count)
    return tuple(ends)


def _same_batch(calls: list[Call]) -> bool:
    return all(len(c.shape) == 4 and c.shape[:2] == calls[0].shape[:2] for c in calls)


def _alike(a: Any, b: Any) -> bool:
    """Whether two descriptions, such as scores, say the same."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and torch.equal(a, b)
    if is_dataclass(a) and type(a) is type(b):
        return all(_alike(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return bool(a == b)
