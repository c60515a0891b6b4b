"""Running the local page: in the foreground until Ctrl-C, or in a background thread."""

from __future__ import annotations

import atexit
import errno
import os
import socket
import threading
import time
import webbrowser

from foveate.apps import page, security
from foveate.apps.errors import UsageError, UserError
from foveate.apps.workspace import Workspace
from foveate.extras import need

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8420
STARTUP_SECONDS = 30.0
KEEP_ALIVE_SECONDS = 300  # a reader who stops to think should not wait for a new connection


def share_cores() -> None:
    """Leave half of the cores to the browser: it draws while we compute, and on two cores both would wait."""
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // 2))


class Page:
    """A served page.

    Args:
        host: the address to listen on; anything but loopback must be asked for by name.
        port: 0 takes any free port; None takes the usual one, or a free one if that is in use.
        front: the HTML that it opens with, made by `page.served`; default: the page of the workspace.
    """

    def __init__(
        self, workspace: Workspace, host: str = DEFAULT_HOST, port: int | None = None, front: str | None = None
    ) -> None:
        uvicorn = need("uvicorn", "view")
        from foveate.apps import server

        self.workspace = workspace
        self.host = host
        self.token = security.new_token()
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        application = server.build(workspace, front or page.live(), token=self.token, host=host, port=self.port)
        config = uvicorn.Config(
            application,
            log_level="warning" if os.environ.get("FOVEATE_DEBUG") else "critical",  # errors are said in the page
            access_log=False,
            ws="none",
            lifespan="off",
            http="h11",
            server_header=False,
            limit_concurrency=200,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address with its token: whoever has it can see the page."""
        name = self.host
        if name in ("0.0.0.0", "::", ""):
            name = socket.gethostname()
        shown = f"[{name}]" if ":" in name else name
        return f"http://{shown}:{self.port}/?token={self.token}"

    def run(self) -> None:
        """Serve until Ctrl-C, which is raised as KeyboardInterrupt."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def start(self) -> Page:
        """Serve in a daemon thread; returns when the page answers."""
        atexit.register(self.close)
        self._thread = threading.Thread(target=self.run, name="foveate-page", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + STARTUP_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise UserError("the local page could not start")
            time.sleep(0.005)
        return self

    def wait(self) -> None:
        """Block until the page is closed."""
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Stop serving; does nothing the second time."""
        atexit.unregister(self.close)
        self.workspace.close()
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=10)
        self._socket.close()

    def open(self) -> bool:
        """Show the page in the user's browser; False if there is none."""
        try:
            return webbrowser.open(self.url)
        except webbrowser.Error:
            return False

    def __enter__(self) -> Page:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Page({self.url})"


def _listen(host: str, port: int | None) -> socket.socket:
    if port is not None and not 0 <= port <= 65535:
        raise UsageError(f"a port is a number from 0 to 65535; got {port}")
    # Said to be TCP, so that asyncio sends small answers at once: otherwise each waits 40 ms for a delayed
    # acknowledgement.
    listening = socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, DEFAULT_PORT if port is None else port))
        listening.listen()
        return listening
    except OSError as error:
        listening.close()
        taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        if port is None and taken:
            return _listen(host, 0)
        place, remedy = (f"{host} port {port}", "; try --port 0") if taken else (host, "")
        raise UserError(f"cannot listen on {place}: {error.strerror or error}{remedy}") from None
