"""The HTTP side of the source protocol: Source's own answers, errors in one sentence, runs with progress."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import foveate as fv
from foveate.apps.errors import UserError
from foveate.apps.serve import Page
from foveate.apps.viewing import source_of
from foveate.apps.workspace import MAX_DOCUMENTS, MAX_WAITING, BusyError, Workspace
from foveate.recording import CallInfo, MemoryCall, Notes, Recording
from foveate.scores import Dot
from foveate.views.source import Source
from foveate.views.wire import unpack
from pages import PATIENCE, WordModel, ask, random_source

WORDS = ["The", "cat", "sat", "on", "the", "mat", "."]


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Page, Source, str]]:
    workspace, source = Workspace(WordModel()), random_source(WORDS, title="The cat")
    identifier = workspace.add(source)
    with Page(workspace, port=0) as running:
        yield running, source, identifier


def get(page: Page, path: str) -> Any:
    status, headers, body = ask(page, path)
    assert status == 200, body
    assert headers["content-type"] == "application/json"
    return json.loads(body)


def frame(page: Page, path: str) -> tuple[dict[str, Any], bytes]:
    status, headers, body = ask(page, path)
    assert status == 200, body
    assert headers["content-type"] == "application/octet-stream"
    return unpack(body)


def test_the_document_has_the_fields_of_the_protocol(served: Any) -> None:
    page, _, identifier = served
    assert get(page, "/api/documents") == [{"id": identifier, "title": "The cat"}]
    document = get(page, f"/api/documents/{identifier}")
    assert document["id"] == identifier
    assert document["sequences"] == [
        {"source": {"text": WORDS, "word": list(range(7)), "special": [False] * 7}, "target": None, "picture": None}
    ]
    expected = "index name label step kind heads queries keys rows columns offset causal dim values score numbers"
    assert sorted(document["calls"][0]) == sorted(expected.split())
    assert document["focus"] is None


def test_the_model_says_what_it_takes(served: Any) -> None:
    about = get(served[0], "/api/model")
    assert about == {
        "name": "word model",
        "kind": "encoder",
        "examples": ["one two three"],
        "limits": {"text": 100_000, "tokens": 64},
        "run": None,
    }


def test_a_page_without_a_model_says_so() -> None:
    with Page(Workspace(), port=0) as page:
        assert get(page, "/api/model")["kind"] == "none"
        headers = {"Content-Type": "application/json"}
        status, _, body = ask(page, "/api/runs", "POST", headers, b'{"text": "one"}')
        assert (status, json.loads(body)) == (
            400,
            {"error": "This page shows a recording; it has no model to run a text on."},
        )


@pytest.mark.parametrize("direction", ["reads", "read_by"])
def test_row_and_topk_are_those_of_the_source(served: Any, direction: Any) -> None:
    page, source, identifier = served
    query = f"call=1&sequence=0&index=2&direction={direction}&level=word"
    expected = source.row(1, 0, 2, direction, "word").numpy()
    header, body = frame(page, f"/api/documents/{identifier}/row?{query}")
    assert header == {"heads": 3, "length": 7, "refined": 1}
    assert np.array_equal(np.frombuffer(body, "<f4").reshape(3, 7), expected)
    top = get(page, f"/api/documents/{identifier}/topk?{query}&k=3")
    assert top["indices"] == source.topk(1, 0, 2, direction, "word", 3)[0].tolist()
    np.testing.assert_allclose(top["weights"], -np.sort(-expected)[:, :3], rtol=1e-6)
    np.testing.assert_allclose(np.sum(top["weights"], 1) + top["rest"], expected.sum(1), rtol=1e-5)
    header, body = frame(page, f"/api/documents/{identifier}/row?{query}&head=2")
    assert header == {"heads": 1, "length": 7, "refined": 1}
    np.testing.assert_allclose(np.frombuffer(body, "<f4"), expected[2], rtol=1e-5)
    assert get(page, f"/api/documents/{identifier}/topk?{query}&k=3&head=2")["indices"] == top["indices"][2:]


def test_pictures_are_bytes_with_their_peak(served: Any) -> None:
    page, source, identifier = served
    query = "call=0&sequence=0&head=1&r0=0&r1=7&c0=0&c1=7&height=7&width=7&how=max&level=token"
    header, body = frame(page, f"/api/documents/{identifier}/tile?{query}")
    tile = source.tile(0, 0, 1, 0, 7, 0, 7, 7, 7)
    assert header == {"height": 7, "width": 7, "peak": tile.peak}
    assert body == tile.pixels.tobytes()
    header, body = frame(page, f"/api/documents/{identifier}/thumbnails?call=0&sequence=0")
    found = source.thumbnails(0, 0)
    assert header == {"heads": 3, "size": 7, "peak": found.peak, "entropy": found.entropy, "measured": 7, "rows": 7}
    assert body == found.pixels.tobytes()
    query = "call=0&sequence=0&head=1&zoom=0&row=0&column=0&how=mean"
    header, body = frame(page, f"/api/documents/{identifier}/map?{query}")
    assert header == {"height": 7, "width": 7, "exact": True, "refined": 1.0}
    assert body == source.map(0, 0, 1, 0, 0, 0, "mean").pixels.tobytes()


def test_pair_is_that_of_the_source(served: Any) -> None:
    page, source, identifier = served
    found = get(page, f"/api/documents/{identifier}/pair?call=0&sequence=0&head=1&i=2&j=3")
    assert found == source.pair(0, 0, 1, 2, 3)


def test_nan_rows_are_answered_not_crashed_on() -> None:
    query = np.ones((1, 1, 3, 2), np.float32)
    query[0, 0, 1] = np.nan
    weights = fv.AttentionMap(query, np.ones((1, 1, 3, 2), np.float32), value=np.ones((1, 1, 3, 2), np.float32))
    workspace = Workspace()
    identifier = workspace.add(Source({"attn": weights}))
    with Page(workspace, port=0) as page:
        for question in ("row?call=0&index=1", "topk?call=0&index=1&k=2", "thumbnails?call=0"):
            assert ask(page, f"/api/documents/{identifier}/{question}")[0] == 200
        assert get(page, f"/api/documents/{identifier}/pair?call=0&head=0&i=1&j=1")["weight"] is None


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("row?index=0", 400, "the parameter call is missing"),
        ("row?call=0&index=-1", 400, "index must be a whole number, 0 or more"),
        ("row?call=0&index=0&index=0&call=0&sequence=0&level=token&level=word", 400, "each at most once"),
        ("row?call=0&index=9", 400, "query 9 is outside this call"),
        ("row?call=7&index=0", 400, "call 7 does not exist"),
        ("row?call=0&index=0&extra=1", 400, "the parameters are call, sequence, index, direction, level"),
        ("row?call=0&index=0&level=page", 400, "level must be one of 'token', 'word'"),
        (
            "dense",
            404,
            "There is no question 'dense'; ask one of thumbnails, heads, row, topk, tile, map, difference, pair.",
        ),
        ("map?call=0&head=0&zoom=9&row=0&column=0", 400, "zoom must be from 0 to 0; got 9"),
        ("map?call=0&head=0&zoom=0&row=10000&column=0", 400, "there are rows of tiles 0 to 0; got 10000"),
        ("map?call=0&head=0&zoom=0&row=0", 400, "the parameter column is missing"),
    ],
)
def test_wrong_questions_are_answered_in_a_sentence(served: Any, path: str, status: int, sentence: str) -> None:
    page, _, identifier = served
    found, _, body = ask(page, f"/api/documents/{identifier}/{path}")
    assert found == status
    assert sentence in json.loads(body)["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        ("GET", "/api/documents/nothing", 404, "there is no such document"),
        ("GET", "/api/documents/nothing/row?call=0&index=0", 404, "there is no such document"),
        ("GET", "/api/runs/nothing", 404, "there is no such run"),
        ("GET", "/api/runs", 405, "does not take that method"),
        ("DELETE", "/api/documents", 405, "does not take that method"),
        ("GET", "/nowhere", 404, "There is no such page here."),
    ],
)
def test_wrong_addresses_are_answered_in_a_sentence(
    served: Any, method: str, path: str, status: int, sentence: str
) -> None:
    found, headers, body = ask(served[0], path, method)
    assert found == status
    assert headers["content-type"] == "application/json"
    assert sentence in json.loads(body)["error"]


def post(page: Page, value: Any) -> tuple[int, Any]:
    status, _, body = ask(page, "/api/runs", "POST", {"Content-Type": "application/json"}, json.dumps(value).encode())
    return status, json.loads(body)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([], 'Send {"text": "..."'),
        ({"text": 3}, 'Send {"text": "..."'),
        ({"text": "one", "path": "/etc/passwd"}, 'Send {"text": "..."'),
        ({"text": "one", "target": 3}, 'Send {"text": "..."'),
        ({"text": " \n"}, "The text is empty"),
        ({"text": "one", "target": "un"}, "Only an encoder-decoder model takes a target text."),
    ],
)
def test_wrong_texts_are_refused(served: Any, value: Any, sentence: str) -> None:
    status, body = post(served[0], value)
    assert status == 400
    assert sentence in body["error"]


def test_a_text_becomes_a_document() -> None:
    with Page(Workspace(WordModel()), port=0) as page:
        status, body = post(page, {"text": "four words of text"})
        assert status == 202
        assert page.workspace.run(body["run"]).finished.wait(PATIENCE)
        state = get(page, f"/api/runs/{body['run']}")
        assert (state["state"], state["progress"]) == ("done", 1.0)
        document = get(page, f"/api/documents/{state['document']}")
        assert document["sequences"][0]["source"]["text"] == ["four", "words", "of", "text"]


def test_what_breaks_in_a_model_is_said_in_words(served: Any) -> None:
    page = served[0]
    _, body = post(page, {"text": "crash please"})
    page.workspace.run(body["run"]).finished.wait(PATIENCE)
    state = get(page, f"/api/runs/{body['run']}")
    assert (state["state"], state["message"]) == ("failed", "RuntimeError: the model broke")
    assert state["document"] is None


def test_progress_is_seen_while_a_run_lasts_and_too_many_are_refused() -> None:
    workspace, go, reached = Workspace(WordModel()), threading.Event(), threading.Event()

    def work(report: Any) -> Source:
        report(0.25, "A quarter")
        reached.set()
        go.wait(PATIENCE)
        return random_source(["a"])

    first = workspace.start(work)
    assert reached.wait(PATIENCE)
    assert first.as_json() == {"state": "running", "progress": 0.25, "message": "A quarter", "document": None}
    for _ in range(MAX_WAITING - 1):
        workspace.start(work)
    with pytest.raises(BusyError, match="wait for one of them to finish"):
        workspace.start(work)
    go.set()
    assert first.finished.wait(PATIENCE)
    assert first.as_json()["state"] == "done"


def test_half_a_character_is_refused_in_a_text_and_kept_in_a_token(served: Any) -> None:
    status, body = post(served[0], {"text": "a \ud800"})
    assert (status, body["error"]) == (400, "The text holds half of a character (a lone surrogate).")
    workspace = Workspace()
    identifier = workspace.add(random_source(["a", "\ud800"], title="\udfff"))
    with Page(workspace, port=0) as page:
        document = get(page, f"/api/documents/{identifier}")
    assert document["sequences"][0]["source"]["text"] == ["a", "\ud800"]
    assert document["title"] == "\udfff"


def test_old_documents_make_room() -> None:
    workspace = Workspace()
    ids = [workspace.add(random_source(["a"])) for _ in range(MAX_DOCUMENTS + 1)]
    with pytest.raises(LookupError, match="made room for newer ones"):
        workspace.source(ids[0])
    assert len(workspace.documents()) == MAX_DOCUMENTS


def test_the_page_and_its_files_arrive_packed_where_the_browser_can(served: Any) -> None:
    page = served[0]
    plain = ask(page, "/static/foveate.js")
    packed = ask(page, "/static/foveate.js", headers={"Accept-Encoding": "gzip, br"})
    assert packed[1]["content-encoding"] == "gzip"
    assert gzip.decompress(packed[2]) == plain[2]
    assert len(packed[2]) < len(plain[2]) / 2
    assert plain[1]["content-type"].startswith("text/javascript")
    html = ask(page, "/")[2].decode()
    for name in re.findall(r'(?:src|href)="(/[^"]+)"', html):
        assert ask(page, name)[0] == 200


def test_a_used_port_is_named_and_the_usual_one_is_replaced() -> None:
    with Page(Workspace(), port=0) as page:
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1 port {page.port}: .*; try --port 0"):
            Page(Workspace(), port=page.port)
        with pytest.raises(UserError, match="a port is a number from 0 to 65535; got 70000"):
            Page(Workspace(), port=70000)
        with pytest.raises(UserError, match=r"^cannot listen on nowhere.invalid: (?!.*--port)"):
            Page(Workspace(), host="nowhere.invalid", port=0)


def test_small_answers_are_sent_at_once(served: Any) -> None:
    """asyncio switches Nagle's waiting off only for sockets that say they are TCP; else every answer takes 40 ms."""
    assert served[0]._socket.proto == socket.IPPROTO_TCP


