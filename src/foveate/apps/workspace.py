"""What a running server holds: its documents, its model, and the runs under way. Everything has an opaque id."""

from __future__ import annotations

import os
import secrets
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from foveate.apps.errors import UserError
from foveate.views.document import Compared
from foveate.views.source import Source

Kind = Literal["encoder", "decoder", "encoder-decoder"]
Report = Callable[[float, str], None]
MAX_TEXT = 100_000  # characters
MAX_DOCUMENTS = 16
MAX_BYTES = 2 << 30  # of all documents
MAX_WARM = 1 << 25  # weights under one thumbnail picture that is made before anyone asks
MAX_RUNS = 64
MAX_WAITING = 4


class Model(Protocol):
    """Something that turns a text into a Source."""

    name: str
    kind: Kind
    examples: list[str]
    max_tokens: int

    def run(self, text: str, target: str | None, report: Report) -> Source: ...


class BusyError(UserError):
    """Too many runs wait already."""


@dataclass
class Run:
    """One run of the model. `state` is written last, so whoever sees "done" sees the document too."""

    id: str
    state: Literal["running", "done", "failed"] = "running"
    progress: float = 0.0
    message: str = "Waiting"
    document: str | None = None
    finished: threading.Event = field(default_factory=threading.Event, repr=False)

    def report(self, progress: float, message: str) -> None:
        self.progress, self.message = min(max(progress, 0.0), 1.0), message

    def as_json(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "progress": self.progress,
            "message": self.message,
            "document": self.document,
        }


class Workspace:
    """Documents and runs of one server; safe to use from several threads."""

    def __init__(self, model: Model | None = None) -> None:
        self.model = model
        self.first: str | None = None  # the run that the page follows when it opens
        self._sources: OrderedDict[str, Source] = OrderedDict()
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._closed = threading.Event()
        self._warming: list[threading.Thread] = []

    def add(self, source: Source) -> str:
        """Keep a source under a new id; the oldest go when there are too many or they are too large."""
        identifier = secrets.token_urlsafe(9)
        with self._lock:
            self._sources[identifier] = source
            while len(self._sources) > MAX_DOCUMENTS or (len(self._sources) > 1 and self._held() > MAX_BYTES):
                self._sources.popitem(last=False)[1].close()
        return identifier

    def add_compared(self, one: Source, other: Source, names: tuple[str, str]) -> str:
        """Keep two sources, the other one shown beside the first, under these names."""
        mine, theirs = secrets.token_urlsafe(9), secrets.token_urlsafe(9)
        document = one.document()
        told = one.with_answer(document.message, document.focus, compare=Compared(theirs, *names))
        with self._lock:  # neither makes room for the other, and the page opens at the first
            self._sources[mine], self._sources[theirs] = told, other
        return mine

    def source(self, identifier: str) -> Source:
        with self._lock:
            found = self._sources.get(identifier)
        if found is None:
            raise LookupError("there is no such document; it may have made room for newer ones")
        return found

    def documents(self) -> list[dict[str, str]]:
        with self._lock:
            return [{"id": key, "title": source.document().title} for key, source in self._sources.items()]

    def run(self, identifier: str) -> Run:
        with self._lock:
            found = self._runs.get(identifier)
        if found is None:
            raise LookupError("there is no such run")
        return found

    def start(self, work: Callable[[Report], Source]) -> Run:
        """Do `work` in a thread, one after another.

        Raises:
            BusyError: several runs wait already.
        """
        run = Run(secrets.token_urlsafe(9))
        with self._lock:
            if sum(other.state == "running" for other in self._runs.values()) >= MAX_WAITING:
                raise BusyError("several texts are being worked on already; wait for one of them to finish")
            self._runs[run.id] = run
            while len(self._runs) > MAX_RUNS:
                self._runs.popitem(last=False)
        threading.Thread(target=self._work, args=(run, work), name=f"foveate-run-{run.id}", daemon=True).start()
        return run

    def start_text(self, text: str, target: str | None) -> Run:
        """Run the model on a text.

        Raises:
            UserError: there is no model, or the text breaks a limit.
        """
        model = self.model
        if model is None:
            raise UserError("This page shows a recording; it has no model to run a text on.")
        for name, value in (("text", text), ("target", target)):
            if value is not None and len(value) > MAX_TEXT:
                raise UserError(f"The {name} may have at most {MAX_TEXT:,} characters; it has {len(value):,}.")
        if not text.strip():
            raise UserError("The text is empty; type some words first.")
        if target is not None and model.kind != "encoder-decoder":
            raise UserError("Only an encoder-decoder model takes a target text.")
        return self.start(lambda report: model.run(text, target, report))

    def under_way(self) -> str | None:
        """The first run, unless it is done: the page follows it, or says what went wrong."""
        with self._lock:
            first = self._runs.get(self.first or "")
        return None if first is None or first.state == "done" else first.id

    def _held(self) -> int:
        return sum(source.nbytes for source in self._sources.values())

    def warm(self) -> None:
        """Make the thumbnails of the newest document before anyone asks."""
        with self._lock:
            newest = next(reversed(self._sources.values()), None)
        if newest is not None:
            thread = threading.Thread(target=_warm, args=(newest, self._closed), name="foveate-warm", daemon=True)
            self._warming.append(thread)
            thread.start()

    def close(self) -> None:
        """Stop making thumbnails and overviews; a thread inside torch must not outlive the interpreter."""
        self._closed.set()
        for thread in self._warming:
            thread.join(timeout=10)
        for source in self._sources.values():
            source.close()

    def _work(self, run: Run, work: Callable[[Report], Source]) -> None:
        try:
            with self._turn:
                run.document = self.add(work(run.report))
            run.report(1.0, "Done")
            run.state = "done"
        except UserError as error:
            run.message, run.state = str(error), "failed"
        except Exception as error:
            if os.environ.get("FOVEATE_DEBUG"):
                traceback.print_exc(file=sys.stderr)
            run.message, run.state = in_words(error), "failed"
        finally:
            run.finished.set()


def in_words(error: BaseException) -> str:
    """An unexpected error as a sentence, without a traceback."""
    text = " ".join(str(error).split())[:400]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _warm(source: Source, closed: threading.Event) -> None:
    for call in source.document().calls:
        if closed.is_set():
            return
        if call.heads * call.queries * call.keys <= MAX_WARM:
            source.thumbnails(call.index, 0)
            source.settle(call.index)
