"""The additive score, summed up part by part, against its formula, all at once.

Axes: B batch, H heads, R rows, C columns, D query width, E key width, N hidden units.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import oracle
from foveate.scores import perceptron
from foveate.scores.perceptron import Perceptron

B, H, R, C, D, E, N = 2, 3, 5, 7, 4, 6, 11
FEW = [1, 3 * N, 2 * C * N, 3 * R * C * N + 1]  # a pair at a time, a piece of a row, two rows, three (batch, head)s
SIZES = [*FEW, 1 << 18]


pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).requires_grad_()


def made(
    *,
    per_head: bool = False,
    keys: bool = True,
    bias: bool = True,
    lead: tuple[tuple[int, ...], ...] = ((B, H), (B, H)),
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Queries, keys, and the tensors of a score."""
    own = (H,) if per_head else ()
    weights = [drawn(*own, N, D), drawn(*own, N, E) if keys else None, drawn(*own, N), drawn(*own, N) if bias else None]
    return drawn(*lead[0], R, D), drawn(*lead[1], C, E if keys else N), weights


def by_formula(q: Tensor, k: Tensor, weights: list[Tensor | None]) -> Tensor:
    """(..., R, C), a unit of the hidden layer after the other."""
    of_query, of_key, v, bias = weights
    assert of_query is not None and v is not None
    a = torch.einsum("...nd,...rd->...rn", of_query, q)
    c = k if of_key is None else torch.einsum("...ne,...ce->...cn", of_key, k)
    lead = torch.broadcast_shapes(a.shape[:-2], c.shape[:-2])
    s = torch.zeros(*lead, R, C, dtype=torch.float64)
    for n in range(N):
        inner = a[..., :, None, n] + c[..., None, :, n]
        inner = inner if bias is None else inner + bias[..., n, None, None]
        s = s + v[..., n, None, None] * torch.tanh(inner)
    return s


def leaves(q: Tensor, k: Tensor, weights: list[Tensor | None]) -> list[Tensor]:
    return [t for t in (q, k, *weights) if t is not None]


LEADS = [((B, H), (B, H)), ((B, H), (B, 1)), ((1, H), (B, 1)), ((H,), (B, H))]


@pytest.mark.parametrize("numbers", SIZES)
@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize("keys", [False, True])
def test_scores_and_gradients(numbers: int, per_head: bool, keys: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptron, "HIDDEN_NUMBERS", numbers)
    for lead in LEADS:
        q, k, weights = made(per_head=per_head, keys=keys, lead=lead)
        wanted = by_formula(q, k, weights)
        score = Perceptron(*weights)  # type: ignore[arg-type]
        got = score(q, k)
        oracle.close(got, wanted)
        with torch.no_grad():
            oracle.close(score(q, k), wanted)
        grad, given = torch.randn_like(wanted), leaves(q, k, weights)
        for one, exact in zip(
            torch.autograd.grad(got, given, grad), torch.autograd.grad(wanted, given, grad), strict=True
        ):
            assert one.shape == exact.shape
            oracle.close(one, exact)


def test_queries_and_keys_without_a_batch() -> None:
    q, k, weights = made(lead=((), ()))
    oracle.close(Perceptron(*weights)(q, k), by_formula(q, k, weights))  # type: ignore[arg-type]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_only_what_is_tracked_gets_a_gradient(lost: int) -> None:
    q, k, weights = made(bias=False)
    given = [q, k, weights[2]]
    given[lost].requires_grad_(False)  # type: ignore[union-attr]
    Perceptron(*weights)(q, k).sum().backward()  # type: ignore[arg-type]
    assert [t.grad is None for t in given] == [i == lost for i in range(3)]  # type: ignore[union-attr]


def test_second_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptron, "HIDDEN_NUMBERS", 5)
    q, k, v, w = drawn(2, 1, 2, 3), drawn(2, 2, 2, 3), drawn(2, 3), drawn(2, 3, 3)

    def score(q: Tensor, k: Tensor, w: Tensor, v: Tensor) -> Tensor:
        return Perceptron(w, None, v)(q, k)

    assert torch.autograd.gradcheck(score, (q, k, w, v))
    assert torch.autograd.gradgradcheck(score, (q, k, w, v))
    shared = v[0].detach().requires_grad_()
    assert torch.autograd.gradgradcheck(score, (q, k, w[0].detach().requires_grad_(), shared))
    (first,) = torch.autograd.grad(score(q, k.detach(), w, v).sum(), q, create_graph=True)  # keys are not tracked
    assert torch.autograd.grad(first.sum(), v)[0].abs().sum() > 0


