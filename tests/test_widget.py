"""The page in a notebook, without a notebook: what is heard and said, and that nothing is left afterwards.

tests/test_jupyter.py does it in a real one.
"""

from __future__ import annotations

import asyncio
import gc
import json
import queue
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from foveate.apps import messages, viewing
from foveate.apps.messages import Conversation
from foveate.extras import MissingExtraError
from foveate.recording.strict import RecordingError
from foveate.views.source import Source
from foveate.views.wire import unpack
from pages import PATIENCE, random_source

WORDS = ["one", "two", "three"]


class Heard:
    """A conversation about `source`, and what it says."""

    def __init__(self, source: Source) -> None:
        self.said: queue.Queue[tuple[dict[str, Any], list[bytes]]] = queue.Queue()
        self.ended = threading.Event()
        self.talk = Conversation(source, lambda *message: self.said.put(message), self.ended.set)

    def ask(self, question: Any, parameters: Any = (), identifier: str = "a") -> tuple[dict[str, Any], list[bytes]]:
        pairs = [[name, str(value)] for name, value in parameters.items()] if isinstance(parameters, dict) else []
        self.talk.hear({"id": identifier, "question": question, "parameters": pairs})
        return self.said.get(timeout=PATIENCE)


@pytest.fixture
def heard() -> Iterator[Heard]:
    one = Heard(random_source(WORDS))
    yield one
    one.talk.close()


def test_every_answer_is_that_of_the_source(heard: Heard) -> None:
    source = random_source(WORDS)
    content, (body,) = heard.ask("document", identifier="x.1")
    assert content == {"id": "x.1"}
    assert json.loads(body) == json.loads(json.dumps(source.document().as_json()))
    look = {"call": 1, "sequence": 0, "index": 2, "direction": "reads", "level": "token"}
    header, raw = unpack(heard.ask("row", look)[1][0])
    expected = source.row(1, 0, 2, "reads", "token").numpy()
    np.testing.assert_array_equal(np.frombuffer(raw, "<f4").reshape(header["heads"], -1), expected)
    pair = json.loads(heard.ask("pair", {"call": 0, "sequence": 0, "head": 1, "i": 0, "j": 2})[1][0])
    assert pair == source.pair(0, 0, 1, 0, 2)
    for question in ("thumbnails", "topk", "tile", "map"):
        assert "missing" in heard.ask(question)[0]["error"]


@pytest.mark.parametrize(
    ("question", "parameters", "told"),
    [
        ("rows", {}, "There is no question 'rows'; ask one of thumbnails, heads, row, "),
        ("row", {"call": "-1", "index": "0"}, "call must be a whole number, 0 or more"),
        ("row", {"call": "9", "index": "0"}, "call 9 does not exist; this document has calls 0 to 1"),
        ("row", {"call": "0", "index": "0", "depth": "1"}, "the parameters are call, sequence, index, "),
        (7, {}, "A question has a name, and parameters in pairs of texts."),
    ],
)
def test_what_breaks_a_rule_is_told_in_a_sentence(heard: Heard, question: Any, parameters: Any, told: str) -> None:
    content, buffers = heard.ask(question, parameters)
    assert content["error"].startswith(told)
    assert buffers == []


def test_what_the_page_says_of_a_damaged_recording_a_widget_says(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: Any, **__: Any) -> None:
        raise RecordingError("calls/0.safetensors: it was cut off")

    monkeypatch.setattr(Source, "row", damaged)
    content, _ = heard.ask("row", {"call": 0, "index": 0})
    assert content["error"] == "The recording can no longer be read: calls/0.safetensors: it was cut off"
    content, _ = heard.ask("difference", {"call": 0, "other": "x"})
    assert content["error"] == "there is no second document here"


def test_parameters_that_are_no_texts_and_messages_that_are_none(heard: Heard) -> None:
    for parameters in (None, {"call": 0}, [["call", 0]], [["call"]], ["ab"], [[["call"], "0"]]):
        heard.talk.hear({"id": "a", "question": "row", "parameters": parameters})
        assert (
            heard.said.get(timeout=PATIENCE)[0]["error"] == "A question has a name, and parameters in pairs of texts."
        )
    for content in (None, 7, "row", [], {"id": 3}, {"cancel": 3}, {"cancel": "nobody"}, {}):
        heard.talk.hear(content)
    assert heard.ask("document")[0] == {"id": "a"}


