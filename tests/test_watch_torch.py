"""watch on PyTorch's own attention: modules on every path, the functions, FlexAttention, and foveate's operator."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import foveate as fv
from foveate.watch import CaptureError

B, H, Q, K, E = 3, 4, 7, 5, 24
PADDING = torch.arange(Q)[None] >= torch.tensor([7, 4, 5])[:, None]  # True = ignore, as nn.MultiheadAttention has it
LENGTHS = [7, 4, 5]


def hide(*shape: int) -> Tensor:
    """A random boolean mask, True = may not attend, that leaves the first key to everyone."""
    table = torch.rand(shape) > 0.6
    table[..., 0] = False
    return table


MASKS: dict[str, dict[str, Any]] = {
    "none": {},
    "padding": {"key_padding_mask": PADDING},
    "float padding": {"key_padding_mask": torch.zeros(B, Q).masked_fill(PADDING, -torch.inf)},
    "bool": {"attn_mask": hide(Q, Q)},
    "float": {"attn_mask": torch.randn(Q, Q)},
    "per head": {"attn_mask": hide(B * H, Q, Q)},
    "both": {"attn_mask": hide(Q, Q), "key_padding_mask": PADDING},
    "causal": {"attn_mask": nn.Transformer.generate_square_subsequent_mask(Q), "is_causal": True},
}


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("mode", ["train", "eval", "no_grad"])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("masks", MASKS)
def test_multihead_attention(masks: str, batch_first: bool, mode: str, need_weights: bool) -> None:
    module = nn.MultiheadAttention(E, H, batch_first=batch_first).train(mode == "train")
    x = torch.randn(B, Q, E) if batch_first else torch.randn(Q, B, E)
    options = MASKS[masks]
    with torch.set_grad_enabled(mode != "no_grad"):
        plain, _ = module(x, x, x, need_weights=need_weights, **options)
        with fv.watch(module) as seen:
            watched, _ = module(x, x, x, need_weights=need_weights, **options)
        _, want = module(x, x, x, average_attn_weights=False, **options)
    assert torch.equal(plain, watched)
    torch.testing.assert_close(seen["MultiheadAttention"].dense(), want, atol=1e-6, rtol=0)
    assert seen.info("MultiheadAttention").kind == ("decoder" if masks == "causal" else "encoder")


@pytest.mark.parametrize(
    "options", [{"kdim": 10, "vdim": 13}, {"add_bias_kv": True}, {"add_zero_attn": True}, {"bias": False}]
)
def test_multihead_attention_across_two_sequences(options: dict[str, Any]) -> None:
    module = nn.MultiheadAttention(E, H, batch_first=True, **options)
    q = torch.randn(B, Q, E)
    k, v = torch.randn(B, K, options.get("kdim", E)), torch.randn(B, K, options.get("vdim", E))
    padding = torch.arange(K)[None] >= torch.tensor([5, 2, 3])[:, None]
    with fv.watch(module, keep="qkv") as seen:
        output, want = module(q, k, v, key_padding_mask=padding, average_attn_weights=False)
    got = seen["MultiheadAttention"]
    torch.testing.assert_close(got.dense(), want, atol=1e-6, rtol=0)
    read = (got.dense() @ got.value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(module.out_proj(read), output, atol=1e-5, rtol=0)
    assert seen.info("MultiheadAttention").kind == "cross"


def test_multihead_attention_without_a_batch() -> None:
    module = nn.MultiheadAttention(E, H)
    x = torch.randn(Q, E)
    with fv.watch(module) as seen:
        _, want = module(x, x, x, attn_mask=MASKS["bool"]["attn_mask"], average_attn_weights=False)
    torch.testing.assert_close(seen["MultiheadAttention"][0].reshape(H, Q, Q), want, atol=1e-6, rtol=0)


def slow_weights(encoder: nn.TransformerEncoder, x: Tensor, options: dict[str, Any]) -> list[Tensor]:
    """Each layer's weights from the slow path, which alone can give them."""
    found: list[Tensor] = []

    def note(module: nn.Module, args: Any, kwargs: Any) -> None:
        asked = {**kwargs, "need_weights": True, "average_attn_weights": False}
        found.append(nn.MultiheadAttention.forward(module, *args, **asked)[1])  # type: ignore[arg-type]

    handles = [layer.self_attn.register_forward_pre_hook(note, with_kwargs=True) for layer in encoder.layers]
    encoder(x, **options)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True", "ignore:The PyTorch API of nested tensors")
