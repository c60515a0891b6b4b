"""Derivatives of the operator and of looked-at weights: first, second, forward-mode, and under torch.func."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import foveate as fv
import oracle
from foveate import AttentionMap, masks
from oracle import H, K, Q

BACKENDS = ["auto", "reference", "sdpa", "blocks"]
ANY = ["auto", "reference", "blocks"]
# torch imports its own deprecated helpers when a forward-mode derivative is first taken
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def small(**sizes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Small, as finite differences take one run per number."""
    sizes = {"heads": 2, "groups": 1, "queries": 3, "keys": 4, "width": 2, "depth": 1, **sizes}
    q, k, v = (t.requires_grad_() for t in oracle.inputs((1,), **sizes))
    return q, k, v


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foveate.operator.problem.BLOCK_NUMBERS", 4)
    monkeypatch.setattr("foveate.operator.problem.GOOD_NUMBERS", 4)
    monkeypatch.setattr("foveate.operator.problem.MOST_ROWS", 2)
    monkeypatch.setattr("foveate.operator.problem.FEWEST_ROWS", 1)
    monkeypatch.setattr("foveate.operator.problem.MASK_STEP", 2)


MASKS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "causal": masks.causal,
    "empty row": lambda: masks.where(lambda b, h, q, k: (q != 1) & (k != 2)),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MASKS)
@pytest.mark.usefixtures("small_blocks")
def test_first_and_second_derivatives(backend: str, name: str) -> None:
    q, k, v = small()
    bias = torch.randn(2, 3, 1, dtype=torch.float64, requires_grad=True)

    def output(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        return fv.attention(q, k, v, bias=bias, mask=MASKS[name](), backend=backend)[0]

    assert gradcheck(output, (q, k, v, bias))
    first, again = (
        torch.autograd.grad(output(q, k, v, bias).sum(), (q, k, v, bias), create_graph=graph) for graph in (False, True)
    )
    for a, b in zip(first, again, strict=True):
        oracle.close(b.detach(), a)
    assert gradgradcheck(output, (q, k, v, bias), fast_mode=True)


@pytest.mark.parametrize("backend", ANY)
@pytest.mark.usefixtures("small_blocks")
def test_derivatives_of_softcap_and_sinks(backend: str) -> None:
    q, k, v = small()
    sinks = torch.randn(2, dtype=torch.float64, requires_grad=True)

    def output(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor) -> Tensor:
        normalizer = fv.normalizers.softmax(sinks)
        return fv.attention(
            q, k, v, score=fv.scores.dot(softcap=1.5), normalizer=normalizer, mask=masks.causal(), backend=backend
        )[0]

    assert gradcheck(output, (q, k, v, sinks))
    assert gradgradcheck(output, (q, k, v, sinks), fast_mode=True)


@pytest.mark.parametrize("backend", ANY)
def test_a_score_that_learns(backend: str) -> None:
    q, k, v = small()
    w = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)

    def output(w: Tensor) -> Tensor:
        return fv.attention(q, k, v, score=lambda q, k: (q @ w) @ k.mT, mask=masks.causal(), backend=backend)[0]

    def tile(w: Tensor) -> Tensor:
        weights = AttentionMap(q.detach(), k.detach(), score=lambda q, k: (q @ w) @ k.mT)
        weights.logsumexp()  # kept, but no constant: the score moves with w
        return weights[0, :, 1:, :2]

    assert gradcheck(output, (w,)) and gradgradcheck(output, (w,))
    assert gradcheck(tile, (w,))


@pytest.mark.parametrize(
    "look",
    [
        lambda weights: weights.dense(),
        lambda weights: weights[0, 1, 2],
        lambda weights: weights[:, :, 1:, 1:3],
        lambda weights: weights[0, [0, 1, 1], [2, 0, 1], [1, 0, 3]],
        lambda weights: weights[0, [1, 0]][:, [0, 2]],
    ],
)
@pytest.mark.usefixtures("small_blocks")
def test_derivatives_flow_through_what_is_looked_at(look: Callable) -> None:
    q, k, _ = small()
    sinks = torch.randn(2, dtype=torch.float64, requires_grad=True)

    def seen(q: Tensor, k: Tensor, sinks: Tensor) -> Tensor:
        weights = AttentionMap(q, k, mask=masks.causal(), normalizer=fv.normalizers.softmax(sinks))
        weights.logsumexp()
        return look(weights)

    assert gradcheck(seen, (q, k, sinks))
    assert gradgradcheck(seen, (q, k, sinks), fast_mode=True)


