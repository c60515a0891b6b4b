"""`Source` answers everything a viewer may ask, exactly, from queries and keys.

It stands on the lazy maps of a recording: a row costs O(n d) for each head, a tile what the tile covers. Nothing of
size Q x K is ever held. Every parameter is checked; a broken rule is a ValueError in one sentence that states the rule.

Axes: H heads, R rows of a block, C its columns, Q queries, K keys (both of one sequence, padding cut off).
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.heads.sampling import SAMPLE
from foveate.recording import Recording
from foveate.recording.beside import Beside
from foveate.stats import Entropy
from foveate.views.axes import Axis
from foveate.views.background import Worker
from foveate.views.catalog import Entry, Maps, calls_of, entries_of
from foveate.views.document import DIRECTIONS, LEVELS, Call, Direction, Document, Focus, Level
from foveate.views.generated import decoding_of, notes_on
from foveate.views.given import UNKNOWN, is_given
from foveate.views.measures import HeadMeasures, HeadSurvey
from foveate.views.overview import MapTile, Overview, Overviews
from foveate.views.pictures import Picture
from foveate.views.pooling import Floats, How, Pool, PooledHeads, to_bytes
from foveate.views.rowpass import Part
from foveate.views.surveys import Surveys
from foveate.views.texts import TokenLists, script_of

BLOCK = 4_000_000  # weights computed at once
LONG = 1 << 26  # weights of a call above which its heads are measured in the background
MAX_SIDE = 2048  # pixels
MAX_CELLS = 2**32  # weights under one picture
MAX_TOP = 4096
MAX_THUMBNAIL = 32  # pixels

_Choice = TypeVar("_Choice", bound=str)
_Kept = TypeVar("_Kept", Overview, HeadSurvey)


@dataclass(frozen=True)
class Thumbnails:
    """Small pictures of every head of a call: pixels (heads, size, size); peak, entropy (heads,).

    Of `measured` of `rows` rows: all of them, but of a long call, whose pictures get finer while someone looks.
    """

    pixels: NDArray[np.uint8]
    peak: list[float]
    entropy: list[float]
    measured: int
    rows: int


@dataclass(frozen=True)
class Tile:
    """A picture of a part of one head: pixels (height, width), 255 = `peak`."""

    pixels: NDArray[np.uint8]
    peak: float


class Source:
    """The questions of the source protocol, over a mapping from names to maps (a `Recording` is one).

    Args:
        maps: name -> AttentionMap, or a sequence of them where a module was called several times.
        tokens: for each sequence its tokens (strings, or `views.words.Tokens`); one flat list is one sequence.
        target_tokens: the same for the decoder's side of an encoder-decoder.
        target_offset: which target token query 0 stands for: 1 where the target begins with the begin symbol and each
            row is called by the token that came out, rather than by the one that went in.
        pictures: for each sequence the picture whose parts its tokens (not the target's) are; without `tokens` they
            are named by row and column.
    """

    def __init__(
        self,
        maps: Mapping[str, Any],
        tokens: TokenLists = None,
        target_tokens: TokenLists = None,
        *,
        target_offset: int = 0,
        title: str = "",
        model: str = "",
        pictures: Sequence[Picture] = (),
    ) -> None:
        generation = maps.generation() if isinstance(maps, Recording) else None
        entries = entries_of(maps, generation)
        self.maps = Maps(entries)
        calls = calls_of(entries, self.maps, _two_sided(maps, entries, target_tokens), target_offset)
        script = script_of(maps, calls, entries[0].shape[0], tokens, target_tokens, pictures)
        self.nbytes = sum(entry.nbytes for entry in entries)
        self._starts = script.starts
        notes = tuple(f"not captured: {what}" for what in getattr(maps, "not_captured", ()))
        notes += notes_on(generation)
        decoding = decoding_of(generation, getattr(maps, "prompt_lengths", None), calls, script)
        self._document = Document("", title, model, "", script.texts, calls, None, notes, decoding)
        self._thumbnails: dict[tuple[int, int], Thumbnails] = {}
        self._locks = [threading.Lock() for _ in calls]
        self._measures: dict[tuple[int, int], HeadMeasures] = {}
        self._worker = Worker()
        self._overviews = Overviews(self._overview, self._worker)
        self._surveys = Surveys(self._survey, self._worker)
        path = getattr(maps, "path", None)
        self._beside = Beside(None if path is None else Path(path).absolute())
        self._digests = [entry.digest for entry in entries]

    def document(self) -> Document:
        return self._document

    def with_answer(self, message: str, focus: Focus | None, **more: Any) -> Source:
        """The same answers, with a line to show above them and a place to look at first.

        Args:
            more: other fields of the `Document`: `decoding`, `beside`, `notes`.
        """
        told = copy.copy(self)
        told._document = replace(self._document, message=message, focus=focus, **more)
        return told

    def axes(self, call: int, sequence: int) -> tuple[Axis, Axis]:
        """The queries and the keys of a call for one sequence, without padding."""
        facts, texts = self._call(call), self._document.sequences[self._sequence(sequence)]
        above, left = self._starts[facts.rows][sequence], self._starts[facts.columns][sequence]
        rows, columns = texts.side(facts.rows), texts.side(facts.columns)
        queries = max(0, min(facts.queries - above, len(rows) - facts.offset))
        keys = max(0, min(facts.keys - left, len(columns)))
        return Axis(rows, facts.offset, queries, "query", above), Axis(columns, 0, keys, "key", left)

    def thumbnails(self, call: int, sequence: int) -> Thumbnails:
        """Max-pooled pictures of all heads, and each head's mean entropy in nats; of a long call as known so far."""
        rows, columns = self.axes(call, sequence)
        if self._is_long(call, rows, columns):
            return _pictured(self.heads(call, sequence))
        with self._locks[call]:
            if (call, sequence) not in self._thumbnails:
                self._thumbnails[call, sequence] = self._picture_heads(call, sequence, rows, columns)
            return self._thumbnails[call, sequence]

    def heads(self, call: int, sequence: int) -> HeadMeasures:
        """Measures of all heads of a call, see `views.measures`; of a long call those of the rows measured so far.

        Of a long call nothing is known when it is first asked for. Rows spread evenly over it are measured in the
        background, first few of every call, then more of those that are asked for again. It never waits.
        """
        rows, columns = self.axes(call, sequence)
        if self._is_long(call, rows, columns):
            found = self._surveys.get(call, sequence)
            return HeadMeasures.unknown(self._call(call).heads, rows.length) if found is None else found
        with self._locks[call]:
            if (call, sequence) not in self._measures:
                survey = self._survey(call, sequence)
                while not survey.done:
                    survey.step()
                self._measures[call, sequence] = survey.result()
            return self._measures[call, sequence]

    def row(
        self, call: int, sequence: int, index: int, direction: Direction, level: Level, head: int | None = None
    ) -> Tensor:
        """Weights (H, length) in float32: from query `index` to every key, or from every query to key `index`.

        Of one head (1, length), what a key receives comes from the head's overview: it is NaN for queries that the
        overview has not passed over yet (`refined`), so that no answer waits for all rows of a long text.
        """
        _choice("direction", direction, DIRECTIONS)
        _choice("level", level, LEVELS)
        rows, columns = self.axes(call, sequence)
        _whole("index", index)
        if head is not None:
            self._head(call, head)
        if direction == "reads":
            start, stop = rows.span(index, index + 1, level)
            heads = slice(None) if head is None else slice(head, head + 1)
            weights = self.weights(call, sequence, rows.at(start, stop), columns.at(0, columns.length), heads).mean(1)
            return columns.sum_words(weights) if level == "word" else weights
        start, stop = columns.span(index, index + 1, level)
        if head is None:
            self.settle(call)
            weights = self.weights(call, sequence, rows.at(0, rows.length), columns.at(start, stop)).sum(2)
        else:
            weights = self._overviews.get(call, sequence, head).column(start, stop)[None]
        return rows.mean_words(weights) if level == "word" else weights

    def refined(self, call: int, sequence: int, head: int) -> float:
        """Which part of a head's rows its overview has passed over, 0 to 1."""
        self._head(call, head)
        self._sequence(sequence)
        return self._overviews.get(call, sequence, head).prepare()

    def topk(
        self,
        call: int,
        sequence: int,
        index: int,
        direction: Direction,
        level: Level,
        k: int,
        head: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(indices (H, k), weights (H, k), rest (H,)): the largest entries of `row`, and what is left of its sum.

        What is NaN comes last, and counts for nothing in the rest.
        """
        if not 1 <= _whole("k", k) <= MAX_TOP:
            raise ValueError(f"k must be from 1 to {MAX_TOP}; got {k}")
        row = self.row(call, sequence, index, direction, level, head)
        indices = row.nan_to_num(-1.0).topk(min(k, row.shape[-1]), dim=-1).indices
        weights = row.gather(-1, indices)
        return indices, weights, (row.nansum(-1) - weights.nansum(-1)).clamp(min=0)

    def tile(
        self,
        call: int,
        sequence: int,
        head: int,
        r0: int,
        r1: int,
        c0: int,
        c1: int,
        height: int,
        width: int,
        how: How = "max",
        level: Level = "token",
    ) -> Tile:
        """Rows r0 .. r1 - 1 and columns c0 .. c1 - 1 of one head, pooled to (height, width) pixels."""
        _choice("how", how, get_args(How))
        _choice("level", level, LEVELS)
        rows, columns = self.axes(call, sequence)
        self._head(call, head)
        for name, side in (("height", height), ("width", width)):
            if not 1 <= _whole(name, side) <= MAX_SIDE:
                raise ValueError(f"{name} must be from 1 to {MAX_SIDE} pixels; got {side}")
        top, bottom = rows.span(r0, r1, level)
        left, right = columns.span(c0, c1, level)
        _affordable((bottom - top) * (right - left))
        pool = Pool(1, r1 - r0, c1 - c0, height, width, how)
        at = slice(head, head + 1)
        for first, a, b in _blocks(rows, r0, r1, level, right - left):
            weights = self.weights(call, sequence, rows.at(a, b), columns.at(left, right), at)
            if level == "word":
                weights = columns.sum_words(weights, left, right)
                weights = rows.mean_words(weights.mT, a, b).mT
            pool.update(first, weights.numpy())
        pixels, peak = to_bytes(pool.result())
        return Tile(pixels[0], float(peak[0]))

    def map(self, call: int, sequence: int, head: int, zoom: int, row: int, column: int, how: How = "max") -> MapTile:
        """A tile of a head's map: 2^zoom queries and keys in a pixel, 256 x 256 pixels, counted from the top left.

        The whole map gets finer from one call to the next, until it is `refined`; what is `exact` stays as it is.
        """
        _choice("how", how, get_args(How))
        self._head(call, head)
        self._sequence(sequence)
        for name, number in (("zoom", zoom), ("row", row), ("column", column)):
            _whole(name, number)
        return self._overviews.get(call, sequence, head).tile(zoom, row, column, how)

    def close(self) -> None:
        """Stop what goes on in the background."""
        self._worker.close()

    def _is_long(self, call: int, rows: Axis, columns: Axis) -> bool:
        return self._call(call).heads * rows.length * columns.length > LONG

    def _survey(self, call: int, sequence: int) -> HeadSurvey:
        facts, (rows, columns) = self._call(call), self.axes(call, sequence)
        same = facts.rows == facts.columns
        place = facts.keys - facts.queries - columns.first if same else None
        part = Part(sequence, rows.at(0, rows.length), columns.at(0, columns.length), place)
        tokens = columns.tokens.text[: columns.length] if same else None
        found = HeadSurvey(lambda: self.maps[call].problem, facts.heads, part, tokens, MAX_THUMBNAIL)
        return self._reopened(found, "heads", call, repr(part), None if tokens is None else list(tokens), SAMPLE)

    def _reopened(self, made: _Kept, kind: str, call: int, *facts: Any) -> _Kept:
        """With what was kept beside the recording of it; what is made of it is kept."""
        digest = self._digests[call]
        if digest is None:
            return made
        place = self._beside.kept(kind, digest, *facts)
        state = place.read(made.shapes())
        if state is not None:
            made.restore(state)
        made.keep = lambda one: place.write(one.state())
        return made

    def _overview(self, call: int, sequence: int, head: int) -> Overview:
        rows, columns = self.axes(call, sequence)
        part = [sequence, head, rows.first, rows.length, columns.first, columns.length]
        return self._reopened(Overview(self.maps[call], sequence, head, rows, columns), "overview", call, part)

    def pair(self, call: int, sequence: int, head: int, i: int, j: int) -> dict[str, Any]:
        """How one weight comes about: query and key, their products, the score, the softmax, the share of the value."""
        rows, columns = self.axes(call, sequence)
        self._head(call, head)
        rows.span(_whole("i", i), i + 1, "token")
        columns.span(_whole("j", j), j + 1, "token")
        facts = self.maps[call].explain(sequence, head, rows.first + i, columns.first + j)
        plain = {name: _plain(value) for name, value in facts.items()}
        unknown = UNKNOWN if is_given(self.maps[call]) else {}
        return {**plain, **unknown, "score_name": self.maps[call].problem.score.name}

    def weights(self, call: int, sequence: int, rows: slice, columns: slice, heads: slice = slice(None)) -> Tensor:
        """A block of weights, (H, R, C) in float32 on the CPU, at slices of the call's own count, padding and all, as
        `axes(...)[0].at(...)` has them."""
        with torch.no_grad():
            return self.maps[call][sequence, heads, rows, columns].detach().float().cpu()

    def settle(self, call: int) -> None:
        """Have the map keep the statistic of all its rows: one pass, after which any column or tile is cheap."""
        with torch.no_grad():
            self.maps[call].statistic()

    def _picture_heads(self, call: int, sequence: int, rows: Axis, columns: Axis) -> Thumbnails:
        heads = self._call(call).heads
        size = max(1, min(MAX_THUMBNAIL, max(rows.length, columns.length)))
        if not rows.length or not columns.length:
            return Thumbnails(np.zeros((heads, size, size), np.uint8), [0.0] * heads, [0.0] * heads, 0, rows.length)
        whole = self.maps[call].shape == (1, heads, rows.length, columns.length)
        pooled = self._reduced(call, size) if whole else self._pooled(call, sequence, rows, columns, size)
        pixels, peak = to_bytes(pooled[0])
        entropy = (pooled[1] / rows.length).tolist()
        return Thumbnails(pixels, peak.tolist(), entropy, rows.length, rows.length)

    def _reduced(self, call: int, size: int) -> tuple[Floats, Tensor]:
        """Picture (H, size, size) and summed entropies (H,) of the only sequence, in one pass over what is live."""
        with torch.no_grad():
            picture, entropy = self.maps[call].reduce(PooledHeads(size), Entropy())
        return picture[0].numpy(), entropy[0].double().nansum(-1).cpu()

    def _pooled(self, call: int, sequence: int, rows: Axis, columns: Axis, size: int) -> tuple[Floats, Tensor]:
        """The same for one sequence of a padded batch."""
        heads = self._call(call).heads
        pool = Pool(heads, rows.length, columns.length, size, size, "max")
        entropy = torch.zeros(heads, dtype=torch.float64)
        for first, a, b in _blocks(rows, 0, rows.length, "token", columns.length * heads):
            weights = self.weights(call, sequence, rows.at(a, b), columns.at(0, columns.length))
            pool.update(first, weights.numpy())
            entropy += torch.special.entr(weights).nansum((1, 2))
        return pool.result(), entropy

    def _call(self, call: int) -> Call:
        count = len(self._document.calls)
        if not 0 <= _whole("call", call) < count:
            raise ValueError(f"call {call} does not exist; this document has calls 0 to {count - 1}")
        return self._document.calls[call]

    def _sequence(self, sequence: int) -> int:
        count = len(self._document.sequences)
        if not 0 <= _whole("sequence", sequence) < count:
            raise ValueError(f"sequence {sequence} does not exist; this document has sequences 0 to {count - 1}")
        return sequence

    def _head(self, call: int, head: int) -> None:
        count = self._call(call).heads
        if not 0 <= _whole("head", head) < count:
            raise ValueError(f"head {head} does not exist; this call has heads 0 to {count - 1}")


def _pictured(found: HeadMeasures) -> Thumbnails:
    """The thumbnails that a survey has."""
    pixels, peak = to_bytes(found.picture.float().numpy())
    entropy = found.values[:, found.names.index("entropy")].nan_to_num(0.0)
    return Thumbnails(pixels, peak.tolist(), entropy.tolist(), found.measured, found.rows)


def _two_sided(maps: Mapping[str, Any], entries: list[Entry], target_tokens: TokenLists) -> bool:
    """Whether there is a target text: the model is an encoder-decoder."""
    return (
        target_tokens is not None
        or getattr(maps, "target_lengths", None) is not None
        or any(entry.is_cross for entry in entries)
    )


def _blocks(rows: Axis, start: int, stop: int, level: Level, width: int) -> Iterator[tuple[int, int, int]]:
    """Entries start .. stop - 1 in runs of about BLOCK weights: (entry relative to start, first token, last + 1)."""
    step = max(1, BLOCK // max(1, width))
    entry = start
    while entry < stop:
        end = min(stop, entry + step)
        first, last = rows.span(entry, end, level)
        yield entry - start, first, last
        entry = end


def _affordable(cells: int) -> None:
    if cells > MAX_CELLS:
        raise ValueError(f"a picture covers at most {MAX_CELLS:,} weights; this one would cover {cells:,}: zoom in")


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number; got {type(value).__name__}")
    return value


def _choice(name: str, value: _Choice, choices: tuple[_Choice, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}")


def _plain(value: Any) -> Any:
    """Tensors and numbers as JSON takes them, seven digits; what is not finite becomes None."""
    if isinstance(value, Tensor):
        value = value.detach().double().tolist()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if np.isfinite(value) else None
    return value
