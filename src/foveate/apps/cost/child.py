"""One measurement, in a process of its own: `python -m foveate.apps.cost.child JSON`, one line of JSON comes back.

Memory: resident memory at its highest during one call, less that just before it, when inputs exist and libraries are
loaded. Python's tracemalloc sees no tensor; torch's own counters see no buffer that another library or a kernel takes.
The system sees all, but only pages that change hands, and an allocator that keeps freed memory for reuse hides what is
taken from it. So every block from 64 KiB on is mapped by itself (`mallopt`), without huge pages, and the system's
high-water mark is reset before the call (`/proc/self/clear_refs`): a dense softmax is counted to 1 %. Where there is no
such mark, the growth of the process's highest size over that call is taken, which may miss a little.

Time: then the allocator goes back to what it does in a long-running program, and calls are repeated for about half a
second; every call's seconds are given, wall and processor.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from typing import Any

import torch
from torch import Tensor

from foveate.apps.cost.forms import Form, Run, parse_form
from foveate.operator import choose

_M_MMAP_THRESHOLD = -3
_PR_SET_PDEATHSIG, _PR_SET_THP_DISABLE = 1, 41
_M_TRIM_THRESHOLD = -1
_MAPPED_FROM = 1 << 16  # bytes; smaller blocks come from a heap
_KEPT_BELOW = 1 << 25  # where glibc's own threshold settles once large blocks have been freed
_WARM_LENGTH = 64
_SECONDS, _MOST_RUNS, _LEAST_RUNS = 0.5, 50, 3
_ALLOCATOR_SLACK = 1 << 28  # threads' stacks and arenas


def measure(task: dict[str, Any]) -> dict[str, Any]:
    """Measure `task`: form, n, heads, width, dtype, threads, and `limit`, the seconds all of it may take."""
    _tune(_MAPPED_FROM)
    torch.set_num_threads(task["threads"])
    form, x = parse_form(task["form"])
    n = task["n"]
    draw = torch.Generator().manual_seed(0)
    shape = (1, task["heads"], n, task["width"])
    q, k, v = (torch.randn(shape, generator=draw).to(getattr(torch, task["dtype"])) for _ in range(3))
    with torch.inference_mode():
        short = min(n, _WARM_LENGTH)
        form.make(short, x)(*(t[..., :short, :] for t in (q, k, v)))  # libraries load, threads start
        run = form.make(n, x)
        start = time.perf_counter()
        most, how, backend = _peak(form, run, (q, k, v))
        _tune(_KEPT_BELOW)
        wall, processor = _times(run, (q, k, v), task["limit"] - 2 * (time.perf_counter() - start))
    return {"wall": wall, "processor": processor, "bytes": most, "memory": how, "backend": backend}


def _peak(form: Form, run: Run, inputs: tuple[Tensor, ...]) -> tuple[int | None, str, str]:
    """Bytes beyond the inputs at the highest point of a call, how they were counted, and the backend that ran."""
    marked = _reset_mark()
    before = _status("VmRSS") if marked else _highest()
    result = run(*inputs)
    after = _status("VmHWM") if marked else _highest()
    backend = choose(result[1].problem, inputs[2], form.backend).backend if form.backend else ""
    how = "high-water mark of one call" if marked else "growth of the highest size"
    if before is None or after is None:
        return None, "not counted on this system", backend
    return max(0, after - before), how, backend


def _times(run: Run, inputs: tuple[Tensor, ...], seconds: float) -> tuple[list[float], list[float]]:
    wall: list[float] = []
    processor: list[float] = []
    while sum(wall) < _SECONDS or len(wall) < _LEAST_RUNS:
        start, busy = time.perf_counter(), time.process_time()
        result = run(*inputs)
        wall.append(round(time.perf_counter() - start, 7))
        processor.append(round(time.process_time() - busy, 7))
        del result
        if len(wall) == _MOST_RUNS or sum(wall) + 2 * wall[-1] > seconds:
            break
    return wall, processor


def _reset_mark() -> bool:
    if sys.platform != "linux":
        return False
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return False
    return True


def _tune(mapped_from: int) -> None:
    """Blocks from this size on are mapped from the system, and given back as soon as they are free."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim"):
            libc.mallopt(_M_MMAP_THRESHOLD, mapped_from)
            libc.mallopt(_M_TRIM_THRESHOLD, 2 * mapped_from)
            libc.malloc_trim(0)


def _status(name: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{name}:"))


def _highest() -> int | None:
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _confine(room: int | None, parent: int | None) -> None:
    """Let this process die with its parent, and fail rather than the machine: an allocation beyond `room` raises."""
    if sys.platform != "linux":
        return
    import resource

    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:  # it died while this process was starting
        os._exit(1)
    libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    if room is not None:
        most = _status("VmData") + room + _ALLOCATOR_SLACK
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def main() -> int:
    task = json.loads(sys.argv[1])
    _confine(task.get("room"), task.get("parent"))
    try:
        print(json.dumps(measure(task)))
    except (MemoryError, RuntimeError) as error:
        text = " ".join(str(error).split())
        out = isinstance(error, MemoryError) or "can't allocate" in text or "not enough memory" in text
        print(json.dumps({"failed": "memory ran out" if out else f"{type(error).__name__}: {text[:200]}"}))
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # libraries' exit handlers may abort after a failed allocation