def test_an_unexpected_error_is_a_sentence_and_the_next_question_is_answered(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(Source, "document", lambda self: 1 / 0)
        content, _ = heard.ask("document")
    assert content["error"] == "Something went wrong here: ZeroDivisionError: division by zero"
    assert "error" not in heard.ask("document")[0]


class SlowSource:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.begun: queue.Queue[int] = queue.Queue()
        self.go = threading.Event()
        self.asked: list[int] = []
        self.inner = random_source(WORDS)

    def pair(self, **parameters: int) -> dict[str, Any]:
        self.asked.append(parameters["i"])
        self.begun.put(parameters["i"])
        assert self.go.wait(PATIENCE)
        return {"i": parameters["i"]}

    def close(self) -> None:
        self.inner.close()


def asked(heard: Heard, i: int) -> None:
    parameters = [["call", "0"], ["head", "0"], ["i", str(i)], ["j", "0"]]
    heard.talk.hear({"id": str(i), "question": "pair", "parameters": parameters})


def test_a_cancelled_question_is_not_computed_and_one_under_way_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_WAITING", 4)
    source = SlowSource()
    heard = Heard(source)  # type: ignore[arg-type]
    for i in range(4):
        asked(heard, i)
    under_way = {source.begun.get(timeout=PATIENCE) for _ in range(messages.WORKERS)}
    asked(heard, 4)
    assert heard.said.get(timeout=PATIENCE)[0] == {"id": "4", "error": "More than 4 questions are waiting already."}
    waiting = min({0, 1, 2, 3} - under_way)
    for i in (waiting, min(under_way)):
        heard.talk.hear({"cancel": str(i)})
    source.go.set()
    answered = {heard.said.get(timeout=PATIENCE)[0]["id"] for _ in range(2)}
    assert answered == {str(i) for i in {0, 1, 2, 3} - {waiting, min(under_way)}}
    assert waiting not in source.asked
    heard.talk.close()


def elsewhere(work: Callable[[], Any]) -> None:
    """Do it in a thread of its own: Playwright's loop, if there is one, belongs to this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result(2 * PATIENCE)


def test_it_ends_with_the_last_view_only(monkeypatch: pytest.MonkeyPatch) -> None:
    grace: list[Callable[[], None]] = []
    heard = Heard(random_source(WORDS))

    def leave() -> None:
        heard.talk.hear({"open": False})

    heard.talk.hear({"open": True})
    assert heard.said.get(timeout=PATIENCE)[0] == {"here": True}
    with monkeypatch.context() as patch:
        patch.setattr(messages, "_after", lambda seconds, end: grace.append(end))
        leave()
    assert heard.said.get(timeout=PATIENCE)[0] == {"anyone": True}
    heard.talk.hear({"open": True})  # another view
    grace.pop()()
    assert not heard.ended.is_set()
    monkeypatch.setattr(messages, "GRACE", 0.1)
    elsewhere(leave)
    assert heard.ended.wait(PATIENCE)
    heard.talk.close()


def test_a_busy_kernel_hears_who_is_left_before_it_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "GRACE", 0.1)
    heard = Heard(random_source(WORDS))

    async def kernel(speaks: bool) -> None:
        heard.talk.hear({"open": False})
        time.sleep(0.4)  # a cell runs; a view's answer waits until it is done
        if speaks:
            asyncio.get_running_loop().call_later(0.05, heard.talk.hear, {"open": True})
            return await asyncio.sleep(0.3)
        async with asyncio.timeout(PATIENCE):
            while not heard.ended.is_set():
                await asyncio.sleep(0.01)

    elsewhere(lambda: asyncio.run(kernel(True)))
    assert not heard.ended.is_set()
    elsewhere(lambda: asyncio.run(kernel(False)))
    heard.talk.close()


def test_closing_frees_the_source_and_its_threads() -> None:
    heard = Heard(random_source(WORDS))
    heard.ask("map", {"call": 0, "head": 0, "zoom": 0, "row": 0, "column": 0})
    weights = weakref.ref(heard.talk._source.maps[0])  # type: ignore[union-attr]
    workers = list(heard.talk._pool._threads)
    assert workers
    heard.talk.close()
    heard.talk.hear({"id": "late", "question": "document", "parameters": []})
    for worker in workers:
        worker.join(PATIENCE)
        assert not worker.is_alive()
    gc.collect()
    assert weights() is None
    assert heard.said.empty()


def test_a_widget_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("anywidget", reason="the widget needs anywidget")
    from foveate.apps.notebook import Widget

    shown: list[Any] = []
    shell = type("ZMQInteractiveShell", (), {"execution_count": 3})()
    display = types.SimpleNamespace(publish_display_data=lambda data, metadata: shown.append(data))
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    page = viewing.view(random_source(WORDS).maps[0], WORDS)
    assert isinstance(page, Widget)
    page._ipython_display_()  # the value of its cell: shown already
    assert len(shown) == 1
    shell.execution_count = 4
    page._ipython_display_()
    assert len(shown) == 2
    assert shown[0]["application/vnd.jupyter.widget-view+json"]["model_id"] == page.model_id
    assert shown[0]["text/plain"] == "foveate: 1 x 3 heads, 3 tokens; run this cell to look at them"
    source = weakref.ref(page._conversation._source)
    page.close()
    page.close()
    gc.collect()
    assert source() is None
    assert repr(page) == "foveate: this view is closed"
    page._ipython_display_()
    assert shown[-1] == {"text/plain": "foveate: this view is closed"}


def test_without_anywidget_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = type("ZMQInteractiveShell", (), {"execution_count": 1})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "anywidget", None)
    monkeypatch.delitem(sys.modules, "foveate.apps.notebook", raising=False)
    with pytest.raises(MissingExtraError, match="anywidget is not installed; run: pip install 'foveate\\[notebook\\]'"):
        viewing.view(random_source(WORDS).maps[0], WORDS)
