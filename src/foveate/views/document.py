"""What a viewer is told before it asks for any weight: the tokens, the recorded calls, and where to look first.

The fields are those of the source protocol in docs/DESIGN.md, name for name; `as_json` writes them down.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from foveate.views.pictures import Picture
from foveate.views.words import Tokens

Level = Literal["token", "word"]
Direction = Literal["reads", "read_by"]
Side = Literal["source", "target"]
Kind = Literal["encoder", "decoder", "cross"]

LEVELS: tuple[Level, ...] = ("token", "word")
DIRECTIONS: tuple[Direction, ...] = ("reads", "read_by")


@dataclass(frozen=True)
class Sequence:
    """One text (and, for an encoder-decoder, the text it became). `picture`: what the source's tokens are parts of."""

    source: Tokens
    target: Tokens | None = None
    picture: Picture | None = None

    def side(self, side: Side) -> Tokens:
        tokens = self.source if side == "source" else self.target
        if tokens is None:
            raise ValueError("this sequence has no target text")
        return tokens

    def as_json(self) -> dict[str, Any]:
        return {
            "source": self.source.as_json(),
            "target": self.target.as_json() if self.target else None,
            "picture": self.picture.as_json() if self.picture else None,
        }


@dataclass(frozen=True)
class Call:
    """One attention call of the recorded model.

    `numbers`: those that its heads have in the module, where only some were recorded.
    """

    index: int
    name: str
    label: str
    step: int
    kind: Kind
    heads: int
    queries: int
    keys: int
    rows: Side
    columns: Side
    offset: int
    causal: bool
    dim: int
    values: bool
    score: str
    numbers: tuple[int, ...] | None = None

    def number_of(self, head: int) -> int:
        """What a head is called: its number in the module."""
        return head if self.numbers is None else self.numbers[head]


@dataclass(frozen=True)
class Focus:
    """Where the page looks first. Without a token it chooses a word in sight, and locks none.

    Without a head it draws the lines of all heads, or of `heads`.
    """

    token: int | None
    call: int = 0
    head: int | None = None
    sequence: int = 0
    direction: Direction = "reads"
    level: Level = "word"
    heads: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Alternative:
    """A token that could have come out, and how probable it was."""

    text: str
    probability: float


@dataclass(frozen=True)
class Step:
    """One step of a decoder: its token, and the most probable ones to come out, where they are known.

    `chosen` of them did.
    """

    token: int
    alternatives: tuple[Alternative, ...]
    chosen: int = 0


@dataclass(frozen=True)
class Decoding:
    """How targets were written, token by token.

    `calls` computed one row at each step, row `token - offset`; the page shows the first of them. `steps`: those of
    each sequence, in order. `own`: the row is what the token itself read, once it was there, and what came out is the
    next one, so that the first step is that of the last given token; else it is what was read to write its token.
    """

    calls: tuple[int, ...]
    steps: tuple[tuple[Step, ...], ...]
    own: bool = False


@dataclass(frozen=True)
class Beside:
    """An answer to compare with the document's own, and what gave it."""

    label: str
    text: str


@dataclass(frozen=True)
class Compared:
    """Another document that is shown beside this one: its id, and what both are called."""

    id: str
    label: str
    other: str


@dataclass(frozen=True)
class Document:
    """Everything that is not a weight."""

    id: str
    title: str
    model: str
    message: str
    sequences: tuple[Sequence, ...]
    calls: tuple[Call, ...]
    focus: Focus | None = None
    notes: tuple[str, ...] = field(default=())
    decoding: Decoding | None = None
    beside: tuple[Beside, ...] = ()
    compare: Compared | None = None

    def with_id(self, identifier: str) -> Document:
        return replace(self, id=identifier)

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "title": self.title,
            "model": self.model,
            "message": self.message,
            "sequences": [sequence.as_json() for sequence in self.sequences],
            "calls": [asdict(call) for call in self.calls],
            "focus": asdict(self.focus) if self.focus else None,
            "notes": list(self.notes),
            "decoding": asdict(self.decoding) if self.decoding else None,
            "beside": [asdict(one) for one in self.beside],
            "compare": asdict(self.compare) if self.compare else None,
        }
