"""Every score with every normaliser and mask: derivatives against finite differences, results against the reference
over drawn shapes, strides, dtypes and magnitudes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import foveate as fv
import kinds
import oracle
from kinds import MASKS, MORE_MASKS, NORMALIZERS, SCORES

# torch imports its own deprecated helpers when a forward-mode derivative is first taken
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in {
        "BLOCK_NUMBERS": 4,
        "GOOD_NUMBERS": 4,
        "MOST_ROWS": 2,
        "FEWEST_ROWS": 1,
        "MASK_STEP": 2,
    }.items():
        monkeypatch.setattr(f"foveate.operator.problem.{name}", number)


class Problem:
    """One combination as a function of its tensors: queries, keys, values, and the parameters of its parts."""

    def __init__(self, score: str, normalizer: str, mask: str) -> None:
        self.score, self.normalizer, self.mask = SCORES[score], NORMALIZERS[normalizer], (MASKS | MORE_MASKS)[mask]()
        sizes = {"heads": 2, "groups": 1, "queries": 3, "keys": 4, "width": 2, "depth": 1}
        inputs = [t.requires_grad_() for t in oracle.inputs((1,), **sizes)]
        self.leaves = (*inputs, *self.score.parameters(), *self.normalizer.parameters())

    def attend(self, *leaves: Tensor, backend: str = "blocks") -> tuple[Tensor, fv.AttentionMap]:
        q, k, v, *rest = leaves
        n = len(self.score.shapes)
        score, normalizer = self.score.make(*rest[:n]), self.normalizer.make(*rest[n:])
        return fv.attention(q, k, v, score=score, normalizer=normalizer, mask=self.mask, backend=backend)

    def output(self, *leaves: Tensor) -> Tensor:
        return self.attend(*leaves)[0]


COMBINATIONS = [*kinds.combinations(), *(("scaled_dot", "softmax", mask) for mask in MORE_MASKS)]


@pytest.mark.parametrize(("score", "normalizer", "mask"), COMBINATIONS)
@pytest.mark.usefixtures("small_blocks")
def test_derivatives(score: str, normalizer: str, mask: str) -> None:
    problem = Problem(score, normalizer, mask)
    each_once = mask == "empty row" and (score == "scaled_dot" or normalizer == "softmax")
    assert gradcheck(problem.output, problem.leaves, fast_mode=not each_once)
    assert mask == "none" or gradgradcheck(problem.output, problem.leaves, fast_mode=True)
    found = []
    for backend in ("blocks", "reference", "auto"):
        out, weights = problem.attend(*problem.leaves, backend=backend)
        grads = torch.autograd.grad(out.square().sum(), problem.leaves, allow_unused=True)
        found.append([out.detach(), weights.dense().detach(), *(torch.zeros(()) if g is None else g for g in grads)])
    for ours in (found[0], found[2]):
        for a, b in zip(ours, found[1], strict=True):
            oracle.close(a, b)


@pytest.mark.parametrize(
    ("score", "normalizer"),
    [
        (score, n)
        for score in SCORES
        for n in NORMALIZERS
        if NORMALIZERS[n].smooth and (n.startswith("softmax") or SCORES[score].positive)
    ],
)
@pytest.mark.usefixtures("small_blocks")
def test_forward_mode(score: str, normalizer: str) -> None:
    """Promised for softmax; of the others one score each."""
    problem = Problem(score, normalizer, "empty row")
    assert gradcheck(problem.output, problem.leaves, check_forward_ad=True, check_backward_ad=False, fast_mode=True)


# drawn shapes, strides, dtypes and magnitudes

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "as it comes": lambda t: t,
    "heads beside the width": lambda t: t.transpose(1, 2).contiguous().transpose(1, 2),
    "every second number": lambda t: t.repeat_interleave(2, dim=-1)[..., ::2],
    "width before length": lambda t: t.mT.contiguous().mT,
    "one sequence for all": lambda t: t[:1].expand_as(t),
}


@st.composite
def problems(draw: Any) -> tuple[dict[str, Any], torch.dtype, Any]:
    batch, groups, shared = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    queries, keys, width, depth = (draw(st.integers(1, 6)) for _ in range(4))
    dtype = draw(st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]))
    torch.manual_seed(draw(st.integers(0, 99)))
    sizes = {"groups": groups, "heads": groups * shared, "queries": queries, "keys": keys, "width": width}
    q, k, v = (LAYOUTS[draw(st.sampled_from([*LAYOUTS]))](t) for t in oracle.inputs((batch,), depth=depth, **sizes))
    q = q * draw(st.sampled_from([0.0, 1e-30, 1.0, 30.0, 3e3]))
    masks = [fv.masks.everything(), fv.masks.causal(), fv.masks.window(1), fv.masks.prefix(keys // 2)]
    masks += [fv.masks.padding(torch.randint(0, keys + 1, (batch,))), fv.masks.tensor(torch.rand(queries, keys) < 0.4)]
    parts: dict[str, Any] = {"mask": draw(st.sampled_from(masks)) & draw(st.sampled_from(masks))}
    if draw(st.booleans()):
        parts["bias"] = torch.randn(groups * shared, 1, keys, dtype=torch.float64).to(dtype)
        if draw(st.booleans()):
            parts["bias"][:, :, draw(st.integers(0, keys - 1))] = draw(st.sampled_from([-torch.inf, -1e4]))
    return parts, dtype, [t.to(dtype) for t in (q, k, v)]


@settings(max_examples=100, deadline=None)
@given(problems(), st.sampled_from([None, 2.0]), st.sampled_from(["softmax", "off by one", "sinks"]))
def test_every_backend_is_as_exact_as_its_dtype(case: Any, softcap: float | None, kind: str) -> None:
    """Against the reference in float64, by a bound on rounding: a score of D products errs by (D + 4) eps times their
    sizes, a weight by twice that part of itself, the sum of K values by K eps more, and the result is rounded once."""
    parts, dtype, (q, k, v) = case
    sinks = torch.linspace(-1, 1, q.shape[1], dtype=torch.float64)
    normalizer = {"softmax": "softmax", "off by one": fv.normalizers.softmax(off_by_one=True)}.get(kind)
    normalizer = normalizer or fv.normalizers.softmax(sinks)
    parts = {**parts, "score": fv.scores.scaled_dot(softcap=softcap), "normalizer": normalizer}
    wide = {name: t.double() if isinstance(t, Tensor) else t for name, t in parts.items()}
    hidden = parts.get("bias", torch.zeros(())) <= torch.finfo(dtype).min
    if "bias" in parts:
        wide["bias"] = wide["bias"].masked_fill(hidden, -torch.inf)
    exact, dense = fv.attention(q.double(), k.double(), v.double(), **wide, backend="reference")
    compute = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    sizes = (q.abs().double() @ k.abs().double().repeat_interleave(q.shape[1] // k.shape[1], 1).mT) * q.shape[
        -1
    ] ** -0.5
    added = parts["bias"].masked_fill(hidden, 0.0).abs().max().double() if "bias" in parts else 0.0
    error = (2 * (q.shape[-1] + 4) * compute * (sizes.amax(-1, keepdim=True) + added + 1)).clamp(max=1.0)
    most = v.abs().max().double()
    bound = (2 * error + k.shape[2] * compute) * most + torch.finfo(dtype).eps * exact.abs() + torch.finfo(dtype).tiny
    read = oracle.output(dense.dense(), v.abs())  # PyTorch's fused kernel rounds weights to the dtype before it reads
    for backend in ("auto", "blocks", "reference"):
        out, weights = fv.attention(q, k, v, **parts, backend=backend)
        assert out.dtype == dtype and torch.equal(out, fv.attention(q, k, v, **parts, backend=backend)[0])
        kernel = torch.finfo(dtype).eps * read if backend == "auto" else 0.0
        assert ((out.double() - exact).abs() <= bound + kernel).all(), backend
        seen = dense.dense()
        assert ((weights.dense().double() - seen).abs() <= 2 * error + torch.finfo(dtype).eps).all(), backend
        assert ((weights.dense() == 0) | (seen > 0)).all()  # nothing hidden has a weight


def test_everything_public_takes_part() -> None:
    """A kind's name begins with that of the function, or learned score, that makes it; two masks stand for others."""
    makers = {"named", "resolve", "safe", "lead"}
    masks = [*MORE_MASKS, "where", "window"]  # "empty row" and "causal window"
    for module, table in ((fv.scores, SCORES), (fv.normalizers, NORMALIZERS), (fv.masks, masks)):
        public = {name for name in module.__all__ if name.islower()} - makers
        missing = {name for name in public if not any(kind.startswith(name) for kind in table)}
        assert not missing, f"add {missing} to tests/kinds.py"
    learned = {name.lower() for name in fv.scores.LEARNED}
    assert not {name for name in learned if not any(kind.startswith(name) for kind in SCORES)}
