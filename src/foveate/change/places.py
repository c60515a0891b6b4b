"""Where the rows and columns of a call stand in the text: with a cache, neither begins at 0."""

from __future__ import annotations

from typing import Any

from ..nn.cache import Cache
from ..watch.frames import frames
from .errors import ChangeError
from .reading import Reading

__all__ = ["Places"]


class Places:
    """Positions of calls. It remembers which modules were asked with one query, as such steps cannot be counted."""

    def __init__(self) -> None:
        self.single: set[str] = set()

    def of(self, reading: Reading, kind: str) -> tuple[int, int]:
        """The positions of the first query and of the first key of a call.

        Raises:
            ChangeError: attention to another sequence that is asked one query at a time, and keeps no cache.
        """
        queries, keys = reading.queries, reading.keys
        read = _read(reading)
        if kind == "cross":
            if read is None or read < queries:
                if queries == 1 and reading.name in self.single:
                    raise ChangeError(
                        f"{reading.name} is asked one query at a time and without a cache, so nobody knows which "
                        "position it is; give the model the whole target at once"
                    )
                if queries == 1:
                    self.single.add(reading.name)
                return 0, 0
            return read - queries, 0
        if read is None or read < queries:
            return keys - queries, 0
        return read - queries, max(0, read - keys)


def _read(reading: Reading) -> int | None:
    """How many positions the cache of the running module, or of what called it, has read, this call included."""
    running = [frame for frame in frames() if frame.module is reading.module] or frames()[-1:]
    at = frames().index(running[-1])
    for frame in reversed(frames()[max(0, at - 1) : at + 1]):
        for thing in (*frame.kwargs.values(), *frame.args):
            length = _length(thing, reading.module)
            if length is not None:
                return length
    return None


def _length(thing: Any, module: Any) -> int | None:
    if isinstance(thing, Cache):
        return thing.length_of(module) or thing.length
    if not hasattr(thing, "get_seq_length"):
        return None
    layer = getattr(module, "layer_idx", None)
    return int(thing.get_seq_length() if layer is None else thing.get_seq_length(layer))
