"""Work that goes on while someone looks: one thread, one small step at a time, the most urgent first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

__all__ = ["Step", "Worker"]


class Step(Protocol):
    """Something that is made step by step. What went wrong in a step is left in `error`, and is asked no more."""

    error: Exception | None

    def step(self) -> object: ...


class Worker:
    """Takes steps as long as one of its queues has something; a queue gives what should go on next, or None."""

    def __init__(self) -> None:
        self._queues: list[Callable[[], Step | None]] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._asked = False
        self.thread: threading.Thread | None = None

    def serve(self, queue: Callable[[], Step | None]) -> None:
        """Take from this queue where those before it have nothing."""
        self._queues.append(queue)

    def wake(self) -> None:
        """There is something to do."""
        with self._lock:
            self._asked = True
            if self.thread is None and not self._closed.is_set():
                self.thread = threading.Thread(target=self._run, name="foveate-background", daemon=True)
                self.thread.start()

    def close(self) -> None:
        """Stop after the step under way; a thread inside torch must not outlive the interpreter."""
        self._closed.set()
        thread = self.thread
        if thread is not None:
            thread.join(timeout=10)

    def _run(self) -> None:
        while not self._closed.is_set():
            self._asked = False
            chosen = next((found for queue in self._queues if (found := queue()) is not None), None)
            if chosen is None:
                with self._lock:
                    if not self._asked:
                        self.thread = None
                        return
                continue
            try:
                chosen.step()
            except Exception as error:  # whoever asks for it is told
                chosen.error = error
