"""Some texts of a corpus through the model: each attention call is measured as it happens, and let go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..map import AttentionMap
from ..recording import CallInfo
from ..watch.listening import Listening
from .batches import Batch, Encoded, Side, batched
from .copying import copy_scores
from .redundancy import Compared
from .sampling import SAMPLE
from .state import Example, Layer, State
from .subject import Subject, Text
from .sums import Pieces, added

__all__ = ["Options", "measure"]

PROBE = 4  # tokens that tell which modules there are
AROUND = 12  # tokens shown on either side of an example's


@dataclass(frozen=True)
class Options:
    """What is measured: at most `rows` rows of a text, spread evenly; what costs most only if asked for."""

    rows: int = SAMPLE
    agreement: bool = True
    examples: bool = True
    positional: bool = True
    layers: tuple[str | int, ...] | None = None

    @classmethod
    def of(cls, wanted: Iterable[str], *, rows: int, examples: bool, layers: Iterable[str | int] | None) -> Options:
        """What these measures need."""
        chosen = set(wanted)
        which = None if layers is None else tuple(layers)
        return cls(rows, "redundancy" in chosen, examples, "positional" in chosen, which)


class _Pass:
    """Hears the calls of one pass after another, and adds what they are to the state."""

    def __init__(self, options: Options, two_sided: bool) -> None:
        self.options, self.two_sided = options, two_sided
        self.heard: list[Layer] = []
        self.state: State | None = None
        self.batch: Batch | None = None
        self._pieces: dict[tuple[str, int, int], Pieces] = {}
        self._compared: dict[str, Compared] = {}
        self._places: list[tuple[Layer, slice]] = []
        self._within: dict[Layer, slice] = {}  # places of a layer's heads among those of its class

    def hear(self, info: CallInfo, call: AttentionMap) -> None:
        layer = Layer(info.name, info.layer, info.kind, info.heads, sum(one.module == info.name for one in self.heard))
        self.heard.append(layer)
        if self.state is None or self.batch is None:
            return
        expected, heads = next(
            ((one, at) for one, at in self._places if one == layer),
            (None, slice(0, 0)),
        )
        if expected is None:
            raise ValueError(
                f"{layer.module} attends in another way than at first: {layer}; a survey needs the same calls"
            )
        pieces = self._cut(layer, call)
        compared = self._rows_compared(layer.kind, pieces)
        least = self.state.strongest.least(heads) if self.options.examples else None
        within = self._within[layer]
        take = None if compared is None else lambda piece, w: compared.take(piece, within, w)
        found = added(call.problem, pieces, offsets=self.options.positional, least=least, take=take)
        self.state.means.update(heads, found.means, found.counts)
        if pieces.same and self.options.positional:
            numbers = self.batch.numbers
            self.state.profile.update(heads, numbers, found.profile, found.pairs, found.squares, found.even)
        if least is not None:
            self.state.strongest.update(heads, self.batch.numbers, found.best, found.place)

    def begin(self, batch: Batch | None) -> None:
        """What is heard next is of this batch."""
        self.batch, self.heard = batch, []
        self._pieces.clear()
        self._compared.clear()

    def end(self) -> None:
        """All calls of the batch have been heard."""
        assert self.state is not None
        if sorted(map(repr, self.heard)) != sorted(map(repr, self.state.layers)):
            raise ValueError(
                "a pass made other attention calls than the first one; a survey needs the same of every text"
            )
        for kind, compared in self._compared.items():
            compared.into(self.state.agreement[kind])
        self.begin(None)

    def start(self) -> State:
        """What was heard is what every pass will do."""
        self.state = State(tuple(self.heard), self.options.examples, self.options.agreement)
        self._places = list(self.state.of_layers())
        for kind in {layer.kind for layer in self.heard}:
            places = {h: at for at, h in enumerate(self.state.of_kind(kind))}
            self._within |= {
                layer: slice(places[at.start], places[at.start] + layer.heads)
                for layer, at in self._places
                if layer.kind == kind
            }
        return self.state

    def _cut(self, layer: Layer, call: AttentionMap) -> Pieces:
        heads, rows, keys = call.shape[1:]
        known = (layer.kind, heads, keys)
        if known not in self._pieces:
            assert self.batch is not None
            queries, source = sides(self.batch, layer.kind)
            if rows != queries.ids.shape[1] or call.shape[0] != len(queries.lengths):
                raise ValueError(
                    f"{layer.module} has queries {(call.shape[0], rows)} for texts {tuple(queries.ids.shape)}; "
                    "a survey needs a query for each token"
                )
            self._pieces[known] = Pieces(
                queries, source.sized(keys), layer.kind != "cross", layer.kind == "decoder", heads, self.options.rows
            )
        return self._pieces[known]

    def _rows_compared(self, kind: str, pieces: Pieces) -> Compared | None:
        if not self.options.agreement:
            return None
        if kind not in self._compared:
            assert self.state is not None
            self._compared[kind] = Compared(pieces, len(self.state.of_kind(kind)))
        return self._compared[kind]


def sides(batch: Batch, kind: str) -> tuple[Side, Side]:
    """The texts that queries and keys of a kind of attention are of."""
    if kind == "encoder" or batch.target is None:
        return batch.source, batch.source
    return batch.target, batch.source if kind == "cross" else batch.target


def measure(subject: Subject, texts: Sequence[tuple[int, Text]], options: Options) -> State:
    """All measures of these numbered texts.

    Raises:
        CaptureError: no attention of the model can be seen.
        ValueError: something is no text, or the model calls its attention in another way for some text.
    """
    before = subject.cut
    encoded = subject.encode(texts)
    listening = _Pass(options, subject.two_sided)
    layers = None if options.layers is None else list(options.layers)
    with Listening(subject.model, listening.hear, layers) as seen:
        probe = min(encoded, key=lambda one: one.number)
        first = Encoded(probe.number, probe.ids[:PROBE], None if probe.target is None else probe.target[:PROBE])
        subject.run(_batches(subject, [first], options)[0])
        state = listening.start()
        for batch in _batches(subject, encoded, options):
            listening.begin(batch)
            subject.run(batch)
            listening.end()
    state.copy = subject.once("copy", lambda: copy_scores(subject, state.layers))
    digest = subject.once("digest", subject.digest)
    state.about = {"name": subject.name, "model": digest, "rows": options.rows, "options": repr(options)}
    state.texts, state.cut = len(encoded), subject.cut - before
    state.tokens = sum(len(one.ids) for one in encoded)
    state.missed = tuple(seen.not_captured)
    known = {one.number: one for one in encoded}
    state.explain(lambda layer, weight, link: _example(subject, known[link[0]], layer.kind, weight, link))
    return state


def _batches(subject: Subject, texts: Iterable[Encoded], options: Options) -> list[Batch]:
    return batched(list(texts), subject.special, subject.pad, whole=options.rows, mixed=subject.mixed)


def _example(subject: Subject, text: Encoded, kind: str, weight: float, link: tuple[int, int, int]) -> Example:
    """A link with its tokens and those around them."""
    _, row, key = link
    rows = text.target if text.target is not None and kind != "encoder" else text.ids
    keys = text.ids if kind == "cross" else rows
    around = []
    for ids, at in ((rows, row), (keys, key)):
        first = max(0, at - AROUND)
        shown = tuple(subject.tokens(ids[first : at + AROUND + 1]))
        around.append((shown, at - first))
    (of_query, at_query), (of_key, at_key) = around
    return Example(
        text.number, row, key, weight, of_query[at_query], of_key[at_key], of_query, of_key, at_query, at_key
    )
