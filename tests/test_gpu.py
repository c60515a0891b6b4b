"""Statistics on a GPU, without one: the kernels in Triton's interpreter and compiled for GPUs that are not here, the
identities on PyTorch's kernels for the CPU, and what is chosen when."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import foveate as fv
import oracle
from foveate import masks, stats
from foveate.gpu import find
from foveate.masks import Mask
from foveate.native import Wanted
from foveate.operator import engine, gpu, identities
from foveate.shapes import Geometry

ENGINE = sys.modules["foveate.operator.engine"]  # the name is the function's in the package
HERE = Path(__file__).parent
APART = Path(sys.prefix) / "gpu"  # where `make` puts Triton
needs_triton = pytest.mark.skipif(
    find_spec("triton") is None and not (APART / "triton").is_dir(),
    reason="triton is not installed; pip install triton",
)


def run_file(name: str, **environment: str) -> None:
    """The tests of a file that is not collected here, in a process that has this environment from its start."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(HERE / name)]
    settings = {n: v for n, v in os.environ.items() if not n.startswith(("TRITON_", "PYTEST_"))} | environment
    settings["PYTHONPATH"] = os.pathsep.join(filter(None, [str(APART), settings.get("PYTHONPATH")]))
    done = subprocess.run(command, capture_output=True, text=True, env=settings, cwd=HERE.parent, timeout=300)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-6000:] + done.stderr[-2000:]


@needs_triton
def test_kernels_in_the_interpreter() -> None:
    run_file("gpu_interpreted.py", TRITON_INTERPRET="1", FOVEATE_NATIVE="0")


