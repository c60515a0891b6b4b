"""Recordings of attention: in memory, and on disk in a layout that survives kill -9 and trusts nobody.

    seen.save("run.fov")
    seen = fv.load("run.fov")
    seen.read("h.3.attn", "query")[0, 3, 1000:2024]     # reads these rows, nothing else

The layout is specified in docs/format.md.
"""

from .calls import CallInfo, CallSequence, MemoryCall
from .reader import load
from .recording import Notes, Recording
from .strict import RecordingError, RecordingWarning
from .writer import RecordingWriter

__all__ = [
    "CallInfo",
    "CallSequence",
    "MemoryCall",
    "Notes",
    "Recording",
    "RecordingError",
    "RecordingWarning",
    "RecordingWriter",
    "load",
]
