"""One call of one attention module, held in memory or on disk."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, overload

import torch
from torch import Tensor

from ..map import AttentionMap
from .tensorfile import StoredTensor

__all__ = ["KINDS", "ROLES", "Call", "CallInfo", "CallSequence", "MemoryCall", "layer_of", "stack_of"]

KINDS = ("encoder", "decoder", "cross")
ROLES = ("query", "key", "value")


@dataclass(frozen=True)
class CallInfo:
    """What is known of a recorded module.

    `kind`: "encoder" (every token sees every token), "decoder" (causal) or "cross" (queries and keys come from
    different sequences). `layer` counts from 0 within its stack; `module` is the module's class. `numbers` are the
    numbers that its recorded heads have in the module; None: those of all, 0, 1, 2, ...
    """

    name: str
    kind: str
    label: str
    layer: int | None
    heads: int
    module: str
    numbers: tuple[int, ...] | None = None


class Call(Protocol):
    """A recorded call: the arguments of its AttentionMap, here or on disk."""

    info: CallInfo
    step: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., heads, queries, keys)"""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of query, key and value."""
        ...

    @property
    def stored(self) -> bool:
        """Whether the tensors are on disk."""
        ...

    @property
    def digest(self) -> str | None:
        """Changes with whatever the call's weights follow from; None in memory."""
        ...

    def read(self, role: str) -> Tensor | StoredTensor | None:
        """The query, key or value, to be sliced."""
        ...

    @property
    def options(self) -> dict[str, Any]:
        """AttentionMap's keyword arguments, but query, key and value."""
        ...

    def arguments(self) -> dict[str, Any]:
        """What AttentionMap takes, all of it in memory."""
        ...


@dataclass
class MemoryCall:
    """A call whose tensors are in memory. `options` are AttentionMap's keyword arguments."""

    info: CallInfo
    step: int
    query: Tensor
    key: Tensor
    value: Tensor | None
    options: dict[str, Any] = field(default_factory=dict)
    stored: bool = False
    digest: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.query.shape[:-1], self.key.shape[-2])

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for t in (self.query, self.key, self.value) if t is not None)

    def read(self, role: str) -> Tensor | None:
        if role not in ROLES:
            raise KeyError(f"unknown role {role!r}; expected one of {', '.join(ROLES)}")
        tensor: Tensor | None = getattr(self, role)
        return tensor

    def arguments(self) -> dict[str, Any]:
        return {"query": self.query, "key": self.key, "value": self.value, **self.options}


def build(call: Call) -> AttentionMap:
    """The map of a call. Queries kept in fp16 give numbers in the model's own dtype."""
    arguments = call.arguments()
    return AttentionMap(arguments.pop("query"), arguments.pop("key"), **arguments)


class CallSequence(Sequence[AttentionMap]):
    """The calls of one module in the order in which they happened: generation steps, shared layers, several runs."""

    def __init__(self, name: str, calls: list[Call], build: Any):
        self.name = name
        self._calls, self._build = calls, build

    def __len__(self) -> int:
        return len(self._calls)

    @overload
    def __getitem__(self, index: int) -> AttentionMap: ...

    @overload
    def __getitem__(self, index: slice) -> list[AttentionMap]: ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._build(call) for call in self._calls[index]]
        try:
            return self._build(self._calls[index])
        except IndexError:
            raise IndexError(f"{self.name!r} was called {len(self)} times; there is no call {index}") from None

    def __iter__(self) -> Iterator[AttentionMap]:
        return (self._build(call) for call in self._calls)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """(..., heads, queries, keys) of each call."""
        return [call.shape for call in self._calls]

    def __repr__(self) -> str:
        shapes = [str(shape) for shape in self.shapes]
        shown = ", ".join(shapes if len(shapes) <= 4 else [*shapes[:2], "...", shapes[-1]])
        return f"CallSequence({self.name!r}, {len(self)} calls: {shown})"


def layer_of(name: str) -> int | None:
    """The layer number in a module path: its last plain number ("encoder.block.3.layer.0" is layer 3).

    >>> layer_of("encoder.layer.3.attention.self"), layer_of("encoder.block.3.layer.0.SelfAttention"), layer_of("attn")
    (3, 3, None)
    """
    block = re.search(r"(?:^|\.)(?:block|blocks|h|layers|resblocks)\.(\d+)(?:\.|$)", name)
    numbers = re.findall(r"(?:^|\.)(\d+)(?=\.|$)", name)
    return int(block.group(1)) if block else int(numbers[-1]) if numbers else None


def stack_of(name: str) -> str:
    """What a module's layer is one of: the path before the last number in it; without one, nothing.

    >>> stack_of("text_encoder.encoder.layer.3.crossattention.self"), stack_of("attn")
    ('text_encoder.encoder.layer', '')
    """
    found = re.match(r"(.*)\.\d+(?=\.|$)", name)
    return found.group(1) if found else ""


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
