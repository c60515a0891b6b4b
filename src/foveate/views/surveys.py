"""The measures of all heads of long calls, made in the background: every call a little first, then each more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from foveate.views.background import Step, Worker
from foveate.views.measures import HeadMeasures, HeadSurvey

__all__ = ["Surveys"]

LOOKED = 20.0  # seconds after which what nobody asked for again is not refined


class _Survey:
    """One call and sequence. `found` is what is known so far, None before the first step."""

    def __init__(self, make: Callable[[], HeadSurvey]) -> None:
        self._make = make
        self._survey: HeadSurvey | None = None
        self.found: HeadMeasures | None = None
        self.error: Exception | None = None
        self.asked = 0.0

    @property
    def measured(self) -> int:
        return 0 if self.found is None else self.found.measured

    @property
    def wanted(self) -> bool:
        """Whether it should go on: until it is done, and beyond its first rows while someone looks."""
        if self.error is not None or (self.found is not None and self.found.measured == self.found.rows):
            return False
        return not self.measured or time.monotonic() - self.asked < LOOKED

    def step(self) -> None:
        """Measure more; what is known already when it is made is a step, too."""
        if self._survey is None:
            self._survey = self._make()
        if self._survey.measured == self.measured:
            self._survey.step()
        self.found = self._survey.result()


class Surveys:
    """Surveys by call and sequence. Each goes on until it has twice the rows, and then the next one: a call is not
    read from disk for every step.
    """

    def __init__(self, make: Callable[[int, int], HeadSurvey], worker: Worker) -> None:
        self._make, self._worker = make, worker
        self._held: dict[tuple[int, int], _Survey] = {}
        self._lock = threading.Lock()
        worker.serve(self._next)

    def get(self, call: int, sequence: int) -> HeadMeasures | None:
        """What is known so far, None before anything is; more comes while it is asked for. Never waits.

        Raises:
            Exception: whatever went wrong while it was made.
        """
        with self._lock:
            one = self._held.setdefault((call, sequence), _Survey(lambda: self._make(call, sequence)))
        one.asked = time.monotonic()
        if one.error is not None:
            raise one.error
        known = one.found
        self._worker.wake()
        return known

    def _next(self) -> Step | None:
        with self._lock:
            wanted = (one for one in self._held.values() if one.wanted)
            return min(wanted, key=lambda one: one.measured.bit_length(), default=None)
