"""A page in one file: it works offline, for any length, by choice of what goes in, and says what is exact in it.

`exact`: queries and keys, from which the page computes every weight; of a long call also each row's log-sum-exp, so
that any row, column or tile costs what it shows, and a pooled picture of each head, which would take a browser minutes.
`top`: pooled pictures and the largest weights of each row, of many heads or of calls that a page cannot compute.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from foveate.apps import page
from foveate.apps.embed import exact, pooled
from foveate.apps.embed.choose import Piece, Which, choose, document_of
from foveate.apps.embed.exact import can_compute, held, shifted, written
from foveate.apps.embed.parts import TEXT, Parts, megabytes, too_large
from foveate.apps.embed.words import notes_of
from foveate.apps.errors import UserError
from foveate.map import AttentionMap
from foveate.stats import Entropy
from foveate.views.given import is_given
from foveate.views.source import Source
from foveate.views.wire import dumps

LIMIT = 50_000_000  # bytes of a page
SMALL = 8_000_000  # bytes of float32 up to which nothing is rounded
COMFORT = 12_000_000  # bytes of a page up to which everything goes in exactly, if nobody chose
LISTED = 4_800_000  # bytes for the largest weights of rows, if nobody chose how many
LONG = 1 << 20  # weights of a head from which on a browser should not pass over all of them
MOST_TOP, LEAST_TOP = 32, 8  # of a row, if nobody chose how many
HALVES = 0.87  # bytes of float16 after deflating, of a byte before; float32 is at 0.93
ENTRY = 2.2  # bytes of one of a row's largest weights, deflated

Embed = Literal["auto", "exact", "top"]
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Options:
    """What goes into a page.

    Args:
        layers, heads: which; numbers (layers also globs over module names). None: all.
        embed: "exact", "top", or "auto": exact up to `COMFORT` bytes.
        k: how many of a row's largest weights "top" keeps. None: 8 to 32, as fits.
        values: keep values where they were recorded, to show what each word adds to the output. None: if they fit.
        float16: round queries, keys and values to 16 bits. None: above `SMALL` bytes.
    """

    layers: Which = None
    heads: Which = None
    embed: Embed = "auto"
    k: int | None = None
    values: bool | None = None
    float16: bool | None = None

    def __post_init__(self) -> None:
        if self.embed not in get_args(Embed):
            raise ValueError(f"embed must be one of {', '.join(map(repr, get_args(Embed)))}; got {self.embed!r}")
        if self.k is not None and (isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1):
            raise ValueError(f"k must be a whole number from 1; got {self.k!r}")


@dataclass(frozen=True)
class _Plan:
    """How the pieces go in: `kind`, and its details."""

    kind: Literal["exact", "top"]
    half: bool
    values: bool
    k: int
    cells: int


def page_of(
    source: Source, title: str = "", limit: int = LIMIT, options: Options | None = None, report: Report | None = None
) -> str:
    """The HTML of a self-contained page.

    Raises:
        UserError: there is no such layer or head, the page would be larger than `limit` bytes, or a call cannot go in
            as asked; the text names the sizes and the remedy.
    """
    options = options or Options()
    pieces = choose(source, options.layers, options.heads)
    plan = _plan(source, pieces, options, limit)
    parts, calls = Parts(limit), []
    for n, piece in enumerate(pieces):

        def tell(share: float, done: int = n, label: str = piece.call.label) -> None:
            if report is not None:
                report((done + share) / len(pieces), f"Computing {label}")

        tell(0.0)
        calls.append(_embedded(source, piece, plan, options.embed == "auto", parts, tell))
    document = document_of(source, pieces)
    named = [
        replace(call, score=made.pop("score_name"), values=bool(made.get("value")))
        for call, made in zip(document.calls, calls, strict=True)
    ]
    document = replace(document, calls=tuple(named), notes=(*notes_of(calls), *document.notes))
    described = document.with_id("embedded").as_json()
    for call, made in zip(described["calls"], calls, strict=True):
        call["kept"] = made["top"]["k"] if "top" in made else None
    data = {"document": described, "calls": calls, "parts": parts.texts}
    text = page.static(dumps(data), title or document.title or "foveate")
    if len(text) > limit:
        raise too_large(len(text), limit)
    return text


def write(
    source: Source,
    path: str | os.PathLike[str],
    title: str = "",
    limit: int = LIMIT,
    options: Options | None = None,
    report: Report | None = None,
) -> Path:
    """Write the page, in one step."""
    return save(page_of(source, title, limit, options, report), path)


def save(text: str, path: str | os.PathLike[str]) -> Path:
    """Write a page; whoever reads `path` meanwhile sees the old file or the new one, never half of one.

    Raises:
        UserError: it cannot be written.
    """
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}") from None
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(f"cannot write {target}: {error.strerror}") from None
        raise
    return target


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _plan(source: Source, pieces: list[Piece], options: Options, limit: int) -> _Plan:
    """What fits, by the sizes of queries and keys alone: nothing is read or computed for it.

    Raises:
        UserError: nothing does.
    """
    batch = len(source.document().sequences)
    plain, values = (sum(batch * count(piece) for piece in pieces) for count in (_queries_and_keys, _values))
    pictures = sum(batch * piece.call.heads for piece in pieces)

    def sized(kept: bool) -> tuple[float, bool]:
        numbers = plain + kept * values
        half = options.float16 if options.float16 is not None else 4 * numbers > SMALL
        return numbers * (2 * HALVES if half else 4 * 0.93) * TEXT, half

    for kept in (options.values,) if options.values is not None else (True, False):
        size, half = sized(kept)
        if options.embed != "top" and size <= min(COMFORT, limit):
            return _Plan("exact", half, kept, options.k or MOST_TOP, pooled.cells_of(pictures, size))
    if options.embed == "exact":
        size, half = sized(bool(options.values))
        if size > limit:
            raise too_large(size, limit)
        return _Plan("exact", half, bool(options.values), 0, pooled.cells_of(pictures, size))
    rows = sum(batch * piece.call.heads * piece.call.queries for piece in pieces)
    shortest = max([1, *(piece.call.keys for piece in pieces)])
    each = max(1, rows) * ENTRY * TEXT
    k = options.k or max(LEAST_TOP, min(MOST_TOP, int(LISTED / each)))
    if each * min(k, shortest) > limit:
        both = f" with the {k} largest weights of each row" + (
            f", {megabytes(sized(False)[0])} with queries and keys" if options.embed == "auto" else ""
        )
        raise too_large(each * min(k, shortest), limit, both)
    return _Plan("top", True, False, k, pooled.cells_of(pictures, each * k))


def _queries_and_keys(piece: Piece) -> int:
    call = piece.call
    return call.dim * (call.heads * call.queries + piece.groups * call.keys)


def _values(piece: Piece) -> int:
    return piece.call.dim * piece.groups * piece.call.keys if piece.call.values else 0


def _embedded(
    source: Source, piece: Piece, plan: _Plan, auto: bool, parts: Parts, tell: Callable[[float], None]
) -> dict[str, Any]:
    """One call as the page has it, and `score_name`, what its score is called."""
    one = piece.map_of(source)
    axes = [source.axes(piece.at, sequence) for sequence in range(len(source.document().sequences))]
    lengths = {"lengths": [[rows.length, columns.length] for rows, columns in axes]}
    named = {"score_name": one.problem.score.name}
    given, dense = is_given(one), 0 if can_compute(one) else one.shape.numel()
    half = plan.half or (given and 4 * dense > SMALL)
    room = dense * ((2 if half else 4) if given else 8) * TEXT  # of given weights scores go in with them
    most = COMFORT if given else parts.limit
    as_listed = plan.kind == "top" or (
        auto and dense and ((dense > exact.DENSE and not given) or parts.size + room > most)
    )
    if as_listed:
        kept, more = pooled.top(one, axes, plan.k, parts, lambda share: tell(share / 2))
        levels, _ = pooled.overview(one, axes, plan.cells, parts, lambda share: tell((1 + share) / 2))
        return {"top": kept, "overview": levels | more, **lengths, **named}
    parts.check(room if given or dense <= exact.DENSE else 0)
    one = held(one, half, plan.values)
    made = written(one, axes, parts, half)
    if dense or max(rows.length * columns.length for rows, columns in axes) <= LONG:
        return {**made, "logsumexp": None, "overview": None, **lengths, **named}
    return {**made, **_known_ahead(one, axes, plan, parts, tell), **lengths, **named}


def _known_ahead(one: AttentionMap, axes: Any, plan: _Plan, parts: Parts, tell: Callable[[float], None]) -> Any:
    """What takes a pass over all weights of a long call, so that the browser need not make one."""
    levels, statistic = pooled.overview(one, axes, plan.cells, parts, lambda share: tell(share / 2))
    entropies = one.reduce(Entropy(), progress=lambda share: tell((1 + share) / 2))
    statistic = shifted(statistic, [rows.first for rows, _ in axes], 2)
    return {
        "logsumexp": parts.add_floats(statistic, False),
        "overview": levels | {"entropy": pooled.mean_entropy(entropies, axes)},
    }
