"""Keys and values of what has been read, so that a token that is generated costs one query and not the whole text.

Axes: B batch, L new positions, K positions so far, D width; ... whatever lies between (heads).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..lengths import longest, note
from ..shapes import as_tensor, is_traced, is_tracked

__all__ = ["Cache"]


@dataclass
class _Held:
    """What one module keeps: tensors (B, ..., room, D), of which the first `length` positions are filled.

    `bounds` are how long their rows are at most; none where gradients flow.
    """

    tensors: list[Tensor]
    length: int = 0
    bounds: tuple[Tensor, ...] = ()


class Cache:
    """What the attention modules of a model remember between calls: one cache for all of them.

        cache = fv.nn.Cache()                     # or Cache(2048), for so many positions
        logits = model(prompt, cache=cache)       # then one token at a time
        logits = model(token, cache=cache)

    With `size`, memory is taken once and filled; without, it grows by doubling. A module that runs twice in one pass
    (shared layers) needs a cache for each. Masks and positions that align to the end are right as they are.
    """

    def __init__(self, size: int | None = None) -> None:
        if size is not None and size < 1:
            raise ValueError(f"a cache must have room for at least 1 position; got size {size}")
        self.size = size
        self._held: dict[nn.Module, _Held] = {}
        self._memories: dict[nn.Module, tuple[Tensor, int | None, tuple[Tensor, ...]]] = {}

    @property
    def length(self) -> int:
        """How many positions have been read."""
        return max((held.length for held in self._held.values()), default=0)

    def length_of(self, owner: nn.Module) -> int:
        """How many positions one module has read."""
        return self._held[owner].length if owner in self._held else 0

    def append(self, owner: nn.Module, *new: Tensor) -> tuple[Tensor, ...]:
        """Add (B, ..., L, D) of one module, usually its keys and values; returns all so far, (B, ..., K, D).

        Raises:
            ValueError: no room is left, other shapes than before, or gradients through a cache of fixed size.
        """
        held, count = self._held.get(owner, _Held([])), new[0].shape[-2]
        before, after = held.length, held.length + count
        if self.size is not None and after > self.size:
            raise ValueError(f"the cache has room for {self.size} positions; {before} are taken and {count} came")
        for old, added in zip(held.tensors, new, strict=bool(held.tensors)):
            if old.shape[:-2] != added.shape[:-2] or old.shape[-1] != added.shape[-1]:
                kept = (*old.shape[:-2], before, old.shape[-1])
                raise ValueError(f"the cache holds shape {kept}; {tuple(added.shape)} cannot follow it")
        if is_tracked(*new, *held.tensors):
            if self.size is not None:
                raise ValueError("a cache of fixed size is written in place, which no gradient survives; use Cache()")
            past = [t[..., :before, :] for t in held.tensors]
            tensors = [torch.cat(pair, dim=-2) for pair in zip(past, new, strict=True)] if past else list(new)
            bounds: tuple[Tensor, ...] = ()
        else:
            bounds = _bounds(held, new)
            tensors = held.tensors
            if not tensors or tensors[0].shape[-2] < after:
                room = self.size or max(after, 2 * before)
                tensors = [_roomier(t, before, room) for t in tensors or [n[..., :0, :] for n in new]]
            for t, added in zip(tensors, new, strict=True):
                t[..., before:after, :] = added
        self._held[owner] = _Held(tensors, after, bounds)
        found = tuple(t[..., :after, :] for t in tensors)
        for t, bound in zip(found, bounds, strict=False):
            note(t, bound)
        return found

    def once(self, owner: nn.Module, memory: Tensor, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """What `make` gives for this memory, made once: the keys and values of cross-attention."""
        version = None if memory.is_inference() else memory._version
        found = self._memories.get(owner)
        if found is None or found[0] is not memory or found[1] != version:
            found = self._memories[owner] = (memory, version, make())
            _note_all(found[2])
        return found[2]

    def select(self, rows: Tensor | Sequence[int], memory: Tensor | None = None) -> Tensor | None:
        """Keep these sequences, (B',) indices of the batch, in this order: what beam search does after each step.

        Keys of cross-attention stay, unless the `memory` that they were made from is given: then they follow too, and
        the memory of the chosen sequences is returned, to be handed over from then on.

        Raises:
            ValueError: rows that are no list of whole numbers.
        """
        rows = _places(rows)
        for owner, held in self._held.items():
            chosen_rows = [t.index_select(0, rows.to(t.device)) for t in held.tensors]
            self._held[owner] = _Held(chosen_rows, held.length, held.bounds)
        if memory is None:
            return None
        chosen = memory.index_select(0, rows.to(memory.device))
        version = None if chosen.is_inference() else chosen._version
        for owner, (made_from, _, tensors) in self._memories.items():
            if made_from is memory:
                kept = tuple(t.index_select(0, rows.to(t.device)) for t in tensors)
                self._memories[owner] = chosen, version, kept
                _note_all(kept)
        return chosen

    def crop(self, length: int) -> None:
        """Forget all positions from `length` on.

        Raises:
            ValueError: a negative length.
        """
        if length < 0:
            raise ValueError(f"a cache cannot be cropped to {length} positions")
        for owner, held in self._held.items():  # copies: maps of earlier calls look at the old ones
            kept = min(length, held.length)
            tensors = [_roomier(t, kept, self.size or kept) for t in held.tensors]
            self._held[owner] = _Held(tensors, kept, held.bounds)

    def __repr__(self) -> str:
        room = "" if self.size is None else f" of {self.size}"
        return f"Cache({self.length}{room} positions, {len(self._held)} modules)"


def _places(rows: Tensor | Sequence[int]) -> Tensor:
    t = as_tensor(rows)
    if t.ndim != 1 or (t.numel() and (t.dtype.is_floating_point or t.dtype.is_complex or t.dtype == torch.bool)):
        raise ValueError(
            f"rows must be whole numbers (B',), the sequences to keep, in order; got {t.dtype} of shape "
            f"{tuple(t.shape)}. Booleans choose as keep.nonzero()[:, 0]"
        )
    return t.to(torch.int64)


def _bounds(held: _Held, new: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """How long rows are at most, with these; nothing where what is held has no bounds, or a compiler looks on."""
    if is_traced() or (held.length and not held.bounds):
        return ()
    fresh = tuple(longest(t) for t in new)
    return tuple(map(torch.maximum, held.bounds, fresh)) if held.length else fresh


def _note_all(tensors: Sequence[Tensor]) -> None:
    """Pass over them once, instead of at each token that is generated."""
    if not (is_traced() or is_tracked(*tensors)):
        for t in tensors:
            note(t, longest(t))


def _roomier(t: Tensor, filled: int, room: int) -> Tensor:
    """A copy of the first positions, with room for more."""
    out = t.new_empty(*t.shape[:-2], room, t.shape[-1])
    out[..., :filled, :] = t[..., :filled, :]
    return out
