"""Which form of attention runs where: found out by running it. `python tests/forms.py` writes docs/forms.md.

A cell is what a backend can do with a form, each compared with the dense definition's own result: `f` forward, `b`
first derivatives, `d` second derivatives, `j` forward-mode derivatives.
"""

from __future__ import annotations

import argparse
import io
import logging
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

import foveate as fv
from foveate import masks, positions
from foveate.operator import BACKENDS, choose
from kinds import NORMALIZERS, SCORES

B, H, Q, K, D = 2, 2, 3, 4, 2
DTYPE = {"native": torch.float32}  # what a backend is asked in; else float64
PAGE = Path(__file__).parents[1] / "docs" / "forms.md"

Options = Callable[[torch.dtype], dict[str, Any]]  # for queries of a dtype
MASKS: dict[str, Options] = {
    "causal": lambda _: {"mask": masks.causal()},
    "window": lambda _: {"mask": masks.window(1)},
    "causal & window, offset for a cache": lambda _: {"mask": masks.causal(offset=[0, 1]) & masks.window(2)},
    "padding": lambda _: {"mask": masks.padding([2, 4])},
    "documents": lambda _: {"mask": masks.documents(torch.tensor([0, 0, 1, 1]))},
    "packed": lambda _: {"mask": masks.packed([1, 2], [2, 2])},
    "prefix": lambda _: {"mask": masks.causal() | masks.prefix(2)},
    "dilated": lambda _: {"mask": masks.dilated(1, dilation=2)},
    "strided": lambda _: {"mask": masks.strided(2)},
    "block_sparse": lambda _: {"mask": masks.block_sparse(torch.eye(2).bool(), 2)},
    "global_tokens": lambda _: {"mask": masks.global_tokens([0])},
    "where": lambda _: {"mask": masks.where(lambda b, h, q, k: (q + k) % 2 == 0)},
    "tensor": lambda _: {"mask": masks.tensor(torch.ones(Q, K).tril().bool())},
}
BIASES: dict[str, Options] = {
    "numbers": lambda dtype: {"bias": torch.linspace(-1, 1, Q * K, dtype=dtype).reshape(Q, K)},
    "alibi": lambda dtype: {"bias": positions.alibi(H).to(None, dtype)},
    "RelativeBuckets": lambda dtype: {"bias": positions.RelativeBuckets(H, 4).to(dtype)()},
    "RelativeKeys": lambda dtype: {"bias": positions.RelativeKeys(D, 2).to(dtype)()},
}


def rows() -> dict[str, dict[str, Options]]:
    """Section -> form -> options. Scores and normalisers are those of `kinds`."""

    def part(name: str, kind: Any) -> Options:
        return lambda dtype: {name: kind.make(*(p.detach().to(dtype) for p in kind.parameters()))}

    positive = SCORES["a positive function"].make
    return {
        "Scores": {name: part("score", kind) for name, kind in SCORES.items()},
        "Normalisers": {
            name: (lambda dtype, kind=kind: {**part("normalizer", kind)(dtype), "score": positive()})
            if kind.positive
            else part("normalizer", kind)
            for name, kind in NORMALIZERS.items()
        },
        "Masks": MASKS,
        "Biases and positions": BIASES,
    }


def inputs(dtype: torch.dtype) -> list[Tensor]:
    g = torch.Generator().manual_seed(7)
    sizes = ((B, H, Q, D), (B, 1, K, D), (B, 1, K, D))
    return [torch.randn(size, dtype=torch.float64, generator=g).to(dtype) for size in sizes]


def derivatives(options: dict[str, Any], dtype: torch.dtype, backend: str, order: str) -> list[Tensor]:
    """Output (f), first (b) or second (d) derivatives, or the output's tangent (j)."""
    leaves = [t.requires_grad_(order in "bd") for t in inputs(dtype)]

    def run(*tensors: Tensor) -> Tensor:
        out: Tensor = fv.attention(*tensors, backend=backend, **options)[0]
        return out

    if order == "f":
        with torch.no_grad():
            return [run(*leaves)]
    if order == "j":
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(t, torch.cos(t)) for t in leaves]
            return [forward_ad.unpack_dual(run(*duals)).tangent]
    first = torch.autograd.grad(run(*leaves).square().sum(), leaves, create_graph=order == "d")
    if order == "b":
        return list(first)
    return list(torch.autograd.grad(sum(g.square().sum() for g in first), leaves))


