"""All that a survey knows after some texts: a reducer made of reducers, and its form on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .links import Links
from .means import Means
from .measures import MEANS
from .profile import Profile
from .redundancy import Agreement

__all__ = ["Example", "Layer", "State"]

_CLASSES = ("encoder", "decoder", "cross")


@dataclass(frozen=True)
class Layer:
    """A call of an attention module in every pass: `call` counts those of the same module."""

    module: str
    layer: int | None
    kind: str
    heads: int
    call: int = 0


@dataclass(frozen=True)
class Example:
    """A strong link: the text by its number, row and key in it, the weight, and the tokens around both."""

    text: int
    row: int
    key: int
    weight: float
    query_token: str
    key_token: str
    around_query: tuple[str, ...]  # tokens; of a long text some on either side
    around_key: tuple[str, ...]
    at_query: int  # which of those around it is
    at_key: int


@dataclass(eq=False)
class State:
    """Sums over texts, for all heads in the order of `layers`. `examples` tell of the links that are kept."""

    layers: tuple[Layer, ...]
    links: bool = True
    compared: bool = True
    texts: int = 0
    tokens: int = 0
    cut: int = 0
    about: dict[str, Any] = field(default_factory=dict)  # equal in all parts that may be merged
    missed: tuple[str, ...] = ()
    examples: dict[tuple[int, int, int, int], Example] = field(default_factory=dict)  # by head, text, row, key

    def __post_init__(self) -> None:
        n = self.heads
        self.means, self.profile, self.strongest = Means(n, len(MEANS)), Profile(n), Links(n)
        self.copy = torch.full((n,), torch.nan, dtype=torch.float64)
        kinds = [kind for kind in _CLASSES if any(layer.kind == kind for layer in self.layers)]
        self.agreement = {kind: Agreement(len(self.of_kind(kind))) for kind in kinds} if self.compared else {}

    @property
    def heads(self) -> int:
        return sum(layer.heads for layer in self.layers)

    def of_layers(self) -> Iterator[tuple[Layer, slice]]:
        """Each layer and the places of its heads."""
        first = 0
        for layer in self.layers:
            yield layer, slice(first, first + layer.heads)
            first += layer.heads

    def of_kind(self, kind: str) -> list[int]:
        """Heads of a class."""
        return [h for layer, at in self.of_layers() if layer.kind == kind for h in range(at.start, at.stop)]

    def merge(self, other: State) -> None:
        """Add what came out of other texts.

        Raises:
            ValueError: it is of another model.
        """
        if (self.layers, self.about) != (other.layers, other.about):
            raise ValueError("parts of a survey are of different models or options; remove them and begin anew")
        self.means.merge(other.means)
        self.profile.merge(other.profile)
        self.strongest.merge(other.strongest)
        for kind, mine in self.agreement.items():
            mine.merge(other.agreement[kind])
        self.texts, self.tokens, self.cut = (
            self.texts + other.texts,
            self.tokens + other.tokens,
            self.cut + other.cut,
        )
        self.missed = tuple(sorted({*self.missed, *other.missed}))
        known = {**self.examples, **other.examples}
        self.examples = {at: known[at] for at in self.places() if at in known}

    def places(self) -> Iterator[tuple[int, int, int, int]]:
        """Head, text, row and key of each link kept, the strongest of each head first."""
        for head, links in enumerate(self.strongest.place.tolist()):
            yield from ((head, *link) for link in links if link[0] >= 0)

    def explain(self, example: Callable[[Layer, float, tuple[int, int, int]], Example]) -> None:
        """Have `example` tell of each link kept that is not known yet."""
        layer_of = [layer for layer, at in self.of_layers() for _ in range(at.start, at.stop)]
        for at in self.places():
            head, *link = at
            if at not in self.examples:
                place = self.strongest.place[head].tolist().index(link)
                weight = float(self.strongest.weight[head, place])
                self.examples[at] = example(layer_of[head], weight, (link[0], link[1], link[2]))

    # on disk

    def tensors(self) -> dict[str, Tensor]:
        """Its numbers; `to_bytes` writes them, `of_bytes` reads them back."""
        named = {"means": self.means.sums, "copy": self.copy}
        named |= dict(zip(("offsets", "pairs", "squares", "even"), self.profile.state(), strict=True))
        named |= {"weight": self.strongest.weight, "place": self.strongest.place}
        for kind, one in self.agreement.items():
            named |= {f"agreement.{kind}": one.pairs, f"compared.{kind}": one.counts}
        return named

    def to_bytes(self) -> bytes:
        """A safetensors file. The same state gives the same bytes."""
        facts = {
            "layers": [asdict(layer) for layer in self.layers],
            "links": self.links,
            "compared": self.compared,
            "counts": [self.texts, self.tokens, self.cut],
            "about": self.about,
            "missed": self.missed,
            "examples": [[list(at), asdict(one)] for at, one in self.examples.items()],
        }
        return save(self.tensors(), {"survey": json.dumps(facts, sort_keys=True)})

    @classmethod
    def of_bytes(cls, data: bytes) -> State:
        """The state that `to_bytes` wrote.

        Raises:
            ValueError: these are other bytes.
        """
        try:
            size = int.from_bytes(data[:8], "little")
            facts = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["survey"])
            tensors = load(data)
            texts, tokens, cut = facts["counts"]
            found = cls(
                tuple(Layer(**layer) for layer in facts["layers"]),
                facts["links"],
                facts["compared"],
                texts,
                tokens,
                cut,
                facts["about"],
                tuple(facts["missed"]),
                {tuple(at): _example(one) for at, one in facts["examples"]},
            )
            for name, mine in found.tensors().items():
                mine.copy_(tensors[name])
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"this is no part of a survey ({type(error).__name__})") from None
        return found


def _example(facts: dict[str, Any]) -> Example:
    around = {name: tuple(facts[name]) for name in ("around_query", "around_key")}
    return Example(**{**facts, **around})
