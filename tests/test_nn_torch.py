"""The drop-ins of foveate.nn for PyTorch's own attention: every option equal to PyTorch, in float64."""

from __future__ import annotations

import copy
import inspect
import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import foveate as fv
import oracle
from foveate.nn import TorchMultiheadAttention, replace
from foveate.operator import observe

N, L, S, H, D = 2, 5, 7, 3, 4
E, KDIM, VDIM = H * D, 11, 13


def pair(**options: Any) -> tuple[TorchMultiheadAttention, nn.MultiheadAttention]:
    ours = TorchMultiheadAttention(E, H, dtype=torch.float64, **options)
    theirs = nn.MultiheadAttention(E, H, dtype=torch.float64, **options)
    for t in ours.parameters():
        nn.init.normal_(t, std=0.5)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def inputs(own: bool, batch_first: bool, kdim: int = E, vdim: int = E) -> tuple[Tensor, Tensor, Tensor]:
    def make(length: int, width: int) -> Tensor:
        lead = (N, length) if batch_first else (length, N)
        return torch.randn(*lead, width, dtype=torch.float64, requires_grad=True)

    q = make(L, E)
    return (q, q, q) if own else (q, make(S, kdim), make(S, vdim))


def agree(ours: nn.Module, theirs: nn.Module, given: tuple[Tensor, ...], **options: Any) -> None:
    """Output, weights, and the gradient of every input and parameter."""
    found = []
    for module in (ours, theirs):
        out, weights = module(*given, **options)
        total = (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)).sum()
        if weights is not None:
            total = total + (weights * weights).sum()
        leaves = [*dict.fromkeys(given), *module.parameters()]
        found.append((out, weights, *torch.autograd.grad(total, leaves)))
    for got, wanted in zip(*found, strict=True):
        assert (got is None) == (wanted is None)
        if wanted is not None:
            torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)


MODULES = [
    {},
    {"bias": False},
    {"add_bias_kv": True},
    {"add_zero_attn": True},
    {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True},
    {"kdim": KDIM, "vdim": VDIM},
    {"kdim": KDIM, "vdim": VDIM, "batch_first": True, "bias": False},
]


@pytest.mark.parametrize("options", MODULES, ids=lambda o: "-".join(o) or "plain")
@pytest.mark.parametrize("need", [{"need_weights": False}, {}, {"average_attn_weights": False}], ids=str)
def test_every_option_equals_torch(options: dict[str, Any], need: dict[str, Any]) -> None:
    ours, theirs = pair(**options)
    widths = options.get("kdim", E), options.get("vdim", E)
    for own in (True, False) if widths == (E, E) else (False,):
        agree(ours, theirs, inputs(own, options.get("batch_first", False), *widths), **need)


def masks(keys: int) -> Iterator[dict[str, Any]]:
    """Masks of every form; every query sees the first key."""
    hides = torch.rand(L, keys) < 0.4
    heads = torch.rand(N * H, L, keys) < 0.4
    padding = torch.rand(N, keys) < 0.4
    for t in (hides, heads, padding):
        t[..., 0] = False
    numbers = torch.randn(L, keys, dtype=torch.float64)
    minus = torch.zeros(N, keys, dtype=torch.float64).masked_fill(padding, -torch.inf)
    for attn_mask, pad in itertools.product((None, hides, heads, numbers), (None, padding, minus)):
        yield {"attn_mask": attn_mask, "key_padding_mask": pad}


@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True}], ids=str)
@pytest.mark.filterwarnings("ignore:Support for mismatched")
def test_every_mask_equals_torch(options: dict[str, Any]) -> None:
    ours, theirs = pair(**options)
    given = inputs(False, options.get("batch_first", False))
    for mask in masks(S):
        agree(ours, theirs, given, **mask)
        agree(ours, theirs, given, need_weights=False, **mask)


@pytest.mark.parametrize("extra", [{}, {"add_bias_kv": True}], ids=str)
def test_the_causal_hint_is_taken_as_torch_takes_it(extra: dict[str, Any]) -> None:
    ours, theirs = pair(batch_first=True, **extra)
    hides = torch.ones(L, L, dtype=torch.bool).triu(1)
    padding = torch.zeros(N, L, dtype=torch.bool)
    padding[1, 3:] = True
    for need, pad in itertools.product((True, False), (None, padding)):
        agree(
            ours, theirs, inputs(True, True), attn_mask=hides, is_causal=True, need_weights=need, key_padding_mask=pad
        )
    wrong = ~hides.T  # a hint that does not fit its mask: both believe the hint, where no weights are asked for
    agree(ours, theirs, inputs(True, True), attn_mask=wrong, is_causal=True, need_weights=False)