@needs_triton
def test_kernels_compile_for_gpus_that_are_not_here(tmp_path: Path) -> None:
    run_file("gpu_compiled.py", TRITON_CACHE_DIR=str(tmp_path))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_benchmark_says_that_speed_is_unmeasured() -> None:
    command = [sys.executable, str(HERE.parent / "benchmarks" / "gpu.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith("No CUDA device here: the speed of the GPU kernels is unmeasured.")


# the identities


def entropy_of(w: torch.Tensor) -> torch.Tensor:
    return torch.special.entr(w).sum(-1)


@pytest.mark.parametrize("kernel", ["cpu", "flex"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("spread", [0.7, 1.0, 1.5])
def test_identities_in_float32(kernel: str, causal: bool, spread: float) -> None:
    """Below a spread of 0.5 the exponentials of PyTorch's kernel for the CPU err more than plain ones do."""
    q, k, _ = oracle.inputs(heads=3, groups=3, queries=101, keys=101, width=37, dtype=torch.float32)
    q = q * spread
    allowed = torch.ones(101, 101, dtype=torch.bool).tril(0 if causal else 101)
    exact = oracle.weights(q, k, allowed=allowed)
    plain = torch.softmax((q @ k.mT * 37**-0.5).masked_fill(~allowed, -torch.inf), -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # flex_attention says that it is not compiled
        entropy, lse = identities.entropy(q, k, identities.KERNELS[kernel], 37**-0.5, causal)
        received = identities.received(q, k, lse, identities.KERNELS[kernel], 37**-0.5, causal)
    oracle.as_good_as(entropy, entropy_of(plain), entropy_of(exact))
    oracle.as_good_as(received, plain.sum(-2), exact.sum(-2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_identities_in_half_precision(dtype: torch.dtype) -> None:
    """Attention received is as exact as from float32 weights; the entropy is not, so that it must not be offered."""
    q, k, _ = oracle.inputs(heads=3, groups=3, queries=101, keys=101, width=37, dtype=dtype)
    exact = oracle.weights(q, k)
    plain = torch.softmax(q.float() @ k.float().mT * 37**-0.5, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        entropy, lse = identities.entropy(q, k, identities.KERNELS["flex"], 37**-0.5)
        received = identities.received(q, k, lse, identities.KERNELS["flex"], 37**-0.5)
    oracle.as_good_as(received, plain.sum(-2), exact.sum(-2))
    assert (entropy - entropy_of(exact)).abs().max() > 100 * (entropy_of(plain) - entropy_of(exact)).abs().max()
    weights = fv.AttentionMap(q, k)
    assert "less exact" in str(identities.obstacle(weights.problem, None, Wanted(entropy=True)))
    assert "PyTorch's kernel rounds" in str(identities.obstacle(weights.problem, None, Wanted(received=True)))


@pytest.fixture
def by_identities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENGINE, "ENGINES", {"identities": identities})
    monkeypatch.setattr(ENGINE, "BLOCKS_SUFFICE", ())


@pytest.mark.parametrize("mask", [None, masks.causal()])
def test_reduce_by_identities(by_identities: None, monkeypatch: pytest.MonkeyPatch, mask: Mask | None) -> None:
    q, k, _ = oracle.inputs(queries=23, keys=23, dtype=torch.float32)
    weights = fv.AttentionMap(q, k, mask=mask)
    assert engine(weights.problem, None, Wanted(entropy=True)).backend == "identities"
    monkeypatch.setattr("foveate.stats.strips", None)  # no block is computed
    lse, entropy, received = weights.reduce(stats.LogSumExp(), stats.Entropy(), stats.Received())
    allowed = torch.ones(23, 23, dtype=torch.bool).tril(0 if mask else 23)
    exact = oracle.weights(q, k, allowed=allowed)
    torch.testing.assert_close(entropy.double(), entropy_of(exact), rtol=0, atol=5e-6)
    torch.testing.assert_close(received.double(), exact.sum(-2), rtol=5e-6, atol=0)
    torch.testing.assert_close(lse, weights.to(torch.float64).logsumexp().float())


def test_identities_leave_what_would_cancel_and_nan_to_blocks(by_identities: None) -> None:
    q, k, _ = oracle.inputs(queries=23, keys=23, dtype=torch.float32)
    torch.testing.assert_close(
        fv.AttentionMap(20 * q, k).reduce(stats.Entropy()).double(),
        entropy_of(oracle.weights(20 * q, k)),
        rtol=0,
        atol=5e-6,
    )
    q[1, 2, 3] = torch.nan
    found = fv.AttentionMap(q, k).reduce(stats.Entropy())
    assert found[1, 2, 3].isnan() and found.isnan().sum() == 1


REFUSED: dict[str, tuple[dict[str, Any], Wanted, str]] = {
    "largest": ({}, Wanted(top=2), "follow from no identity"),
    "causal": ({"mask": masks.causal()}, Wanted(), "not plain causal over as many"),
    "window": ({"mask": masks.window(2)}, Wanted(), "not plain causal"),
    "bias": ({"bias": torch.zeros(5, 7)}, Wanted(), "it has a bias"),
    "softcap": ({"score": fv.scores.scaled_dot(softcap=2.0)}, Wanted(), "a softcap"),
    "scale": ({"scale": 0.0}, Wanted(), "its scale is 0"),
    "score": ({"score": fv.scores.cosine()}, Wanted(), "its score is cosine"),
    "normalizer": ({"normalizer": "sigmoid"}, Wanted(), "its normalizer is sigmoid"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_identities_cannot_say(name: str) -> None:
    options, wanted, reason = REFUSED[name]
    weights = fv.AttentionMap(*oracle.inputs(dtype=torch.float32)[:2], **options)
    assert reason in str(identities.obstacle(weights.problem, None, wanted))


# what is chosen when


@pytest.mark.parametrize("queries", [5, 7, 9])
@pytest.mark.parametrize(
    "mask",
    [
        masks.everything(),
        masks.causal(),
        masks.causal("start"),
        masks.window(1),
        masks.window(2, 1) & masks.causal("start"),
        masks.causal() & masks.causal("start"),
    ],
    ids=str,
)
def test_masks_that_are_bands(mask: Mask, queries: int) -> None:
    found = gpu.band(mask, Geometry(1, 1, queries, 7))
    gap = torch.arange(7) - torch.arange(queries)[:, None]
    assert found is not None and found.offset == 0
    seen = torch.ones_like(gap, dtype=torch.bool)
    seen &= True if found.left is None else gap >= -found.left
    seen &= True if found.right is None else gap <= found.right
    assert torch.equal(seen, oracle.table(mask, (1,), 1, queries, 7)[0, 0])


def test_masks_that_are_none() -> None:
    g = Geometry(1, 1, 5, 7)
    for mask in (
        masks.padding([3]),
        masks.causal() | masks.window(1),
        ~masks.causal(),
        masks.causal() & masks.prefix(2),
    ):
        assert gpu.band(mask, g) is None


def test_nothing_changes_on_the_cpu() -> None:
    weights = fv.AttentionMap(*oracle.inputs(dtype=torch.float32)[:2])
    chosen = engine(weights.problem, None, Wanted(entropy=True))
    assert chosen.backend == ("native" if fv.config().native else "blocks")
    assert find.obstacle(torch.device("cpu")) in ("triton is not installed", "its inputs are not on a CUDA device")


def test_config_says_what_computes_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        assert fv.config().cuda == "no CUDA device"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(find, "installed", lambda: "3.7.1")
    assert fv.config().cuda.startswith("identities, blocks; the GPU is not an NVIDIA one of compute capability 8.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert fv.config().cuda == "triton 3.7.1, identities, blocks"
    monkeypatch.setattr(find, "installed", lambda: None)
    assert fv.config().cuda == "identities, blocks; triton is not installed"
    monkeypatch.setenv("FOVEATE_TRITON", "0")
    assert "FOVEATE_TRITON=0" in fv.config().cuda
