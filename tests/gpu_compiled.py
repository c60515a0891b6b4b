"""The Triton kernels, compiled for GPUs that are not here. `test_gpu.py` runs this file in a process of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from foveate.gpu import kernels, tiles

POINTERS = {
    "q": None, "k": None, "v": None, "out": None, "sinks": "fp32", "peak": "fp32", "total": "fp32", "entropy": "fp32",
    "values": "fp32", "best": "fp32",
    "biggest": "fp32", "chunk": "i32", "indices": "i64", "received": "fp64", "summed": "fp64",
}  # fmt: skip
ALIGNED = {*POINTERS, "width", "depth", *(f"{t}_{axis}" for t in "qkv" for axis in "bhn")}
TYPES = {torch.bfloat16: "bf16", torch.float32: "fp32"}


def compiled(kernel: Any, dtype: torch.dtype, capability: int, stages: int, warps: int, **constants: Any) -> Any:
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else "i32" for name in names}
    signature |= {name: f"*{kind or TYPES[dtype]}" for name, kind in POINTERS.items() if name in names}
    signature |= {"factor": "fp32", "outer": "fp32"}
    places = {(names.index(name),): constant for name, constant in constants.items()}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name in ALIGNED}
    return triton.compile(
        ASTSource(kernel, signature, places, aligned),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": warps, "num_stages": stages},
    )


@pytest.mark.parametrize(("capability", "width", "dtype"), [(90, 64, torch.bfloat16), (80, 128, torch.bfloat16)])
def test_every_kernel_compiles_and_fits(capability: int, width: int, dtype: torch.dtype) -> None:
    t = tiles(width, dtype)
    shared = {"D": width, "LEFT": False, "RIGHT": True, "CAP": False}
    how = {"stages": t.stages, "warps": t.warps, "PRECISION": "ieee"}
    part = {"N": t.keys, "PARTS": t.keys // 8, **shared}
    flags = {"OUT": True, "ENTROPY": True, "SINKS": False}
    made = {
        "rows": compiled(kernels.rows, dtype, capability, M=t.rows, V=width, SLOTS=1, **flags, **part, **how),
        "best": compiled(kernels.rows, dtype, capability, M=t.rows, V=width, SLOTS=8, **flags, **part, **how),
        "pick": compiled(kernels.pick, dtype, capability, M=t.picked, SLOTS=8, **part, stages=2, warps=4),
        "columns": compiled(
            kernels.columns, dtype, capability, M=t.most_rows, N=t.most_columns, RECEIVED=True, MAX=True, MEAN=True,
            **shared, **how,
        ),
    }  # fmt: skip
    for name, kernel in made.items():
        assert kernel.metadata.shared <= (164 << 10 if capability == 80 else 227 << 10) - 1024, name
        code = kernel.asm["ptx"]
        assert f".target sm_{capability}" in code
        if name != "pick" and capability == 90:
            assert "wgmma.mma_async" in code, f"{name} does not use the tensor cores as Hopper has them"
    for name in ("rows", "columns"):  # the loops that load ahead while they compute
        assert "cp.async" in made[name].asm["ptx"], name