def test_a_sequence_without_a_batch() -> None:
    ours, theirs = pair(batch_first=True)
    x = torch.randn(L, E, dtype=torch.float64, requires_grad=True)
    memory = torch.randn(S, E, dtype=torch.float64, requires_grad=True)
    padding = torch.tensor([False] * 5 + [True] * 2)
    agree(ours, theirs, (x, x, x))
    agree(ours, theirs, (x, memory, memory), key_padding_mask=padding, average_attn_weights=False)
    agree(ours, theirs, (x, memory, memory), key_padding_mask=padding, need_weights=False)


def test_dropout_is_applied_in_training_only_and_weights_are_shown_undropped() -> None:
    ours, theirs = pair(dropout=0.5)
    given = inputs(True, False)
    plain = theirs.eval()(*given)[1]
    agree(ours.eval(), theirs, given)
    dropped, weights = ours.train()(*given)
    assert not torch.allclose(dropped, ours.eval()(*given)[0])
    torch.testing.assert_close(weights, plain)


def test_a_query_that_sees_no_key_reads_zeros() -> None:
    ours, theirs = pair()
    given = inputs(False, False)
    padding = torch.zeros(N, S, dtype=torch.bool)
    padding[1] = True
    out, weights = ours(*given, key_padding_mask=padding)
    wanted = theirs(*given, key_padding_mask=padding)
    assert wanted[0][:, 1].isnan().all()
    assert not weights[1].any()
    torch.testing.assert_close(out[:, 1], ours.out_proj.bias.expand(L, E))
    torch.testing.assert_close(out[:, 0], wanted[0][:, 0])
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), list(ours.parameters())))


def test_constructor_signature_and_state_are_those_of_torch() -> None:
    theirs = inspect.signature(nn.MultiheadAttention.forward).parameters
    ours = inspect.signature(TorchMultiheadAttention.forward).parameters
    assert [(p.name, p.default) for p in ours.values()] == [(p.name, p.default) for p in theirs.values()]
    for options in MODULES:
        a, b = pair(**options)
        assert list(a.state_dict()) == list(b.state_dict())
        torch.manual_seed(3)
        a._reset_parameters()
        torch.manual_seed(3)
        b._reset_parameters()
        for x, y in zip(a.parameters(), b.parameters(), strict=True):
            assert torch.equal(x, y)
    assert isinstance(
        ours_in_16_bits := TorchMultiheadAttention(E, H, 0.25, dtype=torch.bfloat16), nn.MultiheadAttention
    )
    assert (ours_in_16_bits.dropout, ours_in_16_bits.in_proj_weight.dtype) == (0.25, torch.bfloat16)


