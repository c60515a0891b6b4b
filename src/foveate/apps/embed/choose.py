"""Which calls and heads of a source go into a page, and the document of these alone.

Layers are numbered as the page lists them, heads as the module numbers them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from foveate.apps.errors import UserError
from foveate.map import AttentionMap
from foveate.views.document import Call, Document, Focus
from foveate.views.source import Source
from foveate.watch.events import Event, NotExpressibleError
from foveate.watch.heads import of_heads

__all__ = ["Piece", "Which", "choose", "document_of"]

Which = int | str | Iterable[int | str] | None


@dataclass(frozen=True)
class Piece:
    """A call, number `at` of its source, as the page's document has it. `heads`: places of those that go in; None: all.

    `groups`: how many key heads these have at most.
    """

    at: int
    call: Call
    heads: tuple[int, ...] | None
    groups: int

    def map_of(self, source: Source) -> AttentionMap:
        """(B, H, Q, K) of the chosen heads.

        Raises:
            UserError: a part of the call cannot be told head by head.
        """
        one: AttentionMap = source.maps[self.at]
        if self.heads is None:
            return one
        p = one.problem
        whole = Event(p.q_BHQD, p.k_BGKD, one.value, mask=p.mask, bias=p.bias, score=p.score, normalizer=p.normalizer)
        try:
            few = of_heads(whole, self.heads)
        except NotExpressibleError as error:
            raise UserError(f"{self.call.label}: {error}") from None
        return AttentionMap(
            few.query,
            few.key,
            value=few.value,
            score=few.score,
            mask=few.mask,
            bias=few.bias,
            normalizer=few.normalizer,
            dtype=one.dtype,
        )


def choose(source: Source, layers: Which, heads: Which) -> list[Piece]:
    """The calls of some layers (numbers from 0, or globs over module names) with some of their heads (numbers).

    Raises:
        UserError: there is none of them; the text says which there are.
    """
    calls = source.document().calls
    names = list(dict.fromkeys(call.name for call in calls))
    wanted = set(names) if layers is None else _named(_listed(layers), names, calls)
    numbers = None if heads is None else _listed(heads)
    pieces: list[Piece] = []
    for call in calls:
        if call.name not in wanted:
            continue
        groups = source.maps.entries[call.index].groups
        own = [call.number_of(head) for head in range(call.heads)]
        if numbers is None:
            pieces.append(Piece(call.index, replace(call, index=len(pieces)), None, groups))
            continue
        kept = tuple(place for place, number in enumerate(own) if number in numbers)
        if not kept:
            continue
        fewer = replace(call, index=len(pieces), heads=len(kept), numbers=tuple(own[place] for place in kept))
        pieces.append(Piece(call.index, fewer, kept, min(groups, len(kept))))
    if numbers is not None:
        _check_heads(numbers, calls, wanted)
    return pieces


def document_of(source: Source, pieces: Sequence[Piece]) -> Document:
    """The source's document with these calls alone; what points at others is left out."""
    document = source.document()
    new = {piece.at: piece.call.index for piece in pieces}
    heads = {piece.at: piece.heads for piece in pieces}
    decoding, focus = document.decoding, document.focus
    if decoding is not None:
        calls = tuple(new[at] for at in decoding.calls if at in new)
        decoding = replace(decoding, calls=calls) if calls else None
    return replace(
        document,
        calls=tuple(piece.call for piece in pieces),
        decoding=decoding,
        compare=None,
        focus=None if focus is None or focus.call not in new else _moved(focus, new[focus.call], heads[focus.call]),
    )


def _moved(focus: Focus, call: int, heads: tuple[int, ...] | None) -> Focus:
    if heads is None:
        return replace(focus, call=call)
    head = heads.index(focus.head) if focus.head in heads else None
    drawn = focus.heads and (tuple(heads.index(one) for one in focus.heads if one in heads) or None)
    return replace(focus, call=call, head=head, heads=drawn)


def _listed(which: Which) -> list[int | str]:
    if which is None:
        return []
    found = [which] if isinstance(which, int | str) else list(which)
    for one in found:
        if isinstance(one, bool) or not isinstance(one, int | str):
            raise TypeError(f"layers and heads are chosen by numbers, layers by names too; got {type(one).__name__}")
    return found


def _named(wanted: list[int | str], names: list[str], calls: Sequence[Call]) -> set[str]:
    found: set[str] = set()
    for one in wanted:
        if isinstance(one, int):
            some = {names[one]} if 0 <= one < len(names) else set()
        else:
            some = {name for name in names if fnmatchcase(name, one) or name == one}
        if not some:
            labels = [next(call.label for call in calls if call.name == name) for name in names]
            shown = labels if len(labels) <= 6 else [*labels[:3], "...", labels[-1]]
            raise UserError(f"there is no layer {one}; there are 0 to {len(names) - 1}: {', '.join(shown)}")
        found |= some
    if not found:
        raise UserError("layers= names none; leave it out to take all")
    return found


def _check_heads(numbers: list[int | str], calls: Sequence[Call], wanted: set[str]) -> None:
    there = sorted({call.number_of(head) for call in calls if call.name in wanted for head in range(call.heads)})
    if not numbers:
        raise UserError("heads= names none; leave it out to take all")
    for number in numbers:
        if number not in there:
            gaps = there != list(range(len(there)))
            listed = ", ".join(map(str, there)) if gaps else f"0 to {len(there) - 1}"
            raise UserError(f"there is no head {number}; the chosen layers have heads {listed}")
