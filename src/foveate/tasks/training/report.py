"""What a run tells: JSON lines on disk, and on standard error a live line where someone is looking, else plain ones."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from ..files import save_text

__all__ = ["Log", "Progress", "duration", "read_log"]


def duration(seconds: float) -> str:
    """3 s, 12 min, 2 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class Log:
    """JSON lines in a file. A run that is resumed drops what was written after its checkpoint, then goes on.

    Args:
        after: the step of the checkpoint that is resumed; default: none is, and the log begins anew.
        epochs: how many epochs were finished by then. The last step of an epoch may be in a checkpoint that its
            validation is not in.
    """

    def __init__(self, path: Path, *, after: int | None = None, epochs: int | None = None) -> None:
        self.path = path
        kept = [] if after is None else [line for line in read_log(path) if _is_before(line, after, epochs)]
        save_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def add(self, **values: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def _is_before(line: dict[str, Any], step: int, epochs: int | None) -> bool:
    kind = line.get("kind")
    done = epochs is None or kind != "valid" or line["epoch"] <= epochs
    return line["step"] <= step and done and kind != "chosen"


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last one that was cut off is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


class Progress:
    """A line on standard error for each report: how far, these values, the time left.

    In a terminal it is one line that changes, with a bar (rich, if it is installed), gone at the end; lines of `say`
    stay above it.
    """

    def __init__(self, steps: int, *, first: int = 0, seconds: float = 0.0, quiet: bool = False) -> None:
        self.steps, self.first, self.quiet = steps, first, quiet
        self.before, self.start = seconds, time.monotonic()
        self._live = None if quiet or not sys.stderr.isatty() else _live(steps, first)

    @property
    def seconds(self) -> float:
        """Wall time spent on training, including the runs that this one resumed."""
        return self.before + time.monotonic() - self.start

    def left(self, step: int) -> float:
        """Seconds until the last step, at the pace of this run."""
        return (time.monotonic() - self.start) / max(1, step - self.first) * max(0, self.steps - step)

    @property
    def live(self) -> bool:
        """Whether there is a line that changes."""
        return self._live is not None

    def at(self, step: int, values: dict[str, Any] | None = None) -> None:
        """Where training stands, on the line that changes; without values those that are there stay."""
        if self._live is not None:
            bar, task = self._live
            bar.update(task, completed=step, **({} if values is None else {"facts": _shown(values)}))

    def say(self, step: int, values: dict[str, Any], name: str = "") -> None:
        """A line that stays."""
        if self.quiet:
            return
        text = f"{name or f'step {step:,}/{self.steps:,}'}  {_shown(values)}  {duration(self.left(step))} left"
        if self._live is not None:
            self._live[0].console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._live is not None:
            self._live[0].stop()
            self._live = None


def _shown(values: dict[str, Any]) -> str:
    texts = (f"{v:,.0f}" if isinstance(v, int | float) and abs(v) >= 1000 else f"{v:.4g}" if isinstance(v, float)
             else str(v) for v in values.values())  # fmt: skip
    return "  ".join(f"{name.replace('_', ' ')} {text}" for name, text in zip(values, texts, strict=True))


def _live(steps: int, first: int) -> tuple[Any, Any] | None:
    try:
        from rich import progress
        from rich.console import Console
    except ImportError:
        return None
    columns = (
        progress.BarColumn(24),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[facts]}"),
        progress.TimeRemainingColumn(compact=True),
    )
    bar = progress.Progress(*columns, console=Console(file=sys.stderr), refresh_per_second=4, transient=True)
    bar.start()
    return bar, bar.add_task("training", total=steps, completed=first, facts="")
