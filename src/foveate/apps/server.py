"""The local page over HTTP: the questions of the source protocol, each with its parameters checked.

Nothing here takes a path from a request: static files come from a fixed table, documents and runs from opaque ids.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from foveate.apps import page
from foveate.apps.errors import UserError
from foveate.apps.security import Application, Guard
from foveate.apps.workspace import MAX_TEXT, BusyError, Workspace, in_words
from foveate.extras import need
from foveate.views.difference import difference
from foveate.views.source import Source
from foveate.views.wire import dumps, pack

need("starlette", "view")

from starlette.applications import Starlette  # noqa: E402
from starlette.concurrency import run_in_threadpool  # noqa: E402
from starlette.exceptions import HTTPException  # noqa: E402
from starlette.requests import ClientDisconnect, Request  # noqa: E402
from starlette.responses import Response  # noqa: E402
from starlette.routing import Route  # noqa: E402

MAX_BODY = 1_000_000  # bytes
BODY_SECONDS = 20
MIN_GZIP = 1024  # bytes
_REQUIRED = object()
_PLACE: dict[str, Any] = {"call": _REQUIRED, "sequence": 0}
_LOOK = {**_PLACE, "index": _REQUIRED, "direction": "reads", "level": "token"}
_TEXTS = ("direction", "level", "how", "other")


def build(workspace: Workspace, *, token: str, host: str, port: int) -> Application:
    """The whole application, behind its guard."""
    handlers = _Handlers(workspace)
    routes = [
        Route("/", handlers.page),
        Route("/static/{name}", handlers.static),
        Route("/api/model", handlers.model),
        Route("/api/documents", handlers.documents),
        Route("/api/documents/{id}", handlers.document),
        Route("/api/documents/{id}/{question}", handlers.question),
        Route("/api/runs", handlers.start, methods=["POST"]),
        Route("/api/runs/{id}", handlers.run),
    ]
    errors: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
        HTTPException: _http_error,
        Exception: _unexpected,
    }
    inner = Starlette(routes=routes, exception_handlers=errors)
    return Guard(inner, token=token, host=host, port=port, scripts=f"'self' {page.ADDRESS_SCRIPT_HASH}")


class _Handlers:
    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    async def page(self, request: Request) -> Response:
        return _answer(request, page.live().encode(), "text/html; charset=utf-8")

    async def static(self, request: Request) -> Response:
        found = _static_files().get(request.path_params["name"])
        if found is None:
            raise HTTPException(404, "There is no such page here.")
        body, packed, media = found
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(packed, media_type=media, headers={"content-encoding": "gzip", "vary": "accept-encoding"})
        return Response(body, media_type=media)

    async def model(self, request: Request) -> Response:
        model = self.workspace.model
        about = {
            "name": model.name if model else "",
            "kind": model.kind if model else "none",
            "examples": list(model.examples) if model else [],
            "limits": {"text": MAX_TEXT, "tokens": model.max_tokens if model else 0},
            "run": self.workspace.under_way(),
        }
        return _json(request, about)

    async def documents(self, request: Request) -> Response:
        return _json(request, self.workspace.documents())

    async def document(self, request: Request) -> Response:
        source = self._source(request)
        return _json(request, source.document().with_id(request.path_params["id"]).as_json())

    async def question(self, request: Request) -> Response:
        name = request.path_params["question"]
        if name not in _QUESTIONS:
            raise HTTPException(404, f"There is no question {name!r}; ask one of {', '.join(_QUESTIONS)}.")
        expected, ask = _QUESTIONS[name]
        source = self._source(request)
        try:
            parameters = _parameters(request, expected)
            if "other" in parameters:
                parameters["other"] = self._source(request, parameters["other"])
            result = await run_in_threadpool(ask, source, parameters)
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        if isinstance(result, bytes):
            return _answer(request, result, "application/octet-stream")
        return _json(request, result)

    async def start(self, request: Request) -> Response:
        text, target = _texts(await _json_body(request))
        try:
            run = self.workspace.start_text(text, target)
        except BusyError as error:
            raise HTTPException(429, str(error)) from None
        except UserError as error:
            raise HTTPException(400, str(error)) from None
        return _json(request, {"run": run.id}, status=202)

    async def run(self, request: Request) -> Response:
        try:
            return _json(request, self.workspace.run(request.path_params["id"]).as_json())
        except LookupError as error:
            raise HTTPException(404, error.args[0]) from None

    def _source(self, request: Request, identifier: str | None = None) -> Source:
        try:
            return self.workspace.source(identifier or request.path_params["id"])
        except LookupError as error:
            raise HTTPException(404, error.args[0]) from None


def _thumbnails(source: Source, parameters: dict[str, Any]) -> bytes:
    found = source.thumbnails(**parameters)
    heads, size, _ = found.pixels.shape
    header = {"heads": heads, "size": size, "peak": found.peak, "entropy": found.entropy}
    return pack(header, found.pixels)


def _row(source: Source, parameters: dict[str, Any]) -> bytes:
    row = source.row(**parameters).numpy()
    return pack({"heads": row.shape[0], "length": row.shape[1]}, row.astype(np.float32, copy=False))


def _topk(source: Source, parameters: dict[str, Any]) -> dict[str, Any]:
    indices, weights, rest = source.topk(**parameters)
    rounded = [[_digits(w) for w in head] for head in weights.tolist()]
    return {"indices": indices.tolist(), "weights": rounded, "rest": [_digits(r) for r in rest.tolist()]}


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
_QUESTIONS: dict[str, tuple[dict[str, Any], _Ask]] = {
    "thumbnails": (_PLACE, _thumbnails),
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


def _parameters(request: Request, expected: dict[str, Any]) -> dict[str, Any]:
    """The query string as `expected` names it: whole numbers, except for the few that are words."""
    items = [item for item in request.query_params.multi_items() if item[0] != "token"]
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


async def _json_body(request: Request) -> Any:
    """The request's JSON, read no further than the cap."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "Send JSON with the content type application/json.")
    too_long = HTTPException(413, f"A request may have at most {MAX_BODY:,} bytes.")
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > MAX_BODY:
        raise too_long
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise too_long
    except TimeoutError:
        raise HTTPException(408, f"A request must arrive within {BODY_SECONDS} seconds.") from None
    except ClientDisconnect:
        raise HTTPException(400, "The request was broken off.") from None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "The request is not valid JSON.") from None


