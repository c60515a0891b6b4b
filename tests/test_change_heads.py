"""knockout and scale: what a head puts out, on every kind of model, against models whose weights say the same."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import nn

import foveate as fv
from changed import KINDS, B, L, Own, X, fresh, rnn, run_rnn
from foveate.change import ChangeError
from hf_models import FAMILIES, make_inputs

pytestmark = pytest.mark.usefixtures("one_thread")

MODES = {"grad": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}


def far(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().abs().max())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", KINDS)
def test_heads_are_scaled_as_the_next_weights_would_do_it(name: str, mode: str) -> None:
    kind, model = fresh(name)
    factors = {(path, head): f for path in kind.projections for head, f in ((1, 0.0), (4, -0.5))}
    with MODES[mode](), contextlib.ExitStack():
        plain = kind.run(model)
        want = kind.run(kind.scaled(model, factors))
        with fv.scale(model, factors):
            got = kind.run(model)
        again = kind.run(model)
        with fv.knockout(model, [pair for pair, f in factors.items() if f == 0]):
            without = kind.run(model)
        gone = kind.run(kind.scaled(model, {pair: f for pair, f in factors.items() if f == 0}))
    torch.testing.assert_close(got, want, atol=3e-5, rtol=1e-5)
    torch.testing.assert_close(without, gone, atol=3e-5, rtol=1e-5)
    assert far(plain, want) > 1e-2  # the heads matter, or the comparison would say nothing
    assert far(without, want) > 1e-3
    assert torch.equal(plain, again)


@pytest.mark.parametrize("name", KINDS)
def test_an_empty_intervention_does_nothing_at_all(name: str) -> None:
    kind, model = fresh(name)
    with torch.no_grad():
        plain = kind.run(model)
        with fv.knockout(model, set()), fv.scale(model, {}):
            assert all("forward" not in vars(module) for module in model.modules())
            assert torch.equal(kind.run(model), plain)


@pytest.mark.parametrize("name", KINDS)
def test_a_factor_of_one_changes_nothing_and_what_is_watched_stays(name: str) -> None:
    kind, model = fresh(name)
    path = next(iter(kind.projections))
    with torch.no_grad():
        plain = kind.run(model)
        with fv.scale(model, {(path, 0): 1.0}):
            torch.testing.assert_close(kind.run(model), plain, atol=1e-5, rtol=1e-5)
        with fv.watch(model) as before:
            kind.run(model)
        with fv.watch(model) as outer, fv.knockout(model, [(path, 0)]), fv.watch(model) as inner:
            kind.run(model)
    assert list(outer) == list(inner) == list(before)
    assert outer.not_captured == inner.not_captured == ()  # the check of what was understood holds
    assert torch.equal(outer[path].dense(), inner[path].dense())
    # the weights of a head that is knocked out are shown as they were: what it puts out is gone, not where it looked
    rows = slice(0, 4)  # those behind may be padding, of which PyTorch's fused path makes zeros
    torch.testing.assert_close(inner[path][:, :, rows], before[path][:, :, rows], atol=1e-6, rtol=0)


@pytest.mark.parametrize("attention", ["additive", "dot", "general"])
def test_the_only_head_of_a_recurrent_decoder(attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = rnn(attention)
    kind = type(model.attention)
    with torch.no_grad():
        plain = run_rnn(model)
        with fv.scale(model, {("attention", 0): 0.25}):
            got = run_rnn(model)
        original = kind.forward
        monkeypatch.setattr(kind, "forward", lambda *a, **k: (original(*a, **k)[0] * 0.25, None))
        want = run_rnn(model)
    torch.testing.assert_close(got, want)
    assert far(plain, want) > 1e-3


def test_gradients_flow_through_a_factor_and_all_that_is_left() -> None:
    kind, model = fresh("bart")
    path = "model.decoder.layers.0.encoder_attn"
    factor = torch.tensor([1.0, 0.5], requires_grad=True)
    with fv.scale(model, {(path, 2): factor}):
        kind.run(model).square().sum().backward()
    twin = kind.build()
    step = 1e-3
    with torch.no_grad():  # one factor for each sequence, against differences
        for b in range(2):
            sums = []
            for sign in (1, -1):
                moved = factor.detach().clone()
                moved[b] += sign * step
                with fv.scale(twin, {(path, 2): moved.double()}):
                    sums.append(float(kind.run(twin).double().square().sum()))
            assert factor.grad is not None
            assert float(factor.grad[b]) == pytest.approx((sums[0] - sums[1]) / (2 * step), rel=2e-2, abs=1e-2)
    assert model.get_parameter(f"{path}.v_proj.weight").grad is not None


def test_nested_interventions_multiply_and_each_ends_with_its_with() -> None:
    kind, model = fresh("llama")
    a, b = ((f"model.layers.{n}.self_attn", 3) for n in (0, 1))
    with torch.no_grad():
        plain = kind.run(model)
        with fv.scale(model, {a: 0.5}):
            alone = kind.run(model)
            with fv.scale(model, {a: 0.5, b: 2.0}):
                both = kind.run(model)
            assert torch.equal(kind.run(model), alone)
        assert torch.equal(kind.run(model), plain)
        torch.testing.assert_close(both, kind.run(kind.scaled(model, {a: 0.25, b: 2.0})), atol=1e-5, rtol=1e-5)
        with fv.scale(model, heads=[a], factor=0.0), fv.scale(model, [a, b], 3.0):
            torch.testing.assert_close(kind.run(model), kind.run(kind.scaled(model, {a: 0.0, b: 3.0})))


def test_everything_is_undone_whatever_happens() -> None:
    model = nn.Sequential(Own(), Own())
    plain = model(X)
    with pytest.raises(RuntimeError, match="mine"), fv.knockout(model, {(0, 1)}):
        raise RuntimeError("mine")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), fv.knockout(model, {(0, 1)}):
        model(torch.randn(B, L, 1))
    assert all("forward" not in vars(module) for module in model.modules())
    assert torch._C._len_torch_function_stack() == 0
    assert torch._dynamo.eval_frame._stance.stance == "default"
    assert torch.equal(model(X), plain)


def test_one_object_may_be_used_again_but_not_twice_at_once() -> None:
    model = nn.Sequential(Own())
    change = fv.knockout(model, {(0, 1)})
    with change:
        once = model(X)
        with pytest.raises(ChangeError, match="in force already"):
            change.__enter__()
        assert torch.equal(model(X), once)
    with change:
        assert torch.equal(model(X), once)
    assert not torch.equal(model(X), once)


@pytest.mark.parametrize("cache", [{}, {"use_cache": False}, {"cache_implementation": "static"}])
@pytest.mark.parametrize("search", [{}, {"num_beams": 3}])
@pytest.mark.parametrize("name", ["gpt2", "llama", "t5", "bart"])
def test_generation_goes_on_without_the_head(name: str, search: dict[str, Any], cache: dict[str, Any]) -> None:
    kind, model = fresh(name)
    if "cache_implementation" in cache and (name != "llama" or search):
        pytest.skip("not offered by this model")
    inputs = make_inputs(FAMILIES[name].inputs)
    inputs.pop("decoder_input_ids", None)
    if "decoder_start_token_id" not in FAMILIES[name].options and name != "bart":  # padding goes to the left
        inputs = {k: torch.stack([t[0], t[1].roll(4)]) for k, t in inputs.items()}
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "pad_token_id": 0, **search, **cache}
    scores = {"output_logits": True, "return_dict_in_generate": True}
    factors = {(path, head): 0.0 for path in kind.projections for head in (0, 1, 2)}
    want = kind.scaled(model, factors).generate(**inputs, **options, **scores)
    with fv.knockout(model, factors):
        got = model.generate(**inputs, **options, **scores)
    plain = model.generate(**inputs, **options, **scores)
    for a, b, c in zip(got.logits, want.logits, plain.logits, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
        assert far(a, c) > 1e-3
    assert torch.equal(got.sequences, want.sequences)


def test_our_own_decoder_goes_on_without_the_head() -> None:
    kind, model = fresh("ours")
    factors = {(path, 2): 0.0 for path in kind.projections}
    source, lengths = torch.randint(0, 30, (B, 5)), torch.tensor([5, 3, 4])

    def walk(one: nn.Module) -> list[torch.Tensor]:
        steps, token = one.steps(source, lengths), torch.zeros(B, dtype=torch.long)
        found = []
        for _ in range(3):
            found.append(steps.advance(token))
            token = found[-1].argmax(-1)
        return found

    with torch.no_grad():
        want, plain = walk(kind.scaled(model, factors)), walk(model)
        with fv.knockout(model, factors):
            got = walk(model)
    for a, b, c in zip(got, want, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
        assert far(a, c) > 1e-3


def test_models_that_run_on_our_own_operator() -> None:
    fv.hf.register()
    kind, _ = fresh("llama")
    model = FAMILIES["llama"].build("foveate")
    factors = {(path, 1): 0.0 for path in kind.projections}
    with torch.no_grad():
        want = kind.run(kind.scaled(model, factors))
        with fv.knockout(model, factors), fv.block(model, [(4, 2)]), fv.watch(model) as seen:
            kind.run(model)
        with fv.knockout(model, factors):
            got = kind.run(model)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    assert seen.not_captured == ()
    assert not seen["model.layers.0.self_attn"][..., 4, 2].any()
