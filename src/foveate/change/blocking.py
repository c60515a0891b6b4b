"""Single links taken away: a query may not read a key, and the rest of its row is what it would be under a mask."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from ..shapes import whole
from ..watch.standing import kind_of, some
from .errors import ChangeError, ChangeWarning
from .intervention import Intervention
from .naming import Pair
from .places import Places
from .reading import Reading
from .texts import positions_of

__all__ = ["Blocking", "links_of"]

Link = tuple[int, int]


class Blocking(Intervention):
    """Takes links away, of some heads or of all attention of one kind."""

    reweighs = True

    def __init__(
        self, model: nn.Module, links: list[Link], pairs: list[Pair] | None, kind: str | None, of: list[int] | None
    ) -> None:
        super().__init__(model, pairs or [])
        self.links, self.everywhere, self.kind, self.sequences = links, pairs is None, kind, of
        self.gone: set[Link] = set()
        self.kinds: dict[str, str] = {}
        self.places = Places()

    @property
    def empty(self) -> bool:
        return not self.links or not (self.everywhere or self.chosen)

    def __enter__(self) -> None:
        self.gone, self.kinds, self.places = set(), {}, Places()
        super().__enter__()

    def changes_inside(self, module: nn.Module) -> bool:
        return self.everywhere or super().changes_inside(module)

    def wants(self, name: str) -> bool:
        return super().wants(name) or self.everywhere

    def reweigh(self, reading: Reading) -> None:
        kind = kind_of(reading.name, reading.module, reading.event)
        if self.everywhere:
            if self.kind not in (None, kind):
                return
            self.kinds.setdefault(kind, reading.name)
            if len(self.kinds) > 1:
                found = " and ".join(f"{kind} ({name})" for kind, name in self.kinds.items())
                raise ChangeError(f"attention is of several kinds, {found}: say which, kind=, or name heads=")
            heads: Sequence[int] = range(reading.heads)
        else:
            heads = sorted(set(self.heads_of(reading.name, reading.heads).values()))
        if self.sequences is not None and max(self.sequences) >= reading.batch:
            raise ChangeError(f"sequence {max(self.sequences)} of a batch of {reading.batch} at {reading.name}")
        first_query, first_key = self.places.of(reading, kind)
        here = {
            (query, key): (query - first_query, key - first_key)
            for query, key in self.links
            if 0 <= query - first_query < reading.queries and 0 <= key - first_key < reading.keys
        }
        if here:
            could = reading.unlink(torch.tensor(list(here.values())), heads, self.sequences)
            self.gone |= {link for link, was in zip(here, could.tolist(), strict=True) if was}

    def ended(self) -> None:
        super().ended()
        if self.everywhere and not self.ran:
            raise ChangeError("nothing was blocked: no attention that can be changed ran inside the `with`")
        missing = [link for link in self.links if link not in self.gone]
        if not missing:
            return
        told = f"no query could read its key at {some(map(str, missing))} anyway, or no such positions were seen"
        if len(missing) == len(set(self.links)):
            raise ChangeError(f"nothing was blocked: {told}. Links are (query, key) pairs")
        warnings.warn(f"some links were not there: {told}", ChangeWarning, stacklevel=3)


def links_of(links: Iterable[Any], queries: list[str] | None, keys: list[str] | None) -> list[Link]:
    """(query, key) positions; a word of several tokens is all of them.

    Raises:
        ValueError: a link that is no pair, a position below 0, or a word that is not there just once.
    """
    found: dict[Link, None] = {}
    given = list(links)
    if len(given) == 2 and all(isinstance(end, int | str) for end in given):
        given = [tuple(given)]
    for link in given:
        if not isinstance(link, tuple | list) or len(link) != 2:
            raise ValueError(f"links are pairs (query, key) of positions or words; got {link!r}")
        ends = [_end(*each) for each in ((link[0], queries, "the query"), (link[1], keys, "the key"))]
        found.update({(query, key): None for query in ends[0] for key in ends[1]})
    return list(found)


def _end(end: Any, tokens: list[str] | None, what: str) -> list[int]:
    if isinstance(end, str):
        return positions_of(end, tokens, what)
    place = whole(end, f"the position of {what}")
    if place < 0:
        raise ValueError(f"positions count from 0; {what} is at {place}")
    return [place]
