"""What a page says of itself: which of its numbers are exact, which rounded, which pooled, and what is not in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["notes_of"]


def notes_of(calls: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """A sentence or two for each way in which calls are in the page; none for a short page of unrounded numbers."""
    notes: list[str] = []
    exact = [call for call in calls if "top" not in call]
    listed = [call for call in calls if "top" in call]
    for few in (exact, listed):
        if few:
            sentence = _exact(few) if few is exact else _listed(few)
            if sentence:
                both = f"{len(few)} of {len(calls)} calls: " if exact and listed else ""
                notes.append(both + sentence)
    return tuple(notes)


def _exact(calls: Sequence[Mapping[str, Any]]) -> str:
    rounded = any(call["query"]["dtype"] == "float16" for call in calls)
    zooms = sorted({call["overview"]["max"]["zoom"] for call in calls if call["overview"]})
    if not rounded and not zooms:
        return ""
    kept = " kept as float16" if rounded else ""
    if not zooms:
        return f"Every number is computed in this page, from queries and keys{kept}."
    side = " or ".join(str(1 << zoom) for zoom in zooms)
    return (
        f"Rows, columns and close views of the map are computed in this page, from queries and keys{kept}. The map "
        f"from afar is pooled: a pixel is the largest weight of {side} × {side} tokens."
    )


def _listed(calls: Sequence[Mapping[str, Any]]) -> str:
    k = max(call["top"]["k"] for call in calls)
    sides = sorted({1 << call["overview"]["max"]["zoom"] for call in calls})
    side = " or ".join(map(str, sides))
    pooled = f"the largest weight of {side} × {side} tokens" if sides != [1] else "a weight to 3 %"
    return (
        f"Of each row this page holds the {k} largest weights, as float16; the others, queries, keys and values are "
        f"not in it. The map from afar is pooled: a pixel is {pooled}. To have every number, export fewer heads."
    )
