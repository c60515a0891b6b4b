"""The questions of the source protocol as they come from outside: names and texts in, their answers in bytes out.

Every transport asks through here (HTTP, notebook messages), so that every parameter is checked once and alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from foveate.recording.strict import RecordingError
from foveate.views.difference import difference
from foveate.views.source import Source
from foveate.views.wire import pack

__all__ = ["QUESTIONS", "RefusedError", "answer"]

_REQUIRED = object()
_PLACE: dict[str, Any] = {"call": _REQUIRED, "sequence": 0}
_LOOK = {**_PLACE, "index": _REQUIRED, "direction": "reads", "level": "token", "head": None}
_TEXTS = ("direction", "level", "how", "other")


class RefusedError(Exception):
    """A question that is not answered; why, in a sentence. `status` is what HTTP calls it."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def _alone(identifier: str) -> Source:
    raise LookupError("there is no second document here")


def answer(
    source: Source, name: str, given: Iterable[tuple[str, str]], find: Callable[[str], Source] = _alone
) -> bytes | dict[str, Any]:
    """The answer to a question: a frame of `views.wire`, or what goes out as JSON.

    Args:
        given: the parameters as a query string has them: whole numbers in digits, and a few words.
        find: the document of an id, for what compares two; raises LookupError, with a sentence, where there is none.

    Raises:
        RefusedError: there is no such question (404) or other document (404); a parameter is unknown, missing, given
            twice or breaks its rule (400); the recording was damaged since it was opened (409).
    """
    if name not in QUESTIONS:
        raise RefusedError(404, f"There is no question {name!r}; ask one of {', '.join(QUESTIONS)}.")
    expected, ask = QUESTIONS[name]
    try:
        parameters = _parameters(list(given), expected)
        if "other" in parameters:
            parameters["other"] = _found(find, parameters["other"])
        return ask(source, parameters)
    except ValueError as error:
        raise RefusedError(400, str(error)) from None
    except RecordingError as error:
        raise RefusedError(409, f"The recording can no longer be read: {error}") from None


def _found(find: Callable[[str], Source], identifier: str) -> Source:
    try:
        return find(identifier)
    except LookupError as error:
        raise RefusedError(404, error.args[0]) from None


def _thumbnails(source: Source, parameters: dict[str, Any]) -> bytes:
    found = source.thumbnails(**parameters)
    heads, size, _ = found.pixels.shape
    header = {"heads": heads, "size": size, "peak": found.peak, "entropy": found.entropy}
    header |= {"measured": found.measured, "rows": found.rows}
    return pack(header, found.pixels)


def _heads(source: Source, parameters: dict[str, Any]) -> dict[str, Any]:
    found = source.heads(**parameters)
    values = [[_digits(value) for value in head] for head in found.values.tolist()]
    return {"names": list(found.names), "values": values, "measured": found.measured, "rows": found.rows}


def _row(source: Source, parameters: dict[str, Any]) -> bytes:
    refined = _refined(source, parameters)
    row = source.row(**parameters).numpy()
    header = {"heads": row.shape[0], "length": row.shape[1], "refined": refined}
    return pack(header, row.astype(np.float32, copy=False))


def _topk(source: Source, parameters: dict[str, Any]) -> dict[str, Any]:
    refined = _refined(source, parameters)
    indices, weights, rest = source.topk(**parameters)
    rounded = [[_digits(w) for w in head] for head in weights.tolist()]
    left = [_digits(r) for r in rest.tolist()]
    return {"indices": indices.tolist(), "weights": rounded, "rest": left, "refined": refined}


def _refined(source: Source, parameters: dict[str, Any]) -> float:
    """How much of the answer is known at least: what a key of one head receives is found out row by row."""
    if parameters["head"] is None or parameters["direction"] == "reads":
        return 1.0
    return source.refined(parameters["call"], parameters["sequence"], parameters["head"])


def _tile(source: Source, parameters: dict[str, Any]) -> bytes:
    tile = source.tile(**parameters)
    height, width = tile.pixels.shape
    return pack({"height": height, "width": width, "peak": tile.peak}, tile.pixels)


def _map(source: Source, parameters: dict[str, Any]) -> bytes:
    found = source.map(**parameters)
    height, width = found.pixels.shape
    header = {"height": height, "width": width, "exact": found.exact, "refined": round(found.refined, 4)}
    return pack(header, found.pixels)


def _pair(source: Source, parameters: dict[str, Any]) -> dict[str, Any]:
    return source.pair(**parameters)


def _difference(source: Source, parameters: dict[str, Any]) -> dict[str, Any]:
    return difference(source, parameters.pop("other"), **parameters).as_json()


_Ask = Callable[[Source, dict[str, Any]], bytes | dict[str, Any]]
QUESTIONS: dict[str, tuple[dict[str, Any], _Ask]] = {
    "thumbnails": (_PLACE, _thumbnails),
    "heads": (_PLACE, _heads),
    "row": (_LOOK, _row),
    "topk": ({**_LOOK, "k": _REQUIRED}, _topk),
    "tile": (
        {**_PLACE, **dict.fromkeys(("head", "r0", "r1", "c0", "c1", "height", "width"), _REQUIRED)}
        | {"how": "max", "level": "token"},
        _tile,
    ),
    "map": ({**_PLACE, **dict.fromkeys(("head", "zoom", "row", "column"), _REQUIRED), "how": "max"}, _map),
    "difference": ({**_PLACE, "other": _REQUIRED, "level": "token"}, _difference),
    "pair": ({**_PLACE, **dict.fromkeys(("head", "i", "j"), _REQUIRED)}, _pair),
}


def _parameters(items: list[tuple[str, str]], expected: dict[str, Any]) -> dict[str, Any]:
    """The parameters that `expected` names: whole numbers, except for the few that are words."""
    given = dict(items)
    if set(given) - set(expected) or len(items) > len(given):
        raise ValueError(f"the parameters are {', '.join(expected)}, each at most once")
    missing = [name for name, default in expected.items() if default is _REQUIRED and name not in given]
    if missing:
        raise ValueError(f"the parameter {missing[0]} is missing")
    return {
        name: default if name not in given else given[name] if name in _TEXTS else _number(name, given[name])
        for name, default in expected.items()
    }


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise ValueError(f"{name} must be a whole number, 0 or more")
    return int(text)


def _digits(number: float) -> float | None:
    return float(f"{number:.7g}") if np.isfinite(number) else None
