"""A JupyterLab of our own on loopback, in a folder that nobody else uses: for the widget's benchmark and its test."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Lab", "write_notebook"]

STARTS_IN = 60  # seconds


def write_notebook(path: Path, *cells: str) -> None:
    """A notebook of code cells that have not been run."""
    made = [
        {"cell_type": "code", "id": f"cell-{n}", "metadata": {}, "execution_count": None, "outputs": [], "source": cell}
        for n, cell in enumerate(cells)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps({"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


class Lab:
    """A server with `folder` as its root, its settings inside it, and foveate from where this process has it."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder = folder
        self.token = secrets.token_urlsafe(16)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        settings = folder / ".settings"
        places = {f"JUPYTER_{what}_DIR": str(settings / what.lower()) for what in ("CONFIG", "DATA", "RUNTIME")}
        quiet = settings / "config" / "labconfig"
        quiet.mkdir(parents=True)
        no_news = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
        (quiet / "page_config.json").write_text(json.dumps(no_news))
        self._environment = os.environ | places | {"IPYTHONDIR": str(settings / "ipython"), "PYTHONPATH": str(source)}
        self._process: subprocess.Popen[str] | None = None

    def url(self, notebook: str) -> str:
        """Where a notebook is, with nothing around it."""
        return f"http://127.0.0.1:{self.port}/doc/tree/{notebook}?token={self.token}"

    def __enter__(self) -> Lab:
        options = {
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": self.port,
            "ServerApp.port_retries": 0,
            "ServerApp.root_dir": self.folder,
            "ServerApp.open_browser": False,
            "ServerApp.allow_root": True,
            "IdentityProvider.token": self.token,
            "LabApp.extension_manager": "readonly",
        }
        command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
        self._process = subprocess.Popen(command, env=self._environment, stderr=subprocess.PIPE, text=True)
        started, said = threading.Event(), []

        def listen(lines: Any) -> None:
            for line in lines:
                said.append(line)
                if "is running at" in line:
                    started.set()
            started.set()

        self._listener = threading.Thread(target=listen, args=(self._process.stderr,), daemon=True)
        self._listener.start()
        if not started.wait(STARTS_IN) or self._process.poll() is not None:
            self.close()
            raise RuntimeError(f"JupyterLab did not start:\n{''.join(said[-20:])}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server; it stops its kernels."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._listener.join(5)
            if self._process.stderr is not None:
                self._process.stderr.close()
