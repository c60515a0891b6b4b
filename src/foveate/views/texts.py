"""Which tokens the axes of a recording are: lists of strings in, the words of each sequence of the batch out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from foveate.views.document import Call, Side
from foveate.views.document import Sequence as Texts
from foveate.views.pictures import Picture
from foveate.views.words import Tokens, from_pieces, numbered

TokenLists = Sequence[str] | Tokens | Sequence[Sequence[str] | Tokens] | None


@dataclass(frozen=True)
class Script:
    """The texts of a batch, and the position at which each starts (padding on the left comes before it)."""

    texts: tuple[Texts, ...]
    starts: dict[Side, list[int]]


def script_of(
    maps: Mapping[str, Any],
    calls: Sequence[Call],
    batch: int,
    tokens: TokenLists,
    target_tokens: TokenLists,
    pictures: Sequence[Picture] = (),
) -> Script:
    """The tokens of every sequence, without padding where the recording says what is padding.

    Args:
        pictures: what the source's tokens are parts of, one for each sequence; their names, where there are no tokens.

    Raises:
        ValueError: the token lists, or the pictures, do not fit the batch or the lengths of the maps.
    """
    if pictures and len(pictures) != batch:
        raise ValueError(f"pictures must list one for each sequence of the batch, {batch}; got {len(pictures)}")
    if pictures and tokens is None:
        tokens = [one.tokens(_longest(calls, "source")) for one in pictures]
    _check_lengths(calls, "source")
    if pictures:
        _check_lengths(calls, "target")
    source, source_starts = _side(maps, "source", calls, batch, tokens)
    if pictures:
        source = [one.apart(names) for one, names in zip(pictures, source, strict=True)]
    shown = tuple(pictures) or (None,) * batch
    starts: dict[Side, list[int]] = {"source": source_starts}
    if not any("target" in (call.rows, call.columns) for call in calls):
        return Script(tuple(Texts(a, None, seen) for a, seen in zip(source, shown, strict=True)), starts)
    target, starts["target"] = _side(maps, "target", calls, batch, target_tokens)
    return Script(tuple(Texts(a, b, seen) for a, b, seen in zip(source, target, shown, strict=True)), starts)


def _check_lengths(calls: Sequence[Call], side: Side) -> None:
    """That all calls of modules called once are of the same text, as their lengths tell.

    Raises:
        ValueError: they are of several, such as those of two towers.
    """
    again = {call.name for call in calls if call.step}
    first: tuple[int, str] | None = None
    for call in calls:
        if side not in (call.rows, call.columns) or call.name in again:
            continue
        count = call.keys if call.columns == side else call.queries
        first = first or (count, call.name)
        if count != first[0]:
            raise ValueError(
                f"{first[1]} is of {first[0]} tokens, {call.name} of {count}: they are of different texts or pictures; "
                "record the modules of one, as by watch(model, layers=[...])"
            )


def _longest(calls: Sequence[Call], side: Side) -> int:
    return max(
        [call.offset + call.queries for call in calls if call.rows == side]
        + [call.keys for call in calls if call.columns == side]
    )


def _side(
    maps: Mapping[str, Any], side: Side, calls: Sequence[Call], batch: int, given: TokenLists
) -> tuple[list[Tokens], list[int]]:
    prefix, name = ("", "tokens") if side == "source" else ("target_", "target_tokens")
    longest = _longest(calls, side)
    lengths = getattr(maps, f"{prefix}lengths", None)
    starts = getattr(maps, f"{prefix}starts", None) or [0] * batch
    lists = [numbered(longest)] * batch if given is None else _lists(name, given, batch)
    stepped = any(call.offset for call in calls if call.rows == side)
    for start, length in zip(starts, lengths or [0] * batch, strict=True):
        if not 0 <= start <= start + length or (start + length > longest and not stepped):
            raise ValueError(f"a text of the recording lies outside its {longest} positions: {length} from {start}")
    if lengths is not None:
        lists = [_cut(one, start, n) for one, start, n in zip(lists, starts, lengths, strict=True)]
    if stepped:  # steps of a generation: every sequence of the batch must count positions alike
        lists = [_padded(one, start).cut(longest) for one, start in zip(lists, starts, strict=True)]
        starts = [0] * batch
    for one, start in zip(lists, starts, strict=True):
        if len(one) + start > longest or (batch == 1 and not stepped and lengths is None and len(one) != longest):
            raise ValueError(f"{name} must have one entry for each position of the maps, {longest}; got {len(one)}")
    return lists, list(starts)


def _lists(name: str, given: TokenLists, batch: int) -> list[Tokens]:
    flat = isinstance(given, Tokens) or all(isinstance(item, str) for item in cast(Iterable[Any], given))
    many = cast(Sequence[Any], [given] if flat else given)
    if len(many) != batch:
        raise ValueError(f"{name} must list one sequence for each of the batch, {batch}; got {len(many)}")
    return [one if isinstance(one, Tokens) else from_pieces(one) for one in many]


def _cut(one: Tokens, start: int, length: int) -> Tokens:
    """The real tokens, whether or not the list still has the padding around them."""
    return one if len(one) <= length else one.part(start, start + length)


def _padded(one: Tokens, count: int) -> Tokens:
    return Tokens(
        ("·",) * count + one.text,
        tuple(range(count)) + tuple(number + count for number in one.word),
        (True,) * count + one.special,
    )
