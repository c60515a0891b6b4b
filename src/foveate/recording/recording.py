"""`Recording`: what a model attended to, as an ordered mapping from module path to attention maps."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .calls import Call, CallInfo, CallSequence, build

if TYPE_CHECKING:
    from ..map import AttentionMap
    from .generation import Generation
    from .tensorfile import StoredTensor

__all__ = ["Notes", "Recording"]

_CACHE_BYTES = 1 << 30


@dataclass
class Notes:
    """What a recording knows beside its calls.

    `tokens[b]` are the real tokens of sequence b, without padding: `lengths[b]` of them from position `starts[b]`.
    The `target_` fields are those of the decoder of an encoder-decoder model. `prompt_lengths[b]` of what a decoder
    read were given, and the model wrote the rest.
    """

    model: str = ""
    tokens: list[list[str]] | None = None
    target_tokens: list[list[str]] | None = None
    lengths: list[int] | None = None
    starts: list[int] | None = None
    target_lengths: list[int] | None = None
    target_starts: list[int] | None = None
    input_ids: list[list[int]] | None = None
    target_ids: list[list[int]] | None = None
    prompt_lengths: list[int] | None = None
    not_captured: tuple[str, ...] = ()


class Recording(Mapping[str, Any]):
    """Module path -> `AttentionMap`, or a `CallSequence` of them where the module was called several times.

    Attributes: `model`, `tokens`, `target_tokens`, `lengths`, `starts`, `target_lengths`, `target_starts`,
    `input_ids`, `target_ids`, `prompt_lengths`, `not_captured`; all of them may be set. `complete` is False for what
    was rescued from an unfinished save.
    """

    def __init__(self, notes: Notes | None = None, calls: list[Call] | None = None):
        self._calls: dict[str, list[Call]] = {}
        self._order: list[Call] = []
        self._maps: OrderedDict[int, AttentionMap] = OrderedDict()
        self.complete = True
        self.path: str | None = None
        notes = notes or Notes()
        self.model = notes.model
        self.tokens, self.target_tokens = notes.tokens, notes.target_tokens
        self.lengths, self.starts = notes.lengths, notes.starts
        self.target_lengths, self.target_starts = notes.target_lengths, notes.target_starts
        self.input_ids, self.target_ids = notes.input_ids, notes.target_ids
        self.prompt_lengths = notes.prompt_lengths
        self.not_captured = notes.not_captured
        for call in calls or []:
            self._add(call)

    # --- the mapping

    def __getitem__(self, name: str) -> AttentionMap | CallSequence:
        calls = self._of(name)
        return self._map(calls[0]) if len(calls) == 1 else CallSequence(name, calls, self._map)

    def __iter__(self) -> Iterator[str]:
        return iter(self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    # --- what was recorded

    @property
    def layers(self) -> tuple[str, ...]:
        """The recorded module paths, in the order of their first call."""
        return tuple(self._calls)

    @property
    def heads(self) -> tuple[int, ...]:
        """Heads of each of `layers`."""
        return tuple(calls[0].info.heads for calls in self._calls.values())

    def info(self, name: str) -> CallInfo:
        """Kind, label, layer number, heads and class of a recorded module."""
        return self._of(name)[0].info

    def calls(self) -> Iterator[tuple[str, int, AttentionMap, CallInfo]]:
        """Every call in the order in which it happened: (name, step, map, info)."""
        for call in list(self._order):
            yield call.info.name, call.step, self._map(call), call.info

    def read(self, name: str, role: str, step: int = 0) -> Tensor | StoredTensor | None:
        """The "query", "key" or "value" of one call, to be sliced: from disk, only what is sliced is read."""
        return self._of(name)[step].read(role)

    def digest(self, name: str, step: int = 0) -> str | None:
        """Of a call on disk: changes with whatever its weights follow from. None in memory."""
        return self._of(name)[step].digest

    def extended(self, *calls: Call) -> Recording:
        """A recording in memory of the same calls, which are shared, and of others after them."""
        return Recording(self.notes, [*self._order, *calls])

    def generation(self) -> Generation | None:
        """What is known of the `generate()` that was recorded; None if no calls are steps of one."""
        from .generation import Generation

        return Generation.of(self)

    def joined(self, name: str) -> AttentionMap:
        """The calls of a generation as one map (B, H, N, N): the prompt's queries, then that of each generated token.

        Where beam search moved sequences about, each row is taken from where its sequence was at that step.

        Raises:
            ValueError: the calls of the module are not the steps of one generation; the text says why.
        """
        from .generation import join

        return join(self, name)

    @property
    def nbytes(self) -> int:
        """Bytes of queries, keys and values held in memory."""
        return sum(call.nbytes for call in self._order if not call.stored)

    @property
    def notes(self) -> Notes:
        """Everything but the calls."""
        return Notes(**{name: getattr(self, name) for name in Notes.__dataclass_fields__})

    # --- disk

    def save(self, path: str | PathLike[str], overwrite: bool = False) -> None:
        """Write the recording into a new directory `path`; it appears there whole or not at all.

        Raises:
            FileExistsError: `path` holds something that is no unfinished recording, and `overwrite` is False.
            RecordingError: a mask, score or normaliser that has no description.
        """
        from .writer import save  # the writer knows Recording

        save(self, path, overwrite=overwrite)

    def _of(self, name: str) -> list[Call]:
        if name in self._calls:
            return self._calls[name]
        close = difflib.get_close_matches(str(name), self._calls, n=3) or list(self._calls)[:3]
        raise KeyError(f"no recorded module {name!r}; there is {', '.join(map(repr, close)) or 'none at all'}")

    def _add(self, call: Call) -> None:
        self._calls.setdefault(call.info.name, []).append(call)
        self._order.append(call)

    def _map(self, call: Call) -> AttentionMap:
        """The map of a call, built on first use. Maps read from disk are kept up to 1 GB in all."""
        key = id(call)
        if key in self._maps:
            self._maps.move_to_end(key)
            return self._maps[key]
        self._maps[key] = found = build(call)
        held = [call for call in self._order if call.stored and id(call) in self._maps]
        excess = sum(c.nbytes for c in held) - _CACHE_BYTES
        if excess > 0:
            by_id = {id(c): c for c in held}
            for old in list(self._maps):
                if excess <= 0 or old == key:
                    break
                if old in by_id:
                    del self._maps[old]
                    excess -= by_id[old].nbytes
        return found

    def __repr__(self) -> str:
        if not self._order:
            return f"Recording of {self.model or 'a model'}: nothing recorded yet"
        modules, calls = len(self._calls), len(self._order)
        held = sum(call.nbytes for call in self._order) / 1e6
        where = f"on disk at {self.path}" if self.path else "held"
        lines = [
            f"Recording of {self.model or 'a model'}: {modules} modules, {calls} calls, {held:.1f} MB {where}"
            + ("" if self.complete else ", INCOMPLETE")
        ]
        for name in list(self._calls)[:6]:
            same = self._calls[name]
            times = "" if len(same) == 1 else f" x {len(same)} calls"
            lines.append(f"  {name}  {same[0].info.kind}  {same[0].shape}{times}")
        if modules > 6:
            lines.append(f"  ... and {modules - 6} more")
        if self.not_captured:
            lines.append(f"  not captured: {', '.join(self.not_captured[:3])}")
        return "\n".join(lines)
