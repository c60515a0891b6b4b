"""What stands between the local page and everything else that can reach a port: one ASGI middleware for all requests.

| check | refuses |
|---|---|
| Host header | names that only point here by DNS rebinding: 400 |
| Origin | requests that another site's page makes, WebSocket handshakes included: 403 |
| token | whoever has not been given the address: 403, compared in constant time |
| WebSockets | all: nothing here speaks them |

The token is in the printed address once; the answer to that first visit moves it to an HttpOnly, SameSite=Strict
cookie. Every answer carries a content security policy without `unsafe-inline`.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from foveate.views.wire import dumps

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_HOST = re.compile(r"(\[(?P<address>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9.-]+))(:(?P<port>[0-9]{1,5}))?")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def new_token() -> str:
    return secrets.token_urlsafe(24)


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def content_policy(*, scripts: str = "'self'", styles: str = "'self'", connect: str = "'self'") -> str:
    """A policy under which nothing inline runs unless its hash is named, and nothing is fetched from elsewhere."""
    return (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; img-src data: blob:; connect-src {connect}; "
        "base-uri 'none'; form-action 'none'; object-src 'none'"
    )


class Guard:
    """Checks every request before `application` sees it.

    Args:
        token: what a visitor must show.
        host: the address served on; its name is accepted beside the loopback names.
        port: names the cookie, so that two servers on one machine do not share it.
        scripts: the sources of scripts that the page may run.
    """

    def __init__(self, application: Application, *, token: str, host: str, port: int, scripts: str = "'self'") -> None:
        self.application = application
        self.token = token.encode()
        self.cookie = f"foveate_{port}"
        self.names = LOOPBACK | {host.lower()} | (set() if is_loopback(host) else {socket.gethostname().lower()})
        self.any_address = not is_loopback(host)
        policy = content_policy(scripts=scripts) + "; frame-ancestors 'none'"
        self.headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await _close_websocket(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"foveate serves HTTP only; got {scope['type']}")
        refused = self._refusal(scope)
        fresh = refused is None and self._in_address(scope)
        answer = self._with_headers(send, fresh, "no-store" if scope["path"].startswith("/api/") else "no-cache")
        if refused:
            await _refuse(answer, *refused)
        else:
            await self.application(scope, receive, answer)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """The status and the sentence, or None if the request may pass."""
        hosts = _header(scope, b"host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return 400, "This server answers only to the address it printed; the Host header names another."
        for origin in _header(scope, b"origin"):
            if origin.lower() != f"{scope.get('scheme', 'http')}://{hosts[0]}".lower():
                return 403, "Requests from pages of another origin are refused."
        if scope["path"].startswith("/api/"):
            for site in _header(scope, b"sec-fetch-site"):
                if site not in ("same-origin", "none"):
                    return 403, "Requests from pages of another site are refused."
        if not self._may_pass(scope):
            return (
                403,
                "The token is missing or wrong; open the address that foveate printed in the terminal.",
            )
        return None

    def _is_ours(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None or int(found["port"] or 0) > 65535:
            return False
        name = (found["address"] or found["name"]).lower()
        return name in self.names or (self.any_address and _is_address(name))

    def _may_pass(self, scope: Scope) -> bool:
        offered = [value for name, value in _cookies(scope) if name == self.cookie]
        offered += [value[7:] for value in _header(scope, b"authorization") if value[:7].lower() == "bearer "]
        return self._in_address(scope) or any(self._is_token(value) for value in offered)

    def _in_address(self, scope: Scope) -> bool:
        try:
            query = parse_qs(scope.get("query_string", b"").decode("latin-1"), max_num_fields=64)
        except ValueError:
            return False
        return any(self._is_token(value) for value in query.get("token", []))

    def _is_token(self, value: str) -> bool:
        return hmac.compare_digest(value.encode("utf-8", "surrogatepass"), self.token)

    def _with_headers(self, send: Send, fresh: bool, cache: str) -> Send:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), *self.headers, (b"cache-control", cache.encode())]
                if fresh:
                    cookie = f"{self.cookie}={self.token.decode()}; Path=/; HttpOnly; SameSite=Strict"
                    headers.append((b"set-cookie", cookie.encode()))
                message = {**message, "headers": headers}
            await send(message)

        return answer


def _header(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _cookies(scope: Scope) -> list[tuple[str, str]]:
    pairs = [part.strip().partition("=") for line in _header(scope, b"cookie") for part in line.split(";")]
    return [(name, value.strip('"')) for name, _, value in pairs]


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = dumps({"error": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _close_websocket(receive: Receive, send: Send) -> None:
    """Closing before accepting answers the handshake with 403."""
    await receive()
    await send({"type": "websocket.close", "code": 1008, "reason": "foveate speaks no WebSocket"})