def test_view_serves_in_the_background_and_closes() -> None:
    source = random_source(WORDS)
    page = fv.view({"attn": source.maps[0]}, tokens=WORDS, open=False, port=0)
    try:
        (document,) = get(page, "/api/documents")
        assert get(page, f"/api/documents/{document['id']}")["sequences"][0]["source"]["text"] == WORDS
        assert page.url.startswith("http://127.0.0.1:")
    finally:
        page.close()
    page.close()
    with pytest.raises(OSError, match="refused"):
        ask(page, "/")


def test_view_takes_one_map_and_nothing_else() -> None:
    page = fv.view(random_source(WORDS).maps[0], open=False, port=0)
    page.close()
    with pytest.raises(TypeError, match=r"expected a Recording, an AttentionMap, a mapping .*; got int"):
        fv.view([1, 2], open=False)


def test_measures_of_heads(served: Any) -> None:
    page, source, identifier = served
    status, _, body = ask(page, f"/api/documents/{identifier}/heads?call=1")
    assert status == 200
    found, wanted = json.loads(body), source.heads(1, 0)
    assert (found["names"], found["measured"], found["rows"]) == (list(wanted.names), 7, 7)
    for told, value in zip(itertools.chain(*found["values"]), wanted.values.flatten().tolist(), strict=True):
        assert told == (None if value != value else pytest.approx(value, rel=1e-6))
    for path, sentence in (
        ("heads?call=9", "call 9 does not exist"),
        ("heads?call=0&head=1", "the parameters are call"),
    ):
        status, _, body = ask(page, f"/api/documents/{identifier}/{path}")
        assert status == 400
        assert sentence in json.loads(body)["error"]


