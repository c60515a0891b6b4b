"""Cross-entropy of an output layer, some rows at a time, against PyTorch's own, all at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import oracle
from foveate.tasks.training import loss
from foveate.tasks.training.loss import output_losses

N, M, O = 13, 5, 7  # noqa: E741


pytestmark = pytest.mark.usefixtures("one_thread")


def inputs(n: int = N, m: int = M, o: int = O, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Tensor]:
    leaves = [torch.randn(n, m), torch.randn(o, m), torch.randn(o)]
    return [t.to(dtype).requires_grad_() for t in leaves], torch.randint(0, o, (n,))


def plainly(leaves: list[Tensor], target: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    logits = F.linear(*leaves)
    smoothed = F.cross_entropy(logits, target, reduction="sum", label_smoothing=smoothing)
    return smoothed, F.cross_entropy(logits, target, reduction="sum")


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("numbers", [1, 2 * O, 5 * O + 1, 1 << 20])  # a row, two, five, all at a time
def test_it_equals_cross_entropy_with_its_gradients(
    smoothing: float, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "NUMBERS", numbers)
    leaves, target = inputs()
    smoothed, plain = output_losses(*leaves, target, smoothing=smoothing)
    wanted, wanted_plain = plainly(leaves, target, smoothing)
    oracle.close(smoothed, wanted)
    oracle.close(plain, wanted_plain)
    assert not plain.requires_grad
    for got, exact in zip(
        torch.autograd.grad(smoothed / 3, leaves), torch.autograd.grad(wanted / 3, leaves), strict=True
    ):
        oracle.close(got, exact)


def test_it_holds_few_logits_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "NUMBERS", 2 * O)
    formed: list[int] = []
    real = torch.addmm
    monkeypatch.setattr(loss.torch, "addmm", lambda *a: formed.append(len(a[1])) or real(*a))
    leaves, target = inputs()
    output_losses(*leaves, target)
    assert formed == [2] * 6 + [1]


def test_gradients_by_differences() -> None:
    leaves, target = inputs(3, 2, 4)
    assert torch.autograd.gradcheck(lambda *t: output_losses(*t, target, smoothing=0.2).smoothed, leaves)


def test_it_may_not_be_differentiated_twice() -> None:
    leaves, target = inputs()
    smoothed = output_losses(*leaves, target).smoothed
    (grad,) = torch.autograd.grad(smoothed.square(), leaves[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_only_what_is_wanted_gets_a_gradient() -> None:
    leaves, target = inputs()
    leaves[0].requires_grad_(False)
    output_losses(*leaves, target).smoothed.backward()
    assert leaves[0].grad is None
    assert leaves[1].grad is not None


def test_a_certain_answer_is_no_infinity() -> None:
    """The other words' probabilities are less than the smallest number, and the true one's too."""
    hidden = torch.tensor([[200.0, -200.0]]).requires_grad_()
    weight, bias = torch.eye(2), torch.zeros(2)
    for true, cost in ((0, 0.0), (1, 400.0)):
        smoothed, plain = output_losses(hidden, weight, bias, torch.tensor([true]))
        assert smoothed.item() == cost
        assert plain.item() == cost
        (grad,) = torch.autograd.grad(smoothed, hidden)
        assert grad.tolist() == ([[0.0, 0.0]] if true == 0 else [[1.0, -1.0]])


def test_no_rows_cost_nothing_and_give_zeros() -> None:
    leaves, target = inputs(0)
    smoothed, plain = output_losses(*leaves, target, smoothing=0.1)
    assert smoothed.item() == plain.item() == 0
    smoothed.backward()
    assert [t.grad.shape for t in leaves] == [t.shape for t in leaves]
    assert not any(t.grad.any() for t in leaves)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_smoothing_out_of_range(smoothing: float) -> None:
    leaves, target = inputs()
    with pytest.raises(ValueError, match=r"smoothing must be at least 0 and less than 1; got "):
        output_losses(*leaves, target, smoothing=smoothing)


# In bfloat16. One error is chance; so are those of a few rows summed up: the root of their mean square is compared.


def half(leaves: list[Tensor], target: Tensor, ours: bool, dtype: torch.dtype) -> list[Tensor]:
    own = [t.detach().float().requires_grad_() for t in leaves]
    given = [own[0].to(dtype), *own[1:]]
    with torch.autocast("cpu", torch.bfloat16):
        if ours:
            smoothed, plain = output_losses(*given, target, smoothing=0.1)
        else:
            smoothed, plain = plainly(given, target, 0.1)
    (smoothed / 1377).backward()
    return [smoothed.detach(), plain.detach(), *(t.grad for t in own)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])  # of hidden states: a last layer gives either
def test_in_bfloat16_it_is_as_exact_as_the_plain_computation(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "NUMBERS", 1 << 14)
    squares = torch.zeros(2, 5, dtype=torch.float64)
    rounding = torch.zeros(5, dtype=torch.float64)
    for _ in range(40):
        (hidden, weight, bias), target = inputs(48, 32, 1009)
        leaves = [hidden.detach().to(torch.bfloat16), weight.detach().float() * 32**-0.5, bias.detach().float() * 0.1]
        exact = [t.double().requires_grad_() for t in leaves]
        found = plainly(exact, target, 0.1)
        wanted = [*found, *torch.autograd.grad(found[0] / 1377, exact)]
        for who, ours in enumerate((True, False)):
            got = half(leaves, target, ours, dtype)
            squares[who] += torch.stack([(g.double() - w).square().mean() for g, w in zip(got, wanted, strict=True)])
        rounding += torch.stack([(w.abs().max() * 2**-24).square() for w in wanted])
    ours, plain = squares.sqrt()
    assert (ours <= 2 * plain + rounding.sqrt()).all(), f"{ours / plain}"


def test_in_bfloat16_gradients_of_all_have_the_same_scale() -> None:
    """1 / 1377 is no bfloat16 number: rounded to one it would scale hidden states' gradients, and no others."""
    leaves, target = inputs(400, 32, 101, torch.float32)
    hidden, *others = (t.detach() for t in leaves)
    given = hidden.bfloat16().requires_grad_()
    ratios = []
    for scale in (1.0, 1 / 1377):
        with torch.autocast("cpu", torch.bfloat16):
            smoothed, _ = output_losses(given, *others, target)
        (grad,) = torch.autograd.grad(smoothed * scale, given)
        ratios.append(grad.double().abs().sum() / scale)
    assert abs(ratios[1] / ratios[0] - 1) < 2**-12