def test_transformer_encoder(norm_first: bool, batch_first: bool, padded: bool, causal: bool, grad: bool) -> None:
    layer = nn.TransformerEncoderLayer(E, H, 32, batch_first=batch_first, norm_first=norm_first)
    encoder = nn.TransformerEncoder(layer, 2).eval()
    x = torch.randn(B, Q, E) if batch_first else torch.randn(Q, B, E)
    options: dict[str, Any] = {"src_key_padding_mask": PADDING} if padded else {}
    if causal:
        options |= {"mask": torch.ones(Q, Q, dtype=torch.bool).triu(1), "is_causal": True}
    with torch.set_grad_enabled(grad):
        plain = encoder(x, **options)
        with fv.watch(encoder) as seen:
            watched = encoder(x, **options)
        want = slow_weights(encoder, x, options)
    assert torch.equal(plain, watched)
    assert seen.layers == ("layers.0.self_attn", "layers.1.self_attn")
    for name, w in zip(seen, want, strict=True):
        for b, n in enumerate(LENGTHS if padded else [Q] * B):
            torch.testing.assert_close(seen[name][b, :, :n, :n], w[b, :, :n, :n], atol=2e-6, rtol=0)
    assert seen.lengths == (LENGTHS if padded else None)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_the_fused_path_of_the_encoder_is_taken_while_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    fused = torch._transformer_encoder_layer_fwd
    monkeypatch.setattr(torch, "_transformer_encoder_layer_fwd", lambda *a: taken.append(1) or fused(*a))
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(E, H, 32, batch_first=True), 2).eval()

    class Model(nn.Module):
        """An ordinary module around it, in which the function mode is on."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, x: Tensor) -> Tensor:
            assert torch._C._len_torch_function_stack() == 1
            return self.encoder(x.softmax(-1), src_key_padding_mask=PADDING)

    model = Model()
    with torch.no_grad(), fv.watch(model) as seen:
        model(torch.randn(B, Q, E))
    assert len(taken) == 2  # a function mode or a hook on a sub-module would make this 0
    assert seen.layers == ("encoder.layers.0.self_attn", "encoder.layers.1.self_attn")


def test_transformer_has_three_kinds() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Transformer(E, H, 2, 1, 32, batch_first=True).eval()
    causal = nn.Transformer.generate_square_subsequent_mask(Q)
    source, target = torch.randn(B, K, E), torch.randn(B, Q, E)
    plain = model(source, target, tgt_mask=causal, tgt_is_causal=True)
    with fv.watch(model) as seen:
        assert torch.equal(model(source, target, tgt_mask=causal, tgt_is_causal=True), plain)
    assert [(name, seen.info(name).kind, tuple(seen[name].shape)) for name in seen] == [
        ("encoder.layers.0.self_attn", "encoder", (B, H, K, K)),
        ("encoder.layers.1.self_attn", "encoder", (B, H, K, K)),
        ("decoder.layers.0.self_attn", "decoder", (B, H, Q, Q)),
        ("decoder.layers.0.multihead_attn", "cross", (B, H, Q, K)),
    ]


class Custom(nn.Module):
    """Calls whatever attention function it is given on its own projections."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.project = nn.Linear(E, 3 * E)
        self.function = function

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        q, k, v = (t.unflatten(-1, (H, -1)).transpose(1, 2) for t in self.project(x).chunk(3, -1))
        return self.function(q, k, v, **options)

    def qk(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q, k, _ = (t.unflatten(-1, (H, -1)).transpose(1, 2) for t in self.project(x).chunk(3, -1))
        return q, k


SDPA: dict[str, tuple[dict[str, Any], str]] = {
    "plain": ({}, "None"),
    "causal": ({"is_causal": True}, "causal"),
    "scale": ({"scale": 0.3}, "None"),
    "bool": ({"attn_mask": torch.ones(Q, Q, dtype=torch.bool).tril(1)}, f"window({Q - 1}, 1)"),
    "float": ({"attn_mask": torch.randn(B, 1, Q, Q)}, "None"),
}


@pytest.mark.parametrize("case", SDPA)
def test_scaled_dot_product_attention_of_a_module_of_ones_own(case: str) -> None:
    options, mask = SDPA[case]
    module, x = Custom(F.scaled_dot_product_attention), torch.randn(B, Q, E)
    plain = module(x, **options)
    with fv.watch(nn.Sequential(module), dtype=None) as seen, torch.no_grad():
        assert torch.equal(module(x, **options), plain)
    q, k = module.qk(x)
    s = q @ k.mT * options.get("scale", (E // H) ** -0.5)
    table = options.get("attn_mask")
    if options.get("is_causal"):
        table = torch.ones(Q, Q, dtype=torch.bool).tril()
    if table is not None:
        s = s.masked_fill(~table, -torch.inf) if table.dtype == torch.bool else s + table
    torch.testing.assert_close(seen["0"].dense(), s.softmax(-1), atol=1e-6, rtol=0)
    assert str(seen["0"].mask) == mask


def test_torchs_causal_flag_aligns_to_the_start() -> None:
    class Cut(nn.Module):
        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, k, is_causal=True)

    q, k = torch.randn(B, H, 3, 6), torch.randn(B, H, 5, 6)
    with fv.watch(Cut()) as seen:
        pass_through = list(seen)  # nothing yet
        with pytest.raises(CaptureError, match="not called"), fv.watch(Cut()):
            pass
        model = Cut()
        with fv.watch(model) as inner:
            model(q, k)
        seen._add(inner._order[0])
    assert pass_through == []
    assert float(inner["Cut"][..., 0, 1:].abs().max()) == 0
    assert str(inner["Cut"].mask) == "causal(align='start')"


def test_three_axes_are_a_batch_with_one_head_and_five_are_flattened() -> None:
    class Plain(nn.Module):
        def forward(self, q: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, q, q)

    for shape, want in {(B, Q, 6): (B, 1, Q, Q), (2, B, H, Q, 6): (2 * B, H, Q, Q), (Q, 6): (1, 1, Q, Q)}.items():
        model = Plain()
        with fv.watch(model) as seen:
            model(torch.randn(shape))
        assert tuple(seen["Plain"].shape) == want


def test_functional_multi_head_attention() -> None:
    inner, hidden = nn.MultiheadAttention(E, H), MASKS["bool"]["attn_mask"]

    class Functional(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return F.multi_head_attention_forward(
                x, x, x, E, H, inner.in_proj_weight, inner.in_proj_bias, None, None, False, 0.0,
                inner.out_proj.weight, inner.out_proj.bias, attn_mask=hidden, average_attn_weights=False,
            )  # fmt: skip

    model = Functional()
    with fv.watch(model) as seen:
        _, want = model(torch.randn(Q, B, E))
    torch.testing.assert_close(seen["Functional"].dense(), want, atol=1e-6, rtol=0)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_with_a_block_mask_and_a_bias() -> None:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    slopes = torch.rand(H)
    blocks = create_block_mask(lambda b, h, q, k: q >= k, None, None, Q, Q, device="cpu")
    options = {"block_mask": blocks, "score_mod": lambda s, b, h, q, k: s + slopes[h] * (k - q)}
    module, x = Custom(flex_attention), torch.randn(B, Q, E)
    with torch.no_grad():
        plain = module(x, **options)
        with fv.watch(module) as seen:
            assert torch.equal(module(x, **options), plain)
        q, k = module.qk(x)
    at = torch.arange(Q)
    s = q @ k.mT * (E // H) ** -0.5 + slopes[:, None, None] * (at[None, :] - at[:, None])
    want = s.masked_fill(at[:, None] < at[None, :], -torch.inf).softmax(-1)
    torch.testing.assert_close(seen["Custom"].dense(), want, atol=1e-6, rtol=0)
    assert str(seen["Custom"].mask) == "causal"


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_a_score_mod_that_is_no_bias_is_reported() -> None:
    from torch.nn.attention.flex_attention import flex_attention

    module = Custom(flex_attention)
    with (
        pytest.raises(CaptureError, match="score_mod that does more than add a bias"),
        fv.watch(module),
        torch.no_grad(),
    ):
        module(torch.randn(B, Q, E), score_mod=lambda s, b, h, q, k: torch.tanh(s))


@pytest.mark.parametrize("backend", ["auto", "reference", "sdpa", "blocks"])
def test_our_own_operator_is_seen_once(backend: str) -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        score = "dot" if backend == "sdpa" else fv.scores.scaled_dot(softcap=2.0)
        return fv.attention(q, k, v, mask=fv.masks.causal(), score=score, backend=backend)[0]

    module, x = Custom(attend), torch.randn(B, Q, E)
    with torch.no_grad(), fv.watch(module, keep="qkv") as seen:
        out = module(x)
    weights = seen["Custom"]  # one call, not a sequence: the backend's own calls are not told twice
    torch.testing.assert_close(weights.dense() @ weights.value, out, atol=1e-5, rtol=0)
    assert seen.info("Custom").kind == "decoder"
    assert seen.not_captured == ()


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_flex_attention_under_any_name(backend: str) -> None:
    from torch.nn.attention.flex_attention import flex_attention

    module, x = Custom(torch.compile(flex_attention, backend=backend)), torch.randn(B, Q, E)
    with torch.no_grad():
        plain = module(x)
        with fv.watch(module) as seen:
            assert torch.equal(module(x), plain)
        assert torch.equal(module(x), plain)
        q, k = module.qk(x)
    torch.testing.assert_close(seen["Custom"].dense(), (q @ k.mT * (E // H) ** -0.5).softmax(-1), atol=1e-6, rtol=0)


def test_compiled_helpers_run_compiled_and_what_surrounds_them_is_seen() -> None:
    traced: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        traced.append(len(inputs))
        return graph.forward

    @torch.compile(backend=backend)
    def rotate(q: Tensor) -> Tensor:
        return torch.cat([-q[..., 3:], q[..., :3]], -1) * 0.5

    class Model(nn.Module):
        def forward(self, q: Tensor) -> Tensor:
            q = rotate(q)
            return F.scaled_dot_product_attention(q, q, q)

    model, q = Model(), torch.randn(B, H, Q, 6)
    plain = model(q)
    before = len(traced)
    with fv.watch(model) as seen:
        assert torch.equal(model(q), plain)
    assert len(traced) == before == 1  # not traced again: nothing that it can see has changed
    assert seen["Model"].shape == (B, H, Q, Q)


def test_compiled_models_are_refused_with_a_remedy() -> None:
    module = Custom(F.scaled_dot_product_attention)
    with pytest.raises(CaptureError, match=r"compiled.*watch the model before torch.compile, or `model._orig_mod`"):
        fv.watch(torch.compile(module, backend="eager")).__enter__()


def test_compiled_parts_are_left_alone_and_reported() -> None:
    from foveate.watch import CaptureWarning

    inner, outer = (Custom(F.scaled_dot_product_attention) for _ in range(2))
    for compiled in (torch.compile(inner, backend="eager"), inner):
        if compiled is inner:
            inner.compile(backend="eager")
        model = nn.ModuleDict({"inner": compiled, "outer": outer})
        model.forward = lambda x, m=model: (m["inner"](x), m["outer"](x))  # type: ignore[method-assign]
        x = torch.randn(B, Q, E)
        plain = model(x)
        with pytest.warns(CaptureWarning, match="inner: compiled by torch.compile"), fv.watch(model) as seen:
            watched = model(x)
        assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
        assert seen.layers == ("outer",)
        assert seen.not_captured == ("inner: compiled by torch.compile; watch the model before compiling it",)


class OwnLayer(nn.Module):
    """A layer of the user's own inside nn.TransformerEncoder, whose frame is PyTorch's."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = Custom(F.scaled_dot_product_attention)
        self.self_attn.batch_first = True

    def forward(self, src: Tensor, **_: Any) -> Tensor:
        return src + self.self_attn(src).transpose(1, 2).flatten(2)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
def test_own_layers_inside_torchs_encoder() -> None:
    encoder = nn.TransformerEncoder(OwnLayer(), 2).eval()  # type: ignore[arg-type]
    with torch.no_grad(), fv.watch(encoder) as seen:
        encoder(torch.randn(B, Q, E))
    assert seen.layers == ("layers.0.self_attn", "layers.1.self_attn")
