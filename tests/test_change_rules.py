"""What interventions refuse, and that they hold where models are compiled, checkpointed, trained or run in threads."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import foveate as fv
from changed import E, H, Own, X, fresh
from foveate.change import ChangeError
from foveate.change.naming import attention_modules, resolve

pytestmark = pytest.mark.usefixtures("one_thread")


def tower() -> nn.Module:
    return nn.Sequential(Own(), Own()).eval()


@pytest.mark.parametrize(
    ("heads", "text"),
    [
        ("0", "heads are pairs"),
        ({3}, "heads are pairs .* got 3"),
        ({(0, 1, 2)}, "heads are pairs"),
        ({(0, -1)}, "counted from 0"),
        ({(0, 1.5)}, "a head's number"),
        ({(None, 1)}, "a layer's number"),
    ],
)
def test_heads_that_are_none(heads: Any, text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text):
        fv.knockout(tower(), heads)


@pytest.mark.parametrize(
    ("heads", "factor", "text"),
    [
        ({(0, 1): 0.5}, 0.5, "scale takes"),
        ({(0, 1)}, None, "scale takes"),
        ({(0, 1): float("nan")}, None, "a factor is a finite number"),
        ({(0, 1): True}, None, "a factor is a finite number"),
        ({(0, 1): torch.zeros(2, 2)}, None, r"a factor is .* got torch.float32 of shape \(2, 2\)"),
        ({(0, 1): torch.zeros(2, dtype=torch.long)}, None, "a factor is .* got torch.int64"),
    ],
)
def test_factors_that_are_none(heads: Any, factor: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        fv.scale(tower(), heads, factor)


def test_what_is_no_model() -> None:
    with pytest.raises(ValueError, match=r"takes an nn\.Module; got str"):
        fv.knockout("bert", {(0, 1)})  # type: ignore[arg-type]
    with pytest.raises(ChangeError, match=r"change `model\.module` instead"):
        fv.knockout(nn.DataParallel(tower()), {(0, 1)}).__enter__()


def test_names_that_fit_nothing_or_several() -> None:
    bart = fresh("bart")[1]
    with pytest.raises(ChangeError, match="layer 7 fits no module of BartForConditionalGeneration"):
        fv.knockout(bart, {(7, 0)})
    with pytest.raises(ChangeError, match=r"there is model.encoder.layers.0.self_attn"):
        fv.knockout(bart, {("model.encoder.layers.0.self_atn", 0)})
    several = "fits several attention modules, model.*layers.0.*; name one by its path"
    with pytest.raises(ChangeError, match=f"layer 0 {several}"):
        fv.knockout(bart, {(0, 0)})
    with pytest.raises(ChangeError, match=f"'model.decoder.layers.0' {several}"):
        fv.knockout(bart, {("model.decoder.layers.0", 0)})
    with (
        pytest.raises(
            ChangeError, match=r"\('model.encoder.layers.0', 6\): model.encoder.layers.0.self_attn has heads"
        ),
        fv.knockout(bart, {("model.encoder.layers.0", 6)}),
    ):
        fresh("bart")[0].run(bart)


class Two(nn.Module):
    """Attention of a layer in two places that do not look like it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.ModuleDict({"one": Own(), "two": Own()})])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[0]["two"](self.layers[0]["one"](x))


def test_a_number_that_fits_several_is_an_error_too_where_only_running_shows_it() -> None:
    model = Two()
    with (
        pytest.raises(ChangeError, match=r"layer 0 fits several attention modules, layers.0.one, layers.0.two"),
        fv.knockout(model, {(0, 0)}),
    ):
        model(X)
    with fv.knockout(model, {("layers.0.two", 0)}):
        model(X)


def test_what_never_ran_is_an_error() -> None:
    model = tower()
    with (
        pytest.raises(ChangeError, match=r"nothing was changed in \(0, 1\): .* Was the model called"),
        fv.knockout(model, {(0, 1)}),
    ):
        pass
    with (
        pytest.raises(ChangeError, match=r"nothing was changed in \('1.out', 1\): .*; it ran in 0, 1"),
        fv.knockout(model, {("1.out", 1), (0, 1)}),
    ):
        model(X)


