"""One alignment out of two: what the directions agree on, and how far to go from there to all that either of them says.

The heuristics are those of Koehn, Och and Marcu (2003) and Koehn et al. (2005), exactly as Moses' `symal` runs them:
the order in which words are visited, which decides between links that exclude each other, is part of the definition.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from .links import Link, Links
from .readings import hard

__all__ = ["METHODS", "merged", "symmetrize"]

METHODS = ("union", "intersection", "grow-diag", "grow-diag-final", "grow-diag-final-and")

# (source, target), in symal's order
_NEIGHBOURS = ((0, -1), (-1, 0), (0, 1), (1, 0), (-1, -1), (1, -1), (-1, 1), (1, 1))


def symmetrize(forward: Iterable[Link], backward: Iterable[Link], method: str = "grow-diag-final-and") -> Links:
    """Merge the links of two directions.

    Args:
        forward, backward: links, *both* as (source, target): swap those of a model that translates the other way. For
            what Moses gives, `forward` has at most one link per target word, `backward` at most one per source word.
        method: `"intersection"`, `"union"`, or what lies between: `"grow-diag"` starts from the intersection and takes
            links of the union that touch a link already taken, also at a corner, and bring in a word that has none;
            `"grow-diag-final"` then takes links of `forward`, after them of `backward`, that bring in a word;
            `"grow-diag-final-and"` takes of these only links between two words that have none.

    Raises:
        ValueError: `method` is none of these.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; expected one of {', '.join(METHODS)}")
    forward, backward = frozenset(forward), frozenset(backward)
    union = forward | backward
    if method == "union" or forward == backward:
        return union
    if method == "intersection":
        return forward & backward
    taken = _Taken(forward & backward)
    _grow(taken, union)
    if method != "grow-diag":
        for links in (forward, backward):
            _finish(taken, links, both=method == "grow-diag-final-and")
    return frozenset(taken.links)


def merged(word_weights: Tensor, method: str = "grow-diag-final-and", *, threshold: float = 0.0) -> Links:
    """Links of one model from both ends: the largest weight of each target word and of each source word, merged.

    Args:
        word_weights: (target words, source words).
        method: as in `symmetrize`; `"intersection"` are the links that are the largest at both ends.
        threshold: no link has a smaller weight.
    """
    ends = [hard(word_weights, how, threshold=threshold) for how in ("target", "source")]
    return symmetrize(ends[0], ends[1], method)


class _Taken:
    """Links taken so far, and the words that they cover."""

    def __init__(self, links: Links) -> None:
        self.links = set(links)
        self.sources = {source for source, _ in links}
        self.targets = {target for _, target in links}

    def add(self, link: Link) -> None:
        self.links.add(link)
        self.sources.add(link[0])
        self.targets.add(link[1])

    def new_words(self, link: Link) -> int:
        return (link[0] not in self.sources) + (link[1] not in self.targets)


def _in_order(links: Links) -> list[Link]:
    """Target word by target word, as symal goes through them."""
    return sorted(links, key=lambda link: (link[1], link[0]))


def _grow(taken: _Taken, union: Links) -> None:
    places = _in_order(union)  # only these can be taken, so that what is added further down is met in the same pass
    added = True
    while added:
        added = False
        for source, target in places:
            if (source, target) not in taken.links:
                continue
            for right, down in _NEIGHBOURS:
                link = source + right, target + down
                if link in union and taken.new_words(link):
                    taken.add(link)
                    added = True


def _finish(taken: _Taken, links: Links, *, both: bool) -> None:
    for link in _in_order(links - taken.links):
        if taken.new_words(link) >= (2 if both else 1):
            taken.add(link)
