"""The local page against everything that can reach a port: one test for each row of the table of checks."""

from __future__ import annotations

import asyncio
import json
import pickle
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import foveate
from foveate.apps import page as html_page
from foveate.apps.errors import UserError
from foveate.apps.security import Guard, content_policy, is_loopback
from foveate.apps.serve import Page
from foveate.apps.server import MAX_BODY
from foveate.apps.workspace import MAX_TEXT, Workspace
from pages import PATIENCE, WordModel, ask, random_source

SOURCES = Path(foveate.__file__).parent


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    workspace = Workspace(WordModel())
    workspace.add(random_source(["one", "two", "three"]))
    with Page(workspace, port=0) as running:
        yield running


def error_of(body: bytes) -> str:
    found = json.loads(body)
    assert list(found) == ["error"]
    return str(found["error"])


# loopback by default


def test_the_socket_listens_on_loopback_only(page: Page) -> None:
    assert page._socket.getsockname()[0] == "127.0.0.1"
    assert page.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("10.0.0.1", False), ("a.b", False)],
)
def test_loopback_is_told_from_the_rest(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_another_address_needs_the_token_too() -> None:
    with Page(Workspace(), host="0.0.0.0", port=0) as everywhere:
        assert everywhere.token in everywhere.url
        assert ask(everywhere, "/api/model", headers={"Cookie": ""})[0] == 403
        assert ask(everywhere, "/api/model")[0] == 200
        assert ask(everywhere, "/api/model", headers={"Host": "evil.com"})[0] == 400


# token


def test_the_address_gives_a_cookie_that_scripts_cannot_read(page: Page) -> None:
    status, headers, body = ask(page, f"/?token={page.token}", headers={"Cookie": ""})
    assert status == 200
    assert b'id="foveate"' in body
    assert headers["set-cookie"] == f"foveate_{page.port}={page.token}; Path=/; HttpOnly; SameSite=Strict"
    assert "set-cookie" not in ask(page, "/")[1]


@pytest.mark.parametrize("path", ["/", "/api/model", "/api/documents", "/static/foveate.js", "/nowhere"])
@pytest.mark.parametrize(
    "cookie", ["", "foveate_{port}=", "foveate_{port}=wrong", "foveate={token}", "foveate_1={token}", "x={token}"]
)
def test_nothing_is_answered_without_the_token(page: Page, path: str, cookie: str) -> None:
    cookie = cookie.format(port=page.port, token=page.token)
    status, _, body = ask(page, path, headers={"Cookie": cookie})
    assert status == 403
    assert "token" in error_of(body)


@pytest.mark.parametrize("offered", ["wrong", "%F0%9F%A6%8A", "%00", "x" * 5000, ""])
def test_a_wrong_token_in_the_address_is_refused(page: Page, offered: str) -> None:
    status, headers, _ = ask(page, f"/?token={offered}", headers={"Cookie": ""})
    assert status == 403
    assert "set-cookie" not in headers


def test_programs_may_send_the_token_as_bearer(page: Page) -> None:
    assert ask(page, "/api/model", headers={"Cookie": "", "Authorization": f"Bearer {page.token}"})[0] == 200
    assert ask(page, "/api/model", headers={"Cookie": "", "Authorization": "Bearer x"})[0] == 403


def test_tokens_are_compared_in_constant_time(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr("foveate.apps.security.hmac.compare_digest", compare)
    assert ask(page, "/api/model", headers={"Cookie": f"foveate_{page.port}=nearly"})[0] == 403
    assert compared == [(b"nearly", page.token.encode())]


def test_every_page_has_a_token_of_its_own() -> None:
    pages = [Page(Workspace(), port=0) for _ in range(2)]
    assert len({one.token for one in pages}) == 2
    assert all(len(one.token) >= 32 for one in pages)
    for one in pages:
        one.close()


# Host header


HOSTS = (
    "evil.com 127.0.0.1.evil.com evil.com:{port} 127.0.0.1@evil.com localhost.evil.com 0.0.0.0 10.0.0.1 [::1 "
    "127.0.0.1:99999999 127.0.0.1/evil.com 2130706433"
)


@pytest.mark.parametrize("host", HOSTS.split())
def test_other_hosts_are_refused(page: Page, host: str) -> None:
    status, _, body = ask(page, "/api/model", headers={"Host": host.format(port=page.port)})
    assert status == 400
    if body.startswith(b"{"):  # the HTTP parser refuses the worst of them before we are asked
        assert "Host" in error_of(body)


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST", "[::1]:{port}", "localhost:9"])
def test_our_own_names_are_accepted_through_a_tunnel_too(page: Page, host: str) -> None:
    assert ask(page, "/api/model", headers={"Host": host.format(port=page.port)})[0] == 200


def test_two_or_no_host_headers_are_refused() -> None:
    for hosts in ([], [(b"host", b"localhost"), (b"host", b"localhost")]):
        status, _ = asyncio.run(call_guard({"type": "http", "path": "/", "headers": hosts, "query_string": b""}))
        assert status == 400


async def call_guard(scope: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """Status and messages of a Guard around an application that must not be reached."""
    messages: list[dict[str, Any]] = []

    async def application(*_: Any) -> None:
        raise AssertionError("the guard let it through")

    async def receive() -> dict[str, Any]:
        return {"type": f"{scope['type']}.connect"}

    async def send(message: Any) -> None:
        messages.append(dict(message))

    await Guard(application, token="t", host="127.0.0.1", port=1)(scope, receive, send)
    return int(messages[0].get("status", 0)), messages


# Origin


@pytest.mark.parametrize(
    "origin", ["http://evil.com", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1", "http://localhost:{port}"]
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/api/runs"), ("GET", "/api/documents")])
def test_foreign_origins_are_refused(page: Page, origin: str, method: str, path: str) -> None:
    headers = {"Origin": origin.format(port=page.port), "Content-Type": "application/json"}
    status, _, body = ask(page, path, method, headers, b'{"text": "one two"}')
    assert status == 403
    assert "origin" in error_of(body)


def test_our_own_origin_may_post(page: Page) -> None:
    headers = {"Origin": f"http://127.0.0.1:{page.port}", "Content-Type": "application/json"}
    assert ask(page, "/api/runs", "POST", headers, b'{"text": "one two"}')[0] == 202


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_pages_cannot_read_the_api(page: Page, site: str) -> None:
    assert ask(page, "/api/documents", headers={"Sec-Fetch-Site": site})[0] == 403
    assert ask(page, "/api/documents", headers={"Sec-Fetch-Site": "same-origin"})[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.com", "http://127.0.0.1:{port}"])
def test_a_websocket_handshake_is_refused(page: Page, origin: str) -> None:
    handshake = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    handshake |= {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Origin": origin.format(port=page.port)}
    for path in ("/api/runs", "/api/model", "/ws"):
        status, _, _ = ask(page, path, headers=handshake)
        assert status != 101
        if "evil" in origin:
            assert status == 403


def test_the_guard_closes_websockets_before_accepting() -> None:
    _, messages = asyncio.run(call_guard({"type": "websocket", "path": "/", "headers": []}))
    assert [message["type"] for message in messages] == ["websocket.close"]


def test_a_form_cannot_post(page: Page) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain", ""):
        status, _, body = ask(page, "/api/runs", "POST", {"Content-Type": kind}, b'{"text": "one"}')
        assert status == 415
        assert "application/json" in error_of(body)


# paths


PATHS = (
    "/static/../security.py /static/..%2fsecurity.py /static/%2e%2e%2fsecurity.py /static//etc/passwd /static/ "
    "/static/%2fetc%2fpasswd /static/foveate.js%00.css /../../etc/passwd //etc/passwd /api/documents/../model "
    "/api/documents/..%2f..%2fetc /api/documents/%2e%2e/row /api/runs/..%2fmodel /static/foveate.js/../foveate.css "
    "/etc/passwd /src/foveate/apps/security.py /api/documents/C:%5Cx"
)


@pytest.mark.parametrize("path", PATHS.split())
def test_no_path_leads_to_a_file(page: Page, path: str) -> None:
    status, _, body = ask(page, path)
    assert status == 404
    assert error_of(body)


def test_a_link_in_the_folder_is_not_served(page: Page) -> None:
    """Only the two names of the table are ever read."""
    from foveate.apps.server import _static_files

    assert sorted(_static_files()) == ["foveate-survey.css", "foveate-survey.js", "foveate.css", "foveate.js"]


def test_ids_are_opaque(page: Page) -> None:
    (document,) = json.loads(ask(page, "/api/documents")[2])[:1]
    assert re.fullmatch(r"[\w-]{12}", document["id"])


# no pickle


def test_no_source_file_can_unpickle_or_run_remote_code() -> None:
    forbidden = re.compile(
        r"^\s*(import|from)\s+(pickle|dill|cloudpickle|joblib|shelve|marshal)\b|torch\.load\(|allow_pickle=True"
        r"|trust_remote_code=True|weights_only=|use_safetensors=(False|None)|\beval\(\s*[\"'f]|\bexec\(",
        re.MULTILINE,
    )
    assert forbidden.search("import pickle")
    assert forbidden.search("x = torch.load(path)")
    for file in SOURCES.rglob("*.py"):
        found = forbidden.search(file.read_text(encoding="utf-8"))
        assert not found, f"{file.name}: {found.group()}"


class Payload:
    """Unpickling this writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


def test_pickled_weights_are_refused_unread(tmp_path: Path) -> None:
    from foveate.apps.models import HubModel
    from tiny import save_bert

    folder, proof = save_bert(tmp_path / "model"), tmp_path / "proof"
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(proof)))
    model = HubModel(str(folder))
    with pytest.raises(UserError, match="no safetensors weights, and foveate never reads pickle files"):
        model.load(lambda progress, message: None)
    assert not proof.exists()
    pickle.loads((folder / "pytorch_model.bin").read_bytes())
    assert proof.exists()  # the payload would have worked


# text is never HTML


def test_policies_have_no_unsafe_words(page: Page) -> None:
    _, headers, body = ask(page, "/")
    policy = headers["content-security-policy"]
    for text in (policy, content_policy()):
        assert "unsafe" not in text
        assert "default-src 'none'" in text
    assert "frame-ancestors 'none'" in policy
    (inline,) = re.findall(r"<script>(.*?)</script>", body.decode(), re.DOTALL)
    assert html_page.script_hash(inline) in policy


@pytest.mark.parametrize("path", ["/", "/api/model", "/api/documents/x", "/static/foveate.js", "/nowhere"])
def test_every_answer_says_what_browsers_must_not_do(page: Page, path: str) -> None:
    headers = ask(page, path)[1]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == ("no-store" if path.startswith("/api/") else "no-cache")
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_refusals_carry_the_headers_too(page: Page) -> None:
    _, headers, _ = ask(page, "/", headers={"Host": "evil.com"})
    assert headers["x-content-type-options"] == "nosniff"
    assert "content-security-policy" in headers


def test_json_in_a_page_cannot_end_its_element() -> None:
    text = json.dumps({"token": "</script><img src=x onerror=alert(1)>\u2028&"}, ensure_ascii=False)
    escaped = html_page.escape_json(text)
    assert not set("<>&\u2028\u2029") & set(escaped)
    assert json.loads(escaped) == json.loads(text)


# size


def test_a_long_body_is_refused_before_it_is_read(page: Page) -> None:
    headers = {"Content-Type": "application/json", "X-Length": str(200_000_000)}
    status, _, body = ask(page, "/api/runs", "POST", headers, b"{")
    assert status == 413
    assert "1,000,000 bytes" in error_of(body)


def test_a_long_chunked_body_is_cut_off(page: Page) -> None:
    with socket.create_connection(("127.0.0.1", page.port), timeout=PATIENCE) as raw:
        head = f"POST /api/runs HTTP/1.1\r\nHost: localhost\r\nCookie: foveate_{page.port}={page.token}\r\n"
        raw.sendall(f"{head}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        with suppress(ConnectionError):  # it need not take what it refuses
            for _ in range(MAX_BODY // 65536 + 2):
                raw.sendall(chunk)
        assert b"413" in raw.recv(4096).split(b"\r\n")[0]


def test_a_long_text_is_refused(page: Page) -> None:
    body = json.dumps({"text": "a" * (MAX_TEXT + 1)}).encode()
    status, _, answer = ask(page, "/api/runs", "POST", {"Content-Type": "application/json"}, body)
    assert status == 400
    assert "at most 100,000 characters; it has 100,001" in error_of(answer)


def test_too_many_tokens_fail_in_words(page: Page) -> None:
    body = json.dumps({"text": "word " * 65}).encode()
    _, _, answer = ask(page, "/api/runs", "POST", {"Content-Type": "application/json"}, body)
    identifier = json.loads(answer)["run"]
    page.workspace.run(identifier).finished.wait(PATIENCE)
    state = json.loads(ask(page, f"/api/runs/{identifier}")[2])
    assert state["state"] == "failed"
    assert state["message"] == "The text has 65 tokens; word model takes at most 64."


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("tile?call=0&head=0&r0=0&r1=3&c0=0&c1=3&height=5000&width=5", "height must be from 1 to 2048"),
        ("topk?call=0&index=0&k=100000", "k must be from 1 to 4096"),
        ("row?call=0&index=" + "9" * 40, "index must be a whole number"),
        ("row?call=0&index=0&" + "&".join(f"x{i}=1" for i in range(100)), "the parameters are"),
    ],
)
def test_questions_have_caps(page: Page, query: str, sentence: str) -> None:
    (document,) = json.loads(ask(page, "/api/documents")[2])[:1]
    status, _, body = ask(page, f"/api/documents/{document['id']}/{query}")
    assert status == 400
    assert sentence in error_of(body)


@pytest.mark.parametrize("query", ["call=0&index=0&index=1", "call=0&call=0&index=0"])
def test_a_parameter_given_twice_is_refused(page: Page, query: str) -> None:
    (document,) = json.loads(ask(page, "/api/documents")[2])[:1]
    status, _, body = ask(page, f"/api/documents/{document['id']}/row?{query}")
    assert status == 400
    assert "each at most once" in error_of(body)


def begun(page: Page) -> socket.socket:
    """A connection that has sent a part of a body."""
    connection = socket.create_connection(("127.0.0.1", page.port), timeout=PATIENCE)
    head = "POST /api/runs HTTP/1.1", "Host: 127.0.0.1", f"Cookie: foveate_{page.port}={page.token}"
    rest = "Content-Type: application/json", "Content-Length: 100", "", "{"
    connection.sendall("\r\n".join(head + rest).encode())
    return connection


def test_a_body_that_never_comes_is_not_waited_for(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foveate.apps.server.BODY_SECONDS", 0.05)
    with begun(page) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")


def test_a_visitor_who_leaves_in_the_middle_is_no_error(page: Page, capfd: pytest.CaptureFixture[str]) -> None:
    begun(page).close()
    for _ in range(20):
        assert ask(page, "/api/model")[0] == 200
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_a_deeply_nested_body_is_not_valid(page: Page) -> None:
    status, _, body = ask(page, "/api/runs", "POST", {"Content-Type": "application/json"}, b"[" * 100_000)
    assert status == 400
    assert "JSON" in error_of(body)