def test_a_softmax_by_hand_is_no_silent_success() -> None:
    class Hand(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x @ x.mT).softmax(-1) @ x

    model = nn.Sequential(Hand())
    with pytest.raises(ChangeError, match="by hand"), fv.knockout(model, {(0, 0)}):
        model(X)


def test_names_are_resolved_among_modules_that_are_known() -> None:
    bart = fresh("bart")[1]
    modules = attention_modules(bart)
    assert len(modules) == 6
    assert resolve({("model.encoder.layers.1", 2), ("model.encoder.layers.1.self_attn", 3)}, modules) == {
        "model.encoder.layers.1.self_attn": {2, 3}
    }
    with pytest.raises(ChangeError, match="layer 1 fits several"):
        resolve({(1, 2)}, modules)
    with pytest.raises(ChangeError, match="layer 4 fits none of the attention modules"):
        resolve({(4, 2)}, modules)
    assert resolve((1, 2), attention_modules(fresh("bert")[1])) == {"encoder.layer.1.attention.self": {2}}


@torch.no_grad()
@pytest.mark.parametrize("how", ["whole", "in place", "a part", "inside", "a function"])
def test_compiled_models_run_uncompiled_and_changed(how: str) -> None:
    model = tower()
    with fv.knockout(model, {(0, 1), (1, 2)}):
        want = model(X)
    options: dict[str, Any] = {"backend": "eager"}
    used: Any = model
    if how == "whole":
        used = model = torch.compile(model, **options)
    elif how == "in place":
        model.compile(**options)
    elif how == "a part":
        model[1] = torch.compile(model[1], **options)
    elif how == "a function":
        used = torch.compile(lambda x: model(x), **options)
    plain = used(X)
    with fv.knockout(model, {(0, 1), (1, 2)}):
        if how == "inside":
            used = torch.compile(model, **options)
        assert torch.equal(used(X), want)
    assert torch.equal(used(X), plain)
    assert not torch.equal(plain, want)


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = tower()

    def forward(self, x: Tensor, reentrant: bool) -> Tensor:
        return checkpoint(self.inner, x, use_reentrant=reentrant)


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_computes_again_what_was_computed(reentrant: bool) -> None:
    model, x = Checkpointed(), X.clone().requires_grad_()
    factors = {(0, 1): 0.0, (1, 2): -2.0}
    with fv.scale(model, factors):
        model(x, reentrant).square().sum().backward()
    got, x.grad = x.grad, None
    with fv.scale(model.inner, factors):
        model.inner(x).square().sum().backward()
    assert got is not None and x.grad is not None
    torch.testing.assert_close(got, x.grad)


def test_autocast() -> None:
    for name in ("bert", "encoder layer", "ours"):
        kind, model = fresh(name)
        factors = {(path, 3): 0.0 for path in kind.projections}
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            want = kind.run(kind.scaled(model, factors))
            with fv.scale(model, factors):
                got = kind.run(model)
        torch.testing.assert_close(got.float(), want.float(), atol=0.1, rtol=0.1)


def test_other_threads_and_other_models() -> None:
    model, other = tower(), tower()
    with fv.knockout(model, {(0, 1)}):
        want, found = model(X), []
        thread = threading.Thread(target=lambda: found.append(model(X)))
        thread.start()
        thread.join()
    with fv.knockout(model, {(0, 1)}):
        model(X)
        plain = other(X)
    assert torch.equal(found[0], want)
    assert torch.equal(plain, other(X))


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_flex_attention_is_changed_too() -> None:
    from torch.nn.attention.flex_attention import flex_attention

    class Flex(Own):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            q, k, v = (t.unflatten(-1, (H, -1)).transpose(1, 2) for t in self.project(x).chunk(3, -1))
            return x + self.out(flex_attention(q, k, v).transpose(1, 2).flatten(2))

    torch.manual_seed(1)
    model, twin = nn.Sequential(Flex()), nn.Sequential(Own())
    twin.load_state_dict(model.state_dict())
    with torch.no_grad(), fv.knockout(model, {(0, 1)}), fv.knockout(twin, {(0, 1)}), fv.watch(model) as seen:
        torch.testing.assert_close(model(X), twin(X))
    assert seen["0"].shape == (*X.shape[:1], H, X.shape[1], X.shape[1])
    assert E % H == 0
