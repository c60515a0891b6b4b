"""Which calls a recording holds: the facts of a document, read off shapes and metadata before any weight is computed.

A recording on disk stays there: a call's tensors are read when someone first looks at it.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch

from foveate.map import AttentionMap
from foveate.recording import Recording
from foveate.recording.calls import stack_of
from foveate.recording.generation import Generation, join
from foveate.views.document import Call, Kind, Side

KEPT_BYTES = 2 << 30  # of maps whose tensors came from disk

_CROSS_NAMES = ("cross", "encoder_attn", "encdecattention", "encoder_decoder")


@dataclass(frozen=True)
class Entry:
    """One recorded call: `shape` is (B, H, Q, K), of `groups` key heads; `build` gives its map."""

    name: str
    step: int
    shape: tuple[int, int, int, int]
    dim: int
    values: bool
    build: Callable[[], AttentionMap]
    stored: bool = False
    kind: str = ""
    label: str = ""
    numbers: tuple[int, ...] | None = None
    groups: int = 1
    digest: str | None = None

    @property
    def nbytes(self) -> int:
        """About how many bytes of memory its tensors take; none while they are on disk."""
        batch, heads, queries, keys = self.shape
        return 0 if self.stored else 4 * batch * heads * self.dim * (queries + (1 + self.values) * keys)

    @property
    def is_cross(self) -> bool:
        """Whether the keys are another text's: as recorded, or by the module's name."""
        lowered = self.name.lower().replace(".", "_")
        return self.kind == "cross" or (not self.kind and any(mark in lowered for mark in _CROSS_NAMES))


class Maps(Sequence[AttentionMap]):
    """The maps of all calls with the axes (batch, head, query, key) and float32 weights, built when first looked at."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self._built: OrderedDict[int, AttentionMap] = OrderedDict()
        self._lock = threading.Lock()  # of what is there; nobody waits for a disk to look at another call
        self._building = threading.Lock()

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: Any) -> Any:
        found = self._present(index)
        if found is None:
            with self._building:
                found = self._present(index)
                if found is None:
                    found = _canonical(self.entries[index].build())
                    with self._lock:
                        self._built[index] = found
                        self._make_room(index)
        return found

    def _present(self, index: int) -> AttentionMap | None:
        with self._lock:
            if index not in self._built:
                return None
            self._built.move_to_end(index)
            return self._built[index]

    def _make_room(self, newest: int) -> None:
        stored = [index for index in self._built if self.entries[index].stored and index != newest]
        held = sum(self._built[index].nbytes for index in stored)
        for index in stored:
            if held <= KEPT_BYTES:
                return
            held -= self._built.pop(index).nbytes


def entries_of(maps: Mapping[str, Any], generation: Generation | None = None) -> list[Entry]:
    """Every recorded call, in the order of the mapping; those that a generation joins are one.

    Raises:
        ValueError: there is none, or their batch sizes differ.
    """
    found = list(_recorded(maps, generation) if isinstance(maps, Recording) else _mapped(maps))
    if not found:
        raise ValueError("there is no attention to show: the recording is empty")
    batches = {entry.shape[0] for entry in found}
    if len(batches) > 1:
        raise ValueError(f"all calls must have the same batch size; got {sorted(batches)}")
    return found


def _recorded(recording: Recording, generation: Generation | None) -> Iterator[Entry]:
    for name in recording:
        info, stored = recording.info(name), recording.path is not None
        about = info.kind, info.label, info.numbers
        if generation is not None and name in generation.joined:
            query, key, values = next(_shapes(recording, name))
            shape, joined = _four(generation.joined[name]), partial(join, recording, name, generation)
            yield Entry(name, 0, shape, query[-1], values, joined, stored, *about, _groups(key))
            continue
        shapes = list(_shapes(recording, name))
        for step, (query, key, values) in enumerate(shapes):
            build = _builder(recording, name, step if len(shapes) > 1 else None)
            shape = _four((*query[:-1], key[-2]))
            of_call = _groups(key), recording.digest(name, step)
            yield Entry(name, step, shape, query[-1], values, build, stored, *about, *of_call)


def _shapes(recording: Recording, name: str) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], bool]]:
    """The shapes of query and key, and whether values were kept, for every call of a module; reads no tensor."""
    for step in itertools.count():
        try:
            query, key = recording.read(name, "query", step), recording.read(name, "key", step)
        except IndexError:
            return
        assert query is not None and key is not None
        yield tuple(query.shape), tuple(key.shape), recording.read(name, "value", step) is not None