def cell(make: Options, backend: str) -> str:
    """The letters of what works, `-` for none. A result that is not the reference's is an error, never a letter."""
    dtype, found = DTYPE.get(backend, torch.float64), ""
    for order in "fbdj":
        torch.manual_seed(0)
        options = make(dtype)
        try:
            mine = derivatives(options, dtype, backend, order)
        except (ValueError, NotImplementedError, RuntimeError):
            continue
        torch.manual_seed(0)
        expected = derivatives(make(torch.float64), torch.float64, "reference", order)
        tolerance = 1e-9 if dtype == torch.float64 else 1e-5
        for a, b in zip(mine, expected, strict=True):
            assert torch.allclose(a.double(), b, rtol=tolerance, atol=tolerance), f"{backend} is wrong, {order}"
        found += order
    return found or "-"


def compiles(make: Options) -> str:
    """Whether `torch.compile` takes `auto` in one graph, in several, or not at all; with the right result."""
    torch.manual_seed(0)
    options, tensors = make(torch.float64), inputs(torch.float64)
    expected = fv.attention(*tensors, backend="reference", **options)[0]
    for whole, name in ((True, "one graph"), (False, "several")):
        torch._dynamo.reset()
        graph = torch.compile(lambda *t: fv.attention(*t, **options)[0], backend="eager", fullgraph=whole)
        try:
            found = graph(*tensors)
        except Exception:  # whatever the compiler says, the answer is the next one
            continue
        finally:
            torch._dynamo.reset()
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)
        return name
    return "-"


def page() -> str:
    """The text of docs/forms.md."""
    text = io.StringIO()
    text.write((__doc__ or "").split("\n")[0].split(":")[0].replace("Which", "# Which") + "\n\n")
    text.write(INTRODUCTION)
    logging.disable(logging.WARNING)
    with redirect_stderr(io.StringIO()):
        for section, forms in rows().items():
            text.write(f"\n## {section}\n\n| form | {' | '.join(BACKENDS)} | `auto` takes | torch.compile |\n")
            text.write("|---" * (len(BACKENDS) + 3) + "|\n")
            for name, make in forms.items():
                cells = [cell(make, backend) for backend in BACKENDS]
                text.write(f"| {name} | {' | '.join(cells)} | {taken(make)} | {compiles(make)} |\n")
    logging.disable(logging.NOTSET)
    return text.getvalue()


def taken(make: Options) -> str:
    """What `auto` takes in float32, without and with gradients."""
    torch.manual_seed(0)
    found = []
    for wanted in (False, True):
        q, k, v = (t.requires_grad_(wanted) for t in inputs(torch.float32))
        found.append(choose(fv.AttentionMap(q, k, **make(torch.float32)).problem, v).backend)
    return found[0] if found[0] == found[1] else f"{found[0]}; {found[1]} with gradients"


INTRODUCTION = """\
Written by `python tests/forms.py`, which runs every cell and compares it with the dense definition; a test fails when
this page is not what it would write. `f` forward, `b` backward, `d` double backward, `j` forward-mode derivatives,
`-` refused with the reason. Softmax, scaled dot product and no mask, unless the row says otherwise. `auto` is asked at
this size (3 queries); the compiled core (`native`) is taken for large problems without gradients, see
[operator.md](operator.md). `native` is for the CPU; the others are PyTorch operations and run where PyTorch does, but
this table was run on a CPU only. torch.compile: `several` graphs where numbers in a tensor decide what is computed.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--print", action="store_true", help="print the page and write nothing")
    found = page()
    if parser.parse_args().print:
        print(found)
    else:
        PAGE.write_text(found, encoding="utf-8")


if __name__ == "__main__":
    main()