@pytest.mark.parametrize("damage", ["cut", "gone", "changed"])
def test_a_recording_that_is_damaged_while_open_is_told_and_the_server_lives(tmp_path: Path, damage: str) -> None:
    recording = Recording(Notes(tokens=[["one", "two", "three", "four"]], lengths=[4], starts=[0]))
    parts = {"score": Dot(0.3), "normalizer": fv.normalizers.softmax(None), "mask": None, "bias": None}
    for layer in range(2):
        info, (q, k) = CallInfo(f"layers.{layer}", "encoder", "", layer, 3, "Attention"), torch.randn(2, 1, 3, 4, 8)
        recording._add(MemoryCall(info, 0, q, k, None, {**parts, "dtype": torch.float32}))
    recording.save(tmp_path / "run.fov")
    workspace = Workspace()
    identifier = workspace.add(source_of(fv.load(tmp_path / "run.fov")))
    file = tmp_path / "run.fov" / "calls" / "00001.safetensors"
    with Page(workspace, port=0) as page:
        assert ask(page, f"/api/documents/{identifier}/heads?call=0")[0] == 200
        if damage == "cut":
            file.write_bytes(file.read_bytes()[:-100])
        elif damage == "gone":
            file.unlink()
        else:
            data = bytearray(file.read_bytes())
            data[-200] ^= 1
            file.write_bytes(data)
        questions = (
            "heads?call=1",
            "thumbnails?call=1",
            "row?call=1&index=0",
            "map?call=1&head=0&zoom=0&row=0&column=0",
        )
        for question in questions:
            status, _, body = ask(page, f"/api/documents/{identifier}/{question}")
            assert status == 409
            assert "The recording can no longer be read" in json.loads(body)["error"]
            assert "calls/00001.safetensors" in json.loads(body)["error"]
        assert ask(page, f"/api/documents/{identifier}/row?call=0&index=0")[0] == 200