def test_what_cannot_be() -> None:
    module = TorchMultiheadAttention(E, H)
    x, y = torch.randn(L, N, E), torch.randn(S, N, E)
    with pytest.raises(ValueError, match=r"attn_mask must have shape \(5, 7\) or \(6, 5, 7\); got \(5, 5\)"):
        module(x, y, y, attn_mask=torch.zeros(L, L, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"key_padding_mask must have shape \(2, 7\); got \(7, 2\)"):
        module(x, y, y, key_padding_mask=torch.zeros(S, N, dtype=torch.bool))
    with pytest.raises(ValueError, match="is_causal is a hint about attn_mask: give that too"):
        module(x, x, x, is_causal=True)
    with pytest.raises(ValueError, match=r"must be 12, 12 and 12 wide; got \(5, 2, 12\), \(7, 2, 12\), \(7, 2, 11\)"):
        module(x, y, y[..., :11])
    with pytest.raises(ValueError, match=r"must all have 2 axes, or all 3; got \(5, 2, 12\), \(5, 12\), \(5, 12\)"):
        module(x, x[:, 0], x[:, 0])
    nested = torch.nested.as_nested_tensor([torch.randn(3, E), torch.randn(5, E)], layout=torch.jagged)
    with pytest.raises(ValueError, match="nested tensors are not taken; pad them"):
        module(nested, nested, nested)
    with pytest.raises(AssertionError, match="embed_dim must be divisible by num_heads"):
        TorchMultiheadAttention(10, 3)


# replace


def stack(layers: int = 2, heads: int = 4) -> nn.TransformerEncoder:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = nn.TransformerEncoderLayer(12, heads, 17, 0.1, batch_first=True)
        return nn.TransformerEncoder(layer, layers).double().eval()


PADDED = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("padding", [None, PADDED], ids=["whole", "padded"])
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
def test_replace_inside_an_encoder(padding: Tensor | None, grad: bool) -> None:
    """Also where PyTorch would take its fused path, which calls no module: the calls must arrive."""
    theirs = stack()
    ours = copy.deepcopy(theirs)
    before = list(ours.parameters())
    assert replace(ours) is ours
    assert all(a is b for a, b in zip(before, ours.parameters(), strict=True))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = torch.randn(N, L, 12, dtype=torch.float64)
    seen: list[Any] = []
    with torch.set_grad_enabled(grad), observe(seen.append):
        got = ours(x, src_key_padding_mask=padding)
    with torch.set_grad_enabled(grad):
        wanted = theirs(x, src_key_padding_mask=padding)
    assert len(seen) == 2
    real = torch.ones(N, L, dtype=torch.bool) if padding is None else ~padding
    oracle.close(got[real], wanted[real])


def test_an_encoder_made_of_drop_ins_never_takes_the_fused_path() -> None:
    layer = nn.TransformerEncoderLayer(12, 4, 17, batch_first=True)
    layer.self_attn = TorchMultiheadAttention(12, 4, batch_first=True)
    with pytest.warns(UserWarning, match="use_nested_tensor is False"):
        encoder = nn.TransformerEncoder(layer, 2).eval()
    seen: list[Any] = []
    with torch.no_grad(), observe(seen.append):
        encoder(torch.randn(N, L, 12), src_key_padding_mask=PADDED)
    assert len(seen) == 2


def test_replace_a_whole_transformer_and_watch_it() -> None:
    model = nn.Transformer(12, 4, 1, 2, 17, batch_first=True).double().eval()
    plain = copy.deepcopy(model)
    replace(model)
    source, target = torch.randn(N, S, 12, dtype=torch.float64), torch.randn(N, L, 12, dtype=torch.float64)
    causal = nn.Transformer.generate_square_subsequent_mask(L, dtype=torch.float64)
    options = {"tgt_mask": causal, "tgt_is_causal": True}
    with fv.watch(plain) as wanted:
        out = plain(source, target, **options)
    with fv.watch(model) as seen, torch.no_grad():
        oracle.close(model(source, target, **options), out)
    assert list(seen) == list(wanted)
    assert len(seen) == 5
    for name in seen:
        oracle.close(seen[name].dense(), wanted[name].dense())
        assert seen.info(name).kind == wanted.info(name).kind


def test_replace_keeps_shared_modules_hooks_and_the_mode() -> None:
    attention = nn.MultiheadAttention(E, H, dropout=0.3)
    model = nn.ModuleList([attention, attention]).eval()
    called: list[int] = []
    attention.register_forward_hook(lambda *_: called.append(1))
    replace(model)
    assert model[0] is model[1]
    assert type(model[0]) is TorchMultiheadAttention
    assert not model[0].training
    x = torch.randn(L, N, E)
    model[0](x, x, x)
    assert called == [1]
    assert replace(attention) is attention  # again, and by itself: nothing to do


def test_replace_says_when_it_cannot() -> None:
    with pytest.raises(ValueError, match=r"Linear holds no nn\.MultiheadAttention"):
        replace(nn.Linear(3, 5))
    model = nn.ModuleDict({"a": nn.MultiheadAttention(E, H)})
    x = torch.randn(L, N, E)
    with fv.watch(model):
        model["a"](x, x, x)
        with pytest.raises(ValueError, match="the forward of a has been wrapped"):
            replace(model)
    assert type(model["a"]) is nn.MultiheadAttention

    class Own(nn.MultiheadAttention):
        pass

    with pytest.raises(ValueError, match=r"holds no nn\.MultiheadAttention"):
        replace(nn.ModuleList([Own(E, H)]))


# the function

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

(INFO,) = [op for op in op_db if op.name == "nn.functional.scaled_dot_product_attention"]
ours_sdpa = fv.nn.functional.scaled_dot_product_attention


def run(function: Any, given: list[Tensor], options: dict[str, Any]) -> list[Tensor]:
    torch.manual_seed(3)
    with sdpa_kernel(SDPBackend.MATH):
        out = function(*given, **options)
    return [out, *torch.autograd.grad((out * out).sum(), given)]


def test_the_function_equals_torch_on_its_own_samples() -> None:
    samples = list(INFO.sample_inputs("cpu", torch.float64, requires_grad=True))
    assert len(samples) == 25
    for sample in samples:
        given = [sample.input, *sample.args]
        for got, wanted in zip(
            *(run(f, given, sample.kwargs) for f in (ours_sdpa, F.scaled_dot_product_attention)), strict=True
        ):
            oracle.close(got, wanted)


SHAPES = [
    ((2, 6, 5, 11), (2, 6, 7, 11), (2, 6, 7, 13), {}),
    ((5, 11), (7, 11), (7, 13), {}),
    ((5, 11), (2, 3, 7, 11), (3, 7, 13), {}),
    ((2, 1, 5, 11), (2, 3, 7, 11), (1, 7, 13), {}),
    ((2, 3, 5, 11), (2, 1, 7, 11), (2, 1, 7, 13), {"scale": 0.3}),
    ((2, 6, 5, 11), (2, 3, 7, 11), (2, 3, 7, 13), {"enable_gqa": True}),
    ((2, 6, 5, 11), (2, 3, 7, 11), (2, 2, 7, 13), {"enable_gqa": True}),
    ((2, 3, 5, 11), (2, 3, 7, 11), (2, 3, 7, 13), {"is_causal": True}),
    ((2, 3, 7, 11), (2, 3, 5, 11), (2, 3, 5, 13), {"is_causal": True, "scale": 1.0}),
    ((2, 3, 5, 11), (2, 3, 7, 11), (2, 3, 7, 13), {"attn_mask": torch.arange(35).reshape(5, 7) % 3 != 1}),
    (
        (2, 3, 5, 11),
        (2, 3, 7, 11),
        (2, 3, 7, 13),
        {"attn_mask": torch.linspace(-3, 3, 14).double().reshape(2, 1, 1, 7)},
    ),
]


@pytest.mark.parametrize(("q", "k", "v", "options"), SHAPES, ids=str)
def test_the_function_equals_torch(q: Any, k: Any, v: Any, options: dict[str, Any]) -> None:
    given = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in (q, k, v)]
    for got, wanted in zip(*(run(f, given, options) for f in (ours_sdpa, F.scaled_dot_product_attention)), strict=True):
        assert got.shape == wanted.shape
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)