@pytest.mark.parametrize("numbers", FEW)
@settings(deadline=None)
@given(sizes=st.tuples(*[st.integers(0, 9)] * 3), hidden=st.integers(0, 40))
def test_parts_cover_every_pair_once(numbers: int, sizes: tuple[int, int, int], hidden: int) -> None:
    before, perceptron.HIDDEN_NUMBERS = perceptron.HIDDEN_NUMBERS, numbers
    try:
        lead, rows, columns = sizes
        parts = list(perceptron._parts(torch.empty(lead, rows, hidden), torch.empty(lead, columns, hidden)))
    finally:
        perceptron.HIDDEN_NUMBERS = before
    seen = torch.zeros(sizes, dtype=torch.int64)
    for part in parts:
        assert seen[part].numel() * hidden <= max(numbers, hidden)
        seen[part] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize(("rows", "columns", "batch"), [(0, C, B), (R, 0, B), (0, 0, B), (R, C, 0)])
def test_nothing_to_compare(rows: int, columns: int, batch: int) -> None:
    for per_head in (False, True):
        _, _, weights = made(per_head=per_head)
        q, k = drawn(batch, H, rows, D), drawn(batch, H, columns, E)
        score = Perceptron(*weights)(q, k)  # type: ignore[arg-type]
        assert score.shape == (batch, H, rows, columns)
        score.sum().backward()
        assert all(t.grad is not None and not t.grad.any() for t in leaves(q, k, weights))


def plainly(dtype: torch.dtype) -> Callable[..., Tensor]:
    """What layers in `dtype` would make of a hidden layer: sums, tanh and product, all at once."""

    def score(a: Tensor, c: Tensor, v: Tensor) -> Tensor:
        hidden = torch.tanh(a.to(dtype)[..., :, None, :] + c.to(dtype)[..., None, :, :])
        return (hidden @ v.to(dtype)[..., None, :, None])[..., 0].to(a.dtype)

    return score


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
@pytest.mark.parametrize("per_head", [False, True])
def test_a_hidden_layer_in_half_precision(name: str, per_head: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores and gradients are as exact as those of a plain hidden layer in that dtype."""
    monkeypatch.setattr(perceptron, "HIDDEN_NUMBERS", C * N)  # so that much is added up
    dtype, rows = getattr(torch, name), 30 * R
    lead = (H,) if per_head else ()
    exact = [drawn(B, H, rows, N), drawn(B, H, C, N), drawn(*lead, N)]
    eye = torch.eye(N)
    grad = torch.randn(B, H, rows, C)
    narrow = [t.detach().float().requires_grad_() for t in exact]
    wanted = (torch.tanh(exact[0][..., :, None, :] + exact[1][..., None, :, :]) @ exact[2][..., None, :, None])[..., 0]
    plain = plainly(dtype)(*narrow)
    ours = Perceptron(eye.expand(*lead, N, N), None, narrow[2], hidden_dtype=name)(narrow[0], narrow[1])
    assert ours.dtype == torch.float32
    rounding = torch.finfo(dtype).eps
    for got, other, truth in zip(
        (ours, *torch.autograd.grad(ours, narrow, grad)),
        (plain, *torch.autograd.grad(plain, narrow, grad)),
        (wanted, *torch.autograd.grad(wanted, exact, grad.double())),
        strict=True,
    ):
        error, allowed = ((t.double() - truth).square().mean().sqrt() for t in (got, other))
        assert error <= 2 * allowed + 2**-24
        assert error > rounding * truth.abs().max() / 100  # it is in that dtype
    with torch.no_grad():
        assert torch.equal(
            Perceptron(eye.expand(*lead, N, N), None, narrow[2], hidden_dtype=name)(*narrow[:2]), ours.detach()
        )


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own, on first use
def test_transforms_see_through() -> None:
    q, k, weights = made(bias=False)
    score = Perceptron(*weights)  # type: ignore[arg-type]
    wanted = by_formula(q, k, weights)
    oracle.close(torch.func.vmap(score)(q, k), wanted)
    tangent = torch.randn_like(q)
    _, along = torch.func.jvp(lambda x: score(x, k), (q,), (tangent,))
    _, exact = torch.func.jvp(lambda x: by_formula(x, k, weights), (q,), (tangent,))
    oracle.close(along, exact)