def test_looking_under_no_grad_builds_no_graph() -> None:
    q, k, _ = small()
    with torch.no_grad():
        assert not AttentionMap(q, k).dense().requires_grad
    assert AttentionMap(q, k).dense().requires_grad and not AttentionMap(q, k).logsumexp().requires_grad


@pytest.mark.parametrize("backend", ["auto", "blocks"])
@pytest.mark.parametrize("name", ["none", "causal", "empty row"])
def test_forward_mode(backend: str, name: str) -> None:
    q, k, v = small()

    def output(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return fv.attention(q, k, v, mask=MASKS[name](), backend=backend)[0]

    assert gradcheck(output, (q, k, v), check_forward_ad=True, check_backward_ad=False)


def test_dual_numbers() -> None:
    q, k, v = (t.detach() for t in small())
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(q, torch.ones_like(q))
        out, weights = fv.attention(dual, k, v, mask=masks.causal())
        tangent = torch.autograd.forward_ad.unpack_dual(out).tangent
        assert torch.autograd.forward_ad.unpack_dual(weights[0, 0, 2]).tangent is not None
    step = 1e-6
    low, high = (fv.attention(q + s * step, k, v, mask=masks.causal())[0] for s in (-1, 1))
    torch.testing.assert_close(tangent, (high - low) / (2 * step), rtol=1e-6, atol=1e-8)


def test_transforms_of_torch_func() -> None:
    q, k, v = (t.detach() for t in small())
    plain, _ = fv.attention(q, k, v, mask=masks.causal())

    def output(q: Tensor, k: Tensor = k, v: Tensor = v) -> Tensor:
        return fv.attention(q, k, v, mask=masks.causal())[0]

    jacobians = [f(output)(q) for f in (torch.func.jacrev, torch.func.jacfwd)]
    oracle.close(jacobians[0], jacobians[1])
    oracle.close(jacobians[0], torch.autograd.functional.jacobian(output, q))
    many = torch.stack([q, 2 * q, -q])
    oracle.close(torch.func.vmap(output)(many), torch.stack([output(t) for t in many]))
    oracle.close(torch.func.vmap(output, in_dims=(None, 0, None))(q, torch.stack([k, k]), v)[1], plain)
    hessian = torch.func.hessian(lambda t: output(t).square().sum())(q).reshape(q.numel(), q.numel())
    oracle.close(hessian, hessian.T)


def test_rows_of_weights_under_vmap() -> None:
    q, k, _ = (t.detach() for t in small())
    many = torch.stack([q, 2 * q])
    found = torch.func.vmap(lambda t: AttentionMap(t, k, mask=masks.causal())[0, 1, 2])(many)
    oracle.close(found, torch.stack([AttentionMap(t, k, mask=masks.causal())[0, 1, 2] for t in many]))
    told: list[str] = []
    torch.func.vmap(lambda t: (told.append(repr(AttentionMap(t, k))), t)[1])(many)
    assert "shape=(1, 2, 3, 4)" in told[0]


@pytest.mark.parametrize("backend", ANY)
def test_many_cotangents_at_once(backend: str) -> None:
    """What jacobian(vectorize=True) and is_grads_batched ask of a backward."""
    q, k, v = small()
    out, _ = fv.attention(q, k, v, mask=masks.causal(), backend=backend)
    cotangents = torch.randn(5, *out.shape, dtype=torch.float64)
    (together,) = torch.autograd.grad(out, q, cotangents, is_grads_batched=True, retain_graph=True)
    singly = [torch.autograd.grad(out, q, c, retain_graph=True)[0] for c in cotangents]
    oracle.close(together, torch.stack(singly))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_as_exact_as_the_plain_computation(backend: str, dtype: torch.dtype) -> None:
    q, k, v = oracle.inputs(queries=31, keys=47, width=16, depth=16, dtype=dtype)
    heads = [h // 2 for h in range(H)]
    allowed = torch.ones(31, 47, dtype=torch.bool).tril(16)

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        s = (q * 0.25) @ k[:, heads].mT
        return torch.softmax(s.masked_fill(~allowed, -torch.inf), -1) @ v[:, heads]

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return fv.attention(q, k, v, mask=masks.causal(), backend=backend)[0]

    def gradients(f: Callable, dtype: torch.dtype) -> list[Tensor]:
        leaves = [t.to(dtype).requires_grad_() for t in (q, k, v)]
        out = f(*leaves)
        return list(torch.autograd.grad(out, leaves, torch.linspace(-1, 1, out.numel()).reshape(out.shape).to(dtype)))

    trios = zip(gradients(ours, dtype), gradients(plain, dtype), gradients(plain, torch.float64), strict=True)
    for got, simple, exact in trios:
        assert got.dtype == dtype
        oracle.as_good_as(got, simple, exact)


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_what_is_asked_for_is_differentiated(backend: str) -> None:
    q, k, v = small()
    out, _ = fv.attention(q.detach(), k, v.detach(), backend=backend)
    out.sum().backward()
    assert k.grad is not None and q.grad is None and v.grad is None
    bias = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    out, _ = fv.attention(q.detach(), k.detach(), v.detach(), bias=bias, backend=backend)
    out.square().sum().backward()
    assert bias.grad is not None and (bias.grad != 0).any()


@pytest.mark.parametrize("backend", ["auto", "sdpa", "blocks"])  # the reference has copied its keys by then
def test_writing_into_inputs_before_the_backward_is_noticed(backend: str) -> None:
    q, k, v = small()
    key = k * 1
    out, _ = fv.attention(q, key, v, backend=backend)
    with torch.no_grad():
        key.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_tensor_in_three_roles(backend: str) -> None:
    x, _, _ = small(groups=2, queries=4, keys=4, depth=2)

    def output(x: Tensor) -> Tensor:
        return fv.attention(x, x, x, mask=masks.causal(), backend=backend)[0]

    assert gradcheck(output, (x,)) and gradgradcheck(output, (x,), fast_mode=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropout_has_the_gradient_of_what_was_dropped(backend: str) -> None:
    q, k, v = small(queries=11, keys=23)

    def output(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(7)
        return fv.attention(q, k, v, dropout=0.3, backend=backend)[0]

    assert gradcheck(output, (q, k, v), fast_mode=True)


def test_double_backward_through_fused_dropout_is_refused() -> None:
    q, k, v = small()
    out, _ = fv.attention(q, k, v, dropout=0.3, backend="sdpa")
    with pytest.raises(NotImplementedError, match="double backward through dropout needs backend='blocks'"):
        torch.autograd.grad(out.sum(), q, create_graph=True)


def test_checkpointing() -> None:
    q, k, v = small(queries=Q, keys=K)

    def output(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return fv.attention(q, k, v, mask=masks.causal())[0]

    plain = torch.autograd.grad(output(q, k, v).square().sum(), (q, k, v))
    again = torch.utils.checkpoint.checkpoint(output, q, k, v, use_reentrant=False)
    for a, b in zip(torch.autograd.grad(again.square().sum(), (q, k, v)), plain, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("backend", ["sdpa", "blocks", "auto"])
def test_one_tensor_as_query_key_and_value_is_counted_once_in_a_graph_of_gradients(backend: str) -> None:
    """With `create_graph`, the fused backend differentiates again: by names, and not by what tensors they share."""

    def twice(backend: str) -> tuple[Tensor, Tensor]:
        x = torch.randn(1, 2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        scaled = x * 0.5
        out = fv.attention(x, scaled, x, bias=x.sum((1, 3))[:, None, None], backend=backend)[0]
        (first,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x)
        return first.detach(), second

    for mine, expected in zip(twice(backend), twice("reference"), strict=True):
        assert torch.allclose(mine, expected, rtol=1e-10, atol=1e-10)
