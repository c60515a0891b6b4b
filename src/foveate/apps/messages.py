"""The questions of the source protocol as messages of a notebook's widget; docs/DESIGN.md has their form.

Nothing here knows a notebook: `Conversation` takes what was heard and says what is to be sent.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from foveate.apps.questions import RefusedError, answer
from foveate.apps.workspace import in_words
from foveate.views.source import Source
from foveate.views.wire import dumps

__all__ = ["Conversation"]

WORKERS = 2  # so that a word is answered while small pictures are made
MAX_WAITING = 256  # questions
GRACE = 2.0  # seconds after the last view is gone: a cell that is moved draws its output again

Send = Callable[[dict[str, Any], list[bytes]], None]


class Conversation:
    """Answers what views of a widget ask, in threads of its own, until all of them are gone.

    Args:
        send: takes (content, buffers) to every view, from any thread.
        ended: called when no view is left; the caller then closes what it holds, this conversation too.
    """

    def __init__(self, source: Source, send: Send, ended: Callable[[], None]) -> None:
        self._source: Source | None = source
        self._send, self._ended = send, ended
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="foveate-widget")
        self._asked: dict[str, Future[None]] = {}
        self._lock = threading.Lock()
        self._departures = 0  # of views; a sign of life makes those before it void

    def hear(self, content: Any) -> None:
        """Take one message. What is no message of ours is passed over."""
        if not isinstance(content, dict):
            return
        if content.get("open") is False:
            self._ask_who_is_left()
            return
        self._departures += 1
        if content.get("open") is True:
            self._send({"here": True}, [])
        elif isinstance(content.get("cancel"), str):
            with self._lock:
                asked = self._asked.pop(content["cancel"], None)
            if asked is not None:
                asked.cancel()
        elif isinstance(content.get("id"), str):
            self._take(content["id"], content.get("question"), content.get("parameters"))

    def close(self) -> None:
        """Let go of the source. Answers that are being computed are not sent."""
        with self._lock:
            source, self._source = self._source, None
            self._asked.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if source is not None:
            source.close()

    def _take(self, identifier: str, question: Any, parameters: Any) -> None:
        if not (isinstance(question, str) and _are_pairs(parameters)):
            self._send({"id": identifier, "error": "A question has a name, and parameters in pairs of texts."}, [])
            return
        context = contextvars.copy_context()  # the kernel keeps in it which cell an answer belongs to
        with self._lock:
            if self._source is None:
                return
            if len(self._asked) < MAX_WAITING:
                work = self._pool.submit(context.run, self._answer, identifier, question, parameters)
                self._asked[identifier] = work
                return
        self._send({"id": identifier, "error": f"More than {MAX_WAITING} questions are waiting already."}, [])

    def _answer(self, identifier: str, question: str, parameters: list[tuple[str, str]]) -> None:
        source = self._source
        if source is None:
            return
        content: dict[str, Any] = {"id": identifier}
        buffers: list[bytes] = []
        try:
            buffers.append(_body(source, question, parameters))
        except RefusedError as error:
            content["error"] = str(error)
        except Exception as error:
            content["error"] = f"Something went wrong here: {in_words(error)}"
        with self._lock:
            wanted = self._asked.pop(identifier, None) is not None and self._source is not None
        if wanted:
            self._send(content, buffers)

    def _ask_who_is_left(self) -> None:
        """A view is gone. Unless another one speaks up, that was the last."""
        self._departures += 1
        number = self._departures
        context = contextvars.copy_context()

        def end() -> None:
            if self._departures == number and self._source is not None:
                self._ended()

        self._send({"anyone": True}, [])
        _after(GRACE, lambda: context.run(end))


def _body(source: Source, question: str, parameters: list[tuple[str, str]]) -> bytes:
    found = source.document().as_json() if question == "document" else answer(source, question, parameters)
    return found if isinstance(found, bytes) else dumps(found).encode()


def _are_pairs(parameters: Any) -> bool:
    return isinstance(parameters, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in parameters
    )


def _after(seconds: float, work: Callable[[], None]) -> None:
    """Do `work` later: on the loop that hears messages, so that those which it has not heard yet come first."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        timer = threading.Timer(seconds, work)
        timer.daemon = True
        timer.start()
        return
    due = time.monotonic() + seconds

    def fire() -> None:
        if time.monotonic() > due + seconds:  # a cell was running: what was said meanwhile has not been heard
            _after(seconds, work)
        else:
            work()

    loop.call_later(seconds, fire)
