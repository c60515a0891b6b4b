"""The machine at hand in words: what a figure must be read beside. No host or user names."""

from __future__ import annotations

import os
import platform

import torch

import foveate

__all__ = ["free_bytes", "machine", "sentence"]

_ISA = {"AVX512": "AVX-512", "AVX2": "AVX2", "DEFAULT": ""}


def machine() -> dict[str, str | int]:
    """Facts that change what a measurement gives."""
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "cpu": platform.machine().replace("_", "-"),
        "isa": _ISA.get(capability, capability),
        "system": platform.system(),
        "core": foveate.config().isa or "not built",
        "torch": torch.__version__,
        "foveate": foveate.__version__,
    }


def sentence(facts: dict[str, str | int]) -> str:
    """The facts as words, such as "2 cores of an x86-64 CPU with AVX-512"."""
    cores = "1 core" if facts["cores"] == 1 else f"{facts['cores']} cores"
    cpu = str(facts["cpu"])
    article = "an" if cpu[:1].lower() in "aeiox" else "a"
    isa = f" with {facts['isa']}" if facts["isa"] else ""
    return f"{cores} of {article} {cpu} CPU{isa}"


def free_bytes() -> int | None:
    """Memory that can be had without swapping, the control group's limit respected; None where nobody says."""
    found = [n for n in (_meminfo(), _control_group()) if n is not None]
    return min(found, default=None)


def _meminfo() -> int | None:
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _control_group() -> int | None:
    most, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    return max(0, int(most) - int(used)) if most.isdigit() and used.isdigit() else None


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