def _texts(body: Any) -> tuple[str, str | None]:
    rule = 'Send {"text": "...", "target": "..."}, where target may be left out.'
    if not isinstance(body, dict) or set(body) - {"text", "target"} or not isinstance(body.get("text"), str):
        raise HTTPException(400, rule)
    target = body.get("target")
    if target is not None and not isinstance(target, str):
        raise HTTPException(400, rule)
    try:
        (body["text"] + (target or "")).encode()
    except UnicodeEncodeError:
        raise HTTPException(400, "The text holds half of a character (a lone surrogate).") from None
    return body["text"], target or None


def _json(request: Request, value: Any, status: int = 200) -> Response:
    return _answer(request, dumps(value).encode(), "application/json", status)


def _answer(request: Request, body: bytes, media: str, status: int = 200) -> Response:
    headers = {"vary": "accept-encoding"}
    if len(body) >= MIN_GZIP and "gzip" in request.headers.get("accept-encoding", ""):
        body = gzip.compress(body, compresslevel=1, mtime=0)
        headers["content-encoding"] = "gzip"
    return Response(body, status, headers, media)


@lru_cache(maxsize=1)
def _static_files() -> dict[str, tuple[bytes, bytes, str]]:
    """name -> (bytes, the same gzipped, media type): all that is ever served from disk."""
    kinds = {"foveate.js": "text/javascript; charset=utf-8", "foveate.css": "text/css; charset=utf-8"}
    folder = resources.files("foveate.apps") / "static"
    files = {name: (folder / name).read_bytes() for name in kinds}
    return {name: (body, gzip.compress(body, 9, mtime=0), kinds[name]) for name, body in files.items()}


async def _http_error(request: Request, error: HTTPException) -> Response:
    sentence = error.detail if error.status_code not in (404, 405) or " " in error.detail else ""
    known = {404: "There is no such page here.", 405: "This address does not take that method."}
    if error.detail in ("Not Found", "Method Not Allowed"):
        sentence = known[error.status_code]
    return Response(dumps({"error": sentence}), error.status_code, error.headers, "application/json")


async def _unexpected(request: Request, error: Exception) -> Response:
    return Response(
        dumps({"error": f"Something went wrong here: {in_words(error)}"}), 500, media_type="application/json"
    )
