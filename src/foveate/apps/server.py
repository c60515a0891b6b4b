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
from itertools import product
from typing import Any

from foveate.apps import page
from foveate.apps.errors import UserError
from foveate.apps.questions import RefusedError, answer
from foveate.apps.security import Application, Guard
from foveate.apps.workspace import MAX_TEXT, BusyError, Workspace, in_words
from foveate.extras import need
from foveate.views.source import Source
from foveate.views.wire import dumps

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


def build(workspace: Workspace, front: str, *, token: str, host: str, port: int) -> Application:
    """The whole application, behind its guard; `front` is the page that it opens with."""
    handlers = _Handlers(workspace, front)
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
    def __init__(self, workspace: Workspace, front: str) -> None:
        self.workspace, self.front = workspace, front.encode()

    async def page(self, request: Request) -> Response:
        return _answer(request, self.front, "text/html; charset=utf-8")

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
        given = [item for item in request.query_params.multi_items() if item[0] != "token"]
        source, name = self._source(request), request.path_params["question"]
        try:
            result = await run_in_threadpool(answer, source, name, given, self.workspace.source)
        except RefusedError as error:
            raise HTTPException(error.status, str(error)) from None
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

    def _source(self, request: Request) -> Source:
        try:
            return self.workspace.source(request.path_params["id"])
        except LookupError as error:
            raise HTTPException(404, error.args[0]) from None


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
    kinds = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
    folder = resources.files("foveate.apps") / "static"
    found = {}
    for name, (end, kind) in product(("foveate", "foveate-survey"), kinds.items()):
        body = (folder / f"{name}{end}").read_bytes()
        found[f"{name}{end}"] = body, gzip.compress(body, 9, mtime=0), kind
    return found


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