class Own(nn.Module):
    """A model of somebody who calls the function."""

    def forward(self, x: Tensor) -> Tensor:
        return ours_sdpa(x, x, x, is_causal=True)


def test_the_function_is_watched() -> None:
    x = torch.randn(2, 3, 5, 11, dtype=torch.float64)
    model = Own()
    with fv.watch(model) as seen:
        out = model(x)
    wanted = oracle.weights(x, x, allowed=torch.ones(5, 5, dtype=torch.bool).tril())
    oracle.close(seen["Own"].dense(), wanted)
    oracle.close(out, oracle.output(wanted, x))


def test_a_row_that_sees_nothing_reads_zeros() -> None:
    q, k, v = oracle.inputs(groups=6)
    hidden = torch.ones(5, 7, dtype=torch.bool)
    hidden[2] = False
    for mask in (hidden, torch.zeros(5, 7, dtype=torch.float64).masked_fill(~hidden, -torch.inf)):
        out = ours_sdpa(q, k, v, mask)
        assert not out[:, :, 2].any()
        oracle.close(out, oracle.output(oracle.weights(q, k, allowed=hidden), v))


def test_what_the_function_refuses() -> None:
    names = list(inspect.signature(ours_sdpa).parameters.items())
    assert [(n, p.default) for n, p in names][3:] == [
        ("attn_mask", None), ("dropout_p", 0.0), ("is_causal", False), ("scale", None), ("enable_gqa", False),
    ]  # fmt: skip
    q, k, v = oracle.inputs()
    with pytest.raises(ValueError, match=r"must broadcast; got \(2, 6, 5, 11\).*Heads that share keys need enable_gqa"):
        ours_sdpa(q, k, v)
    with pytest.raises(ValueError, match="enable_gqa needs an axis of heads"):
        ours_sdpa(q[0, 0], k[0, 0], v[0, 0], enable_gqa=True)
    with pytest.raises(ValueError, match=r"must have at least 2 axes, .*; got \(11,\)"):
        ours_sdpa(q[0, 0, 0], k[0, 0], v[0, 0])
    for outside in (-0.5, 1.5):
        with pytest.raises(ValueError, match=f"dropout_p must lie between 0 and 1; got {outside}"):
            ours_sdpa(q, k, v, dropout_p=outside, enable_gqa=True)


def test_every_weight_dropped_reads_zeros_as_in_pytorch() -> None:
    q, k, v = (t.requires_grad_() for t in oracle.inputs(groups=6))
    for function in (ours_sdpa, F.scaled_dot_product_attention):
        out = function(q, k, v, dropout_p=1.0)
        assert not out.any()
        assert not any(g.any() for g in torch.autograd.grad(out.sum(), (q, k, v)))


@pytest.mark.parametrize("kind", ["booleans", "numbers"])
def test_a_mask_and_causal_both_hold_as_in_pytorchs_fused_kernel(kind: str) -> None:
    q, k, v = oracle.inputs(groups=6, depth=oracle.D)
    mask = torch.rand(5, 7) > 0.3 if kind == "booleans" else torch.randn(5, 7, dtype=torch.float64)
    mask[:, 0] = True if kind == "booleans" else 0.5
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        theirs = F.scaled_dot_product_attention(q, k, v, mask, is_causal=True)
    torch.testing.assert_close(ours_sdpa(q, k, v, mask, is_causal=True), theirs)
