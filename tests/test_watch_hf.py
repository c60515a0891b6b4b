"""watch on Hugging Face models: every family's weights are its own eager weights, and no output bit changes."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

import foveate as fv
from hf_models import FAMILIES, LENGTHS, Family, eager_weights, make_inputs, tensors, transformers, worst

CASES = [(name, how) for name, family in FAMILIES.items() for how in family.implementations]


@pytest.mark.parametrize(("name", "implementation"), CASES)
def test_weights_are_the_models_own(name: str, implementation: str) -> None:
    family = FAMILIES[name]
    inputs = make_inputs(family.inputs)
    model = family.build(implementation)
    with torch.no_grad():
        plain = model(**inputs)
        with fv.watch(model) as seen:
            watched = model(**inputs)
    assert [torch.equal(a, b) for a, b in zip(tensors(plain), tensors(watched), strict=True)].count(False) == 0
    wanted = eager_weights(family, inputs)
    assert worst(seen, wanted, inputs) < 5e-6
    for weights in (w for layers in wanted.values() for w in layers):
        assert float(weights.std(-1).max()) > 0.03  # far from flat, or the comparison would say nothing
    assert seen.not_captured == ()
    assert set(seen.heads) == {6}
    assert seen.model == type(model).__name__


def test_this_comparison_can_fail() -> None:
    family = FAMILIES["llama"]
    inputs = make_inputs("text")
    model = family.build("sdpa", seed=3)  # other weights
    with torch.no_grad(), fv.watch(model) as seen:
        model(**inputs)
    assert worst(seen, eager_weights(family, inputs), inputs) > 1e-3


def test_masks_are_descriptions_and_not_tables() -> None:
    def mask(name: str, layer: str) -> str:
        model, inputs = FAMILIES[name].build("eager"), make_inputs("text")
        with torch.no_grad(), fv.watch(model) as seen:
            model(**inputs)
        return str(seen[layer].mask)

    assert mask("bert", "encoder.layer.1.attention.self") == "padding"
    assert mask("llama", "model.layers.1.self_attn") == "causal & padding"
    assert mask("gemma2", "model.layers.0.self_attn") == "(causal & window(4, 0)) & padding"
    assert mask("gemma2", "model.layers.1.self_attn") == "causal & padding"


def test_one_mask_and_one_bias_serve_all_layers() -> None:
    model, inputs = FAMILIES["t5"].build("eager"), make_inputs("pair")
    with torch.no_grad(), fv.watch(model) as seen:
        model(**inputs)
    first, second = (seen[f"encoder.block.{i}.layer.0.SelfAttention"] for i in (0, 1))
    assert first.bias.data_ptr() == second.bias.data_ptr()
    assert first.mask is second.mask


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize(
    "cache", [{}, {"use_cache": False}, {"cache_implementation": "static", "disable_compile": True}]
)
def test_generation_with_a_left_padded_batch(name: str, implementation: str, cache: dict[str, Any]) -> None:
    family = FAMILIES[name]
    if implementation not in family.implementations or (name == "gemma2" and "disable_compile" in cache):
        pytest.skip("not offered by this model")
    inputs = make_inputs("text")
    inputs = {k: torch.stack([t[0], t[1].roll(4)]) for k, t in inputs.items()}  # padding to the left
    options = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False, "pad_token_id": 0, **cache}
    model = family.build(implementation)
    plain = model.generate(**inputs, **options)
    with fv.watch(model) as seen:
        watched = model.generate(**inputs, **options)
    assert torch.equal(plain, watched)
    full = {"output_attentions": True, "return_dict_in_generate": True}
    steps = family.build("eager").generate(**inputs, **options, **full).attentions
    for layer, name in enumerate(seen):
        calls = seen[name]
        assert len(calls) == len(steps) == 3
        for call, step in zip(calls, steps, strict=True):
            want = step[layer][..., : call.shape[-1]]  # a static cache has keys that nobody sees yet
            assert float(step[layer][0, :, :, call.shape[-1] :].abs().sum()) == 0
            for b, first in enumerate([0, 4] if call.shape[-2] > 1 else [0, 0]):
                torch.testing.assert_close(call[b, :, first:], want[b, :, first:], atol=5e-6, rtol=0)
    assert seen.lengths == [13, 9]
    assert seen.starts == [0, 4]
    assert [len(row) for row in seen.input_ids] == [13, 13]


def test_generation_of_an_encoder_decoder_keeps_both_sides() -> None:
    family = FAMILIES["t5"]
    model, inputs = family.build("sdpa"), make_inputs("pair")
    text = {k: inputs[k] for k in ("input_ids", "attention_mask")}
    with fv.watch(model) as seen:
        model.generate(**text, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    cross = "decoder.block.1.layer.1.EncDecAttention"
    assert [call.shape for call in seen[cross]] == [(2, 6, 1, 11)] * 4
    assert seen.info(cross).kind == "cross"
    assert seen.info(cross).label == "layer 1"
    assert len(seen["encoder.block.0.layer.0.SelfAttention"].shape) == 4  # called once
    assert seen.lengths == LENGTHS
    assert seen.input_ids == inputs["input_ids"].tolist()
    assert seen.target_lengths == [4, 4]
    assert [len(row) for row in seen.target_ids] == [4, 4]
    order = [name for name, *_ in seen.calls()]
    assert order[:2] == [f"encoder.block.{i}.layer.0.SelfAttention" for i in (0, 1)]


def test_tokens_come_from_a_tokenizer_without_padding() -> None:
    model, inputs = FAMILIES["bert"].build("sdpa"), make_inputs("text")
    with torch.no_grad(), fv.watch(model, tokenizer=lambda ids: [f"t{i}" for i in ids]) as seen:
        model(**inputs)
    assert [len(row) for row in seen.tokens] == LENGTHS
    assert seen.tokens[1][0] == f"t{int(inputs['input_ids'][1, 0])}"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_copies_give_numbers_in_the_models_dtype(dtype: torch.dtype) -> None:
    model, inputs = FAMILIES["bert"].build("sdpa"), make_inputs("text")
    with torch.no_grad(), fv.watch(model) as exact:
        model(**inputs)
    with torch.no_grad(), fv.watch(model, dtype=dtype) as seen:
        model(**inputs)
    name = seen.layers[0]
    assert seen.read(name, "query").dtype == dtype
    assert seen[name].dtype == torch.float32
    assert 2 * seen.nbytes == exact.nbytes
    # an error of eps in q and k moves a score s by at most about 2 eps |q||k| scale, and a weight by that factor
    q, k = exact.read(name, "query"), exact.read(name, "key")
    moved = 2 * torch.finfo(dtype).eps * float(q.norm(dim=-1).max() * k.norm(dim=-1).max()) * q.shape[-1] ** -0.5
    assert 0 < float((seen[name].dense() - exact[name].dense()).abs().max()) < 2 * moved


def test_a_model_in_bfloat16_gives_bfloat16() -> None:
    model, inputs = FAMILIES["llama"].build("sdpa").bfloat16(), make_inputs("text")
    with torch.no_grad():
        plain = model(**inputs).logits
        with fv.watch(model) as seen:
            assert torch.equal(model(**inputs).logits, plain)
    assert seen["model.layers.0.self_attn"].dtype == torch.bfloat16


def test_training_with_gradients_and_checkpointing() -> None:
    model, inputs = FAMILIES["llama"].build("sdpa").train(), make_inputs("text")
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})

    def gradient() -> torch.Tensor:
        model.zero_grad()
        model(**inputs, labels=inputs["input_ids"], use_cache=False).loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    plain = gradient()
    with fv.watch(model) as seen:
        watched = gradient()
    assert torch.equal(plain, watched)
    assert len(list(seen.calls())) == 2  # recomputation in the backward pass is not another call
    assert not seen["model.layers.0.self_attn"].query.requires_grad


def test_models_with_handwritten_softmax_are_reported() -> None:
    from foveate.watch import CaptureError

    config = transformers.BloomConfig(hidden_size=24, n_head=6, n_layer=2, vocab_size=97)
    model = transformers.BloomModel(config).eval()
    with (
        pytest.raises(CaptureError, match=r"called none of .*h\.0\.self_attention: a softmax over scores"),
        fv.watch(model),
    ):
        model(torch.randint(0, 97, (2, 5)))


def test_two_models_in_two_threads_do_not_meet() -> None:
    names = ["llama", "bert"]
    found: dict[str, Any] = {}
    start = threading.Barrier(2)

    def work(name: str) -> None:
        model, inputs = FAMILIES[name].build("sdpa"), make_inputs("text")
        start.wait()
        with torch.no_grad(), fv.watch(model) as seen:
            for _ in range(5):
                model(**inputs)
        found[name] = seen

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in names:
        assert found[name].model == FAMILIES[name].model
        assert [len(found[name][layer]) for layer in found[name]] == [5, 5]


def test_a_model_that_is_not_watched_passes_through_and_all_is_restored() -> None:
    interface = transformers.modeling_utils.AttentionInterface
    before = interface.__dict__["get_interface"]
    inputs = make_inputs("text")
    mine, other = FAMILIES["bert"].build("sdpa"), FAMILIES["llama"].build("sdpa")
    with pytest.raises(KeyError, match="mine"), torch.no_grad(), fv.watch(mine) as seen:  # noqa: PT012
        assert interface.__dict__["get_interface"] is not before
        mine(**inputs)
        other(**inputs)
        raise KeyError("mine")
    assert interface.__dict__["get_interface"] is before
    assert all("forward" not in vars(module) for module in mine.modules())
    assert seen.layers == ("encoder.layer.0.attention.self", "encoder.layer.1.attention.self")


def test_a_registered_attention_function_that_does_something_else_is_not_shown() -> None:
    from foveate.watch import CaptureError

    def sharper(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
        """Attends with ten times the scale that it is given."""
        options["scaling"] = options["scaling"] * 10
        return transformers.integrations.sdpa_attention.sdpa_attention_forward(
            module, query, key, value, mask, **options
        )

    transformers.AttentionInterface.register("sharper", sharper)
    family = FAMILIES["bert"]
    model = Family(family.model, family.config, family.options).build("sdpa")
    model.config._attn_implementation = "sharper"
    with pytest.raises(CaptureError, match="do not reproduce the module's output"), fv.watch(model), torch.no_grad():
        model(input_ids=torch.randint(3, 97, (2, 11)))