def _builder(maps: Mapping[str, Any], name: str, step: int | None) -> Callable[[], AttentionMap]:
    def build() -> AttentionMap:
        entry = maps[name]
        return cast(AttentionMap, entry if step is None else entry[step])

    return build


def _mapped(maps: Mapping[str, Any]) -> Iterator[Entry]:
    for name, entry in maps.items():
        many = [entry] if isinstance(entry, AttentionMap) else list(entry)
        for step, one in enumerate(many):
            if not isinstance(one, AttentionMap):
                raise TypeError(f"expected an AttentionMap under {name!r}; got {type(one).__name__}")
            shape = one.problem.geometry.shape
            build = _builder(maps, name, None if isinstance(entry, AttentionMap) else step)
            groups = one.problem.k_BGKD.shape[1]
            yield Entry(name, step, shape, one.query.shape[-1], one.value is not None, build, groups=groups)


def _groups(key: tuple[int, ...]) -> int:
    return key[-3] if len(key) > 2 else 1


def _four(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    padded = (1,) * (4 - len(shape)) + tuple(shape)
    batch = 1
    for size in padded[:-3]:
        batch *= size
    return (batch, padded[-3], padded[-2], padded[-1])


def _canonical(one: AttentionMap) -> AttentionMap:
    p = one.problem
    value = one.value
    four = None if value is None else value.reshape(*p.k_BGKD.shape[:3], value.shape[-1])
    return AttentionMap(
        p.q_BHQD,
        p.k_BGKD,
        value=four,
        score=p.score,
        mask=p.mask,
        bias=p.bias,
        normalizer=p.normalizer,
        dtype=torch.float32,
    )


def calls_of(entries: list[Entry], maps: Maps, two_sided: bool, target_offset: int = 0) -> tuple[Call, ...]:
    """The calls of a document. `two_sided`: there is a target text too (an encoder-decoder); its token `target_offset`
    is query 0.
    """
    layers: dict[str, dict[str, int]] = {}
    calls: list[Call] = []
    latest: dict[str, Call] = {}
    reading = {stack_of(entry.name) for entry in entries if entry.is_cross} - {""}
    for index, entry in enumerate(entries):
        earlier = latest.get(entry.name)
        kind = earlier.kind if earlier else _kind(entry, maps, index, two_sided)
        causal = earlier.causal if earlier else kind == "decoder"
        if kind == "encoder" and stack_of(entry.name) in reading:
            kind = "decoder"  # of what reads the other side, whether or not it also sees what follows
        layer = layers.setdefault(kind, {}).setdefault(entry.name, len(layers[kind]))
        rows: Side = "target" if kind == "cross" or (two_sided and kind == "decoder") else "source"
        columns: Side = "source" if kind == "cross" else rows
        _, heads, queries, keys = entry.shape
        call = Call(
            index=index,
            name=entry.name,
            label=_label(kind, entry.label or f"layer {layer}", two_sided),
            step=entry.step,
            kind=kind,
            heads=heads,
            queries=queries,
            keys=keys,
            rows=rows,
            columns=columns,
            offset=_offset(kind, queries, keys, earlier, target_offset if rows == "target" else 0),
            causal=causal,
            dim=entry.dim,
            values=entry.values,
            score="" if entry.stored else _score_name(maps[index]),
            numbers=entry.numbers,
        )
        calls.append(call)
        latest[entry.name] = call
    return tuple(calls)


def _offset(kind: Kind, queries: int, keys: int, earlier: Call | None, first: int) -> int:
    """The token of query 0: positions align to the end; a step's cross-attention goes on where the last one ended."""
    if kind != "cross":
        return max(0, keys - queries) + first
    return earlier.offset + earlier.queries if earlier is not None and queries == 1 else first


def _label(kind: Kind, layer: str, two_sided: bool) -> str:
    return f"{kind} {layer}" if two_sided else layer


def _score_name(one: AttentionMap) -> str:
    return one.problem.score.name


def _kind(entry: Entry, maps: Maps, index: int, two_sided: bool) -> Kind:
    if entry.kind:
        return cast(Kind, entry.kind)
    if entry.is_cross:
        return "cross"
    if two_sided:
        return "decoder" if "decoder" in entry.name.lower() else "encoder"
    return "decoder" if _is_causal(maps[index]) else "encoder"


def _is_causal(one: AttentionMap) -> bool:
    """Whether the first query is kept from every key after its own."""
    queries, keys = one.shape[-2], one.shape[-1]
    if queries < 2 or keys < queries:
        return False
    seen = one.problem.allowed(slice(0, 1), slice(0, 1), slice(0, 1), slice(keys - queries + 1, keys))
    return seen is not None and not bool(seen.any())
