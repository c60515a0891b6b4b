"""Going on with a recording that was cut off: its complete calls stay, and are not written again."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor

from .calls import Call
from .disk import read_small, write_whole
from .reader import INDEX_LIMIT, StoredCall, load
from .recording import Notes
from .strict import RecordingError, RecordingWarning
from .writer import RecordingWriter, put

__all__ = ["Unfinished"]

NEAR = 0.05  # of the largest number: what threads, fused kernels and rounding to 16 bits may change


class Unfinished:
    """The complete calls of a recording that was never finished, and a writer that adds to them.

    Where nothing is there yet, there are no calls, and the writer begins.

    Raises:
        RecordingError: the recording is finished, damaged, or something else.
    """

    def __init__(self, path: Path, notes: Notes) -> None:
        self.calls: dict[tuple[str, int], Call] = {}
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            self.writer = RecordingWriter(path, notes)
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RecordingWarning)
            found = load(path)
        if found.complete:
            raise RecordingError(f"{path} is finished: there is nothing to go on with")
        order = [call for call in found._order if isinstance(call, StoredCall)]
        data = read_small(path, "index.jsonl", INDEX_LIMIT)
        whole = b"".join(line + b"\n" for line in data.split(b"\n")[: len(order)])
        write_whole(path / "index.jsonl", lambda file: put(file, whole))
        self.calls = {(call.info.name, call.step): call for call in order}
        self.writer = RecordingWriter.going_on(path, len(order))

    def take(self, name: str, step: int, query: Tensor, key: Tensor) -> Call | None:
        """The call that is there already, if it is; it must be the one that happens again.

        Raises:
            RecordingError: it was of another text, model or choice of heads.
        """
        call = self.calls.pop((name, step), None)
        if call is not None and not (_same(call, "query", query) and _same(call, "key", key)):
            raise RecordingError(
                f"{self.writer.path}: the call of {name!r} there is of another text, model or choice of heads; go on "
                "with the same, or record into another folder"
            )
        return call

    def end(self) -> None:
        """Raises RecordingError if there are calls that did not happen again."""
        if self.calls:
            names = ", ".join(sorted({repr(name) for name, _ in self.calls})[:3])
            raise RecordingError(
                f"{self.writer.path} has {len(self.calls)} calls that did not happen again, of {names}; go on with the "
                "same choice of layers, or record into another folder"
            )


def _same(call: Call, role: str, new: Tensor) -> bool:
    """Whether shapes and the last vectors of all heads are alike."""
    stored = call.read(role)
    assert stored is not None
    if tuple(stored.shape) != tuple(new.shape):
        return False
    last = (..., slice(max(0, new.shape[-2] - 1), None), slice(None))
    old, fresh = (t[last].to(torch.float32) for t in (stored, new))
    size = float(fresh.abs().amax()) if fresh.numel() else 0.0
    return bool(torch.allclose(old, fresh, rtol=0.0, atol=NEAR * size, equal_nan=True))
