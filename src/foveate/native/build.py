"""Compile the C++ core beside this file. Needs a C++ compiler and nothing else; run by the package's build and by hand.

    python src/foveate/native/build.py [FOLDER]

Imports nothing of foveate or torch, so that a build hook can load it by its path.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["LIBRARY", "SOURCES", "BuildError", "build"]

HERE = Path(__file__).parent
LIBRARY = "_core.so"
SOURCES = sorted([*HERE.glob("*.cpp"), *HERE.glob("*.h")])
FLAGS = "-std=c++17 -O3 -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -fno-math-errno -fno-trapping-math"
AVX512 = "-mavx512f -mavx512dq -mavx512bw -mavx512vl -mavx2 -mfma -mf16c -mprefer-vector-width=512"
X86 = {
    "portable": "",
    "avx2": "-mavx2 -mfma -mf16c",
    "avx512": AVX512,
    "avx512bf16": f"{AVX512} -mavx512bf16",
}


class BuildError(Exception):
    """There is no compiler, or it failed; the text says which."""


def compiler() -> list[str]:
    """The C++ compiler: CXX if that is set, else the first of c++, g++, clang++ that exists."""
    named = os.environ.get("CXX")
    if named:
        return shlex.split(named)
    for name in ("c++", "g++", "clang++"):
        found = shutil.which(name)
        if found:
            return [found]
    raise BuildError("no C++ compiler was found (c++, g++, clang++); set CXX to yours")


def build(folder: Path = HERE) -> Path:
    """Compile the library into `folder`, replacing the old one at once.

    Raises:
        BuildError: no compiler, or it failed.
    """
    cxx = compiler()
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    kinds = X86 if x86 else {"portable": ""}
    common = shlex.split(FLAGS) + (["-DFV_X86"] if x86 else [])
    with tempfile.TemporaryDirectory() as scratch:
        jobs = [(f"{name}.o", ["kernel.cpp", f"-DFV_NAME={name}", *flags.split()]) for name, flags in kinds.items()]
        jobs.append(("driver.o", ["driver.cpp"]))
        objects = [str(Path(scratch) / name) for name, _ in jobs]
        with ThreadPoolExecutor() as pool:
            commands = [[*cxx, *common, "-c", *args, "-o", o] for (_, args), o in zip(jobs, objects, strict=True)]
            list(pool.map(_run, commands))
        made = Path(scratch) / LIBRARY
        _run([*cxx, "-shared", "-pthread", *objects, "-o", str(made)])
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f".{LIBRARY}.{os.getpid()}"
        shutil.copy(made, fresh)
        os.replace(fresh, folder / LIBRARY)
    return folder / LIBRARY


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]} could not be run: {error}") from None
    if done.returncode:
        raise BuildError(f"{command[0]} failed ({done.returncode}): {done.stderr.strip()[-800:]}")


if __name__ == "__main__":
    print(build(*(Path(name) for name in sys.argv[1:2])))
