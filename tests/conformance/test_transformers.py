"""Hugging Face models run through our operator: their own eager results, and what watching them shows."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

import foveate as fv
import oracle
from hf_models import FAMILIES, LENGTHS, eager_weights, make_inputs, tensors, transformers, worst

fv.hf.register()
THREE = (("foveate", torch.float32), ("eager", torch.float32), ("eager", torch.float64))
every_family = pytest.mark.parametrize("name", FAMILIES)


def real(t: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    """Without rows of padding: there eager gives the mean of all values, foveate zeros."""
    if "attention_mask" not in inputs or t.ndim < 3 or t.shape[1] != LENGTHS[0]:
        return t
    return torch.cat([row[:n] for row, n in zip(t, LENGTHS, strict=True)])


def same(found: list[Tensor], eager: list[Tensor], exact: list[Tensor]) -> None:
    assert len(found) == len(eager) == len(exact) > 0
    for got, plain, true in zip(found, eager, exact, strict=True):
        oracle.as_good_as(got, plain, true.double())


def build(name: str, implementation: str, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    model = FAMILIES[name].build(implementation).to(dtype)
    if dtype == torch.float64 and name == "gpt-oss":
        model.set_experts_implementation("eager")  # the others have no float64
    return model


def left_padded(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: torch.stack([t[0], t[1].roll(LENGTHS[0] - LENGTHS[1])]) for k, t in inputs.items()}


@every_family
def test_outputs_are_the_models_own(name: str) -> None:
    inputs = make_inputs(FAMILIES[name].inputs)
    found = []
    for implementation, dtype in THREE:
        given = {k: t.to(dtype) if t.is_floating_point() else t for k, t in inputs.items()}
        with torch.no_grad():
            out = build(name, implementation, dtype)(**given)
        found.append([real(t, inputs) for t in tensors(out)])
    same(*found)


@pytest.mark.parametrize("name", ["gemma2", "gpt-oss", "t5"])  # soft cap and window; sinks; bias
def test_gradients_are_the_models_own(name: str) -> None:
    inputs = make_inputs(FAMILIES[name].inputs)
    found = []
    for implementation, dtype in THREE:
        model = build(name, implementation, dtype)
        real(tensors(model(**inputs))[0], inputs).square().mean().backward()
        found.append([torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])])
    same(*found)


CACHES = {
    "dynamic": {},
    "none": {"use_cache": False},
    "static": {"cache_implementation": "static", "disable_compile": True},
}
GENERATED = [(name, cache) for name in ("gpt2", "llama", "gemma2", "gpt-oss") for cache in CACHES]


@pytest.mark.parametrize(
    ("name", "cache"), [*GENERATED, ("t5", "dynamic"), ("bart", "dynamic"), ("whisper", "dynamic")]
)
def test_greedy_generation(name: str, cache: str) -> None:
    family = FAMILIES[name]
    inputs = {k: t for k, t in make_inputs(family.inputs).items() if k != "decoder_input_ids"}
    if family.inputs == "text":
        inputs = left_padded(inputs)
    full = {"return_dict_in_generate": True, "output_logits": True, "do_sample": False, "pad_token_id": 0}
    options = {"max_new_tokens": 9, "min_new_tokens": 9, **full, **CACHES[cache]}
    ours, theirs = (build(name, how).generate(**inputs, **options) for how in ("foveate", "eager"))
    assert torch.equal(ours.sequences, theirs.sequences)
    a, b = (torch.stack(run.logits) for run in (ours, theirs))
    assert float((a - b).abs().max()) < 1e-5 * float(b.abs().max())


@every_family
def test_watching_shows_the_eager_weights_and_changes_no_bit(name: str) -> None:
    family, inputs = FAMILIES[name], make_inputs(FAMILIES[name].inputs)
    model = family.build("foveate")
    with torch.no_grad():
        plain = model(**inputs)
        with fv.watch(model) as seen:
            watched = model(**inputs)
    assert all(torch.equal(a, b) for a, b in zip(tensors(plain), tensors(watched), strict=True))
    assert worst(seen, eager_weights(family, inputs), inputs) < 5e-6
    assert seen.not_captured == ()


@every_family
def test_output_attentions_are_maps(name: str) -> None:
    family, inputs = FAMILIES[name], make_inputs(FAMILIES[name].inputs)
    wanted = eager_weights(family, inputs)
    with torch.no_grad():
        out = family.build("foveate")(**inputs, output_attentions=True)
    names = {"encoder": "encoder_attentions", "decoder": "decoder_attentions", "cross": "cross_attentions"}
    for kind, weights in wanted.items():
        found = getattr(out, "attentions" if len(wanted) == 1 else names[kind])
        assert len(found) == len(weights) == 2
        for ours, theirs in zip(found, weights, strict=True):
            assert isinstance(ours, fv.AttentionMap) and ours.shape == theirs.shape
            assert float((ours[0].detach() - theirs[0]).abs().max()) < 5e-6  # sequence 0 has no padding


def test_a_softmax_written_by_hand_stays_right() -> None:
    config = transformers.BloomConfig(hidden_size=24, n_head=6, n_layer=2, vocab_size=97)
    inputs = make_inputs("text")
    found = []
    for implementation in ("eager", "foveate"):
        torch.manual_seed(1)
        found.append(transformers.BloomModel._from_config(config, attn_implementation=implementation).eval())
    with torch.no_grad(), pytest.warns(UserWarning, match="BloomConfig does not declare that others may"):
        assert torch.equal(*(model(**inputs).last_hidden_state for model in found))


def module(causal: bool, training: bool = False) -> torch.nn.Module:
    found = torch.nn.Module().train(training)
    found.is_causal, found.num_key_value_groups = causal, 2
    return found


@pytest.mark.parametrize("queries", [1, 5, 7])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("masked", ["none", "bool", "float"])
def test_the_function_is_transformers_own(masked: str, biased: bool, causal: bool, queries: int) -> None:
    """Where transformers' sdpa function is defined; what it makes of flags and masks is what models count on."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    q, k, v = oracle.inputs(heads=6, groups=3, queries=queries)
    table = torch.rand(2, 1, queries, 7) < 0.7
    table[..., 0] = True
    numbers = torch.full(table.shape, 0.25).double().masked_fill(~table, torch.finfo(torch.float64).min)
    mask = {"none": None, "bool": table, "float": numbers}
    bias = torch.randn(1, 6, queries, 7, dtype=torch.float64) if biased else None
    given = {"attention_mask": mask[masked], "scaling": 0.3, "position_bias": bias}
    ours, weights = fv.hf.attention(module(causal), q, k, v, **given)
    theirs, _ = sdpa_attention_forward(module(causal), q, k, v, **given)
    oracle.close(ours, theirs)
    assert ours.is_contiguous() and not weights.nan_rows().any()
    if masked == "none":
        flagged, _ = fv.hf.attention(module(not causal), q, k, v, **given, is_causal=causal)
        oracle.close(flagged, ours)


def test_a_window_is_heeded_where_no_mask_holds_it() -> None:
    q, k, v = oracle.inputs(queries=7)
    near = torch.ones(7, 7, dtype=torch.bool).tril().triu(-2)
    for causal, allowed in ((True, near), (False, near | near.T)):
        for rows in (7, 1):
            given = {"attention_mask": None, "sliding_window": 3}
            _, weights = fv.hf.attention(module(causal), q[:, :, -rows:], k, v, **given)
            oracle.close(weights.dense(), oracle.weights(q[:, :, -rows:], k, allowed=allowed[-rows:]))


def test_dropout_is_for_training() -> None:
    q, k, v = oracle.inputs()
    drop = {"attention_mask": None, "dropout": 0.5}
    calm, _ = fv.hf.attention(module(False), q, k, v, **drop)
    assert torch.equal(calm, fv.hf.attention(module(False), q, k, v, attention_mask=None)[0])
    assert not torch.equal(calm, fv.hf.attention(module(False, training=True), q, k, v, **drop)[0])


def test_paged_caches_are_refused() -> None:
    q, k, v = oracle.inputs()
    with pytest.raises(NotImplementedError, match="paged cache; use attn_implementation='sdpa'"):
        fv.hf.attention(module(False), q, k, v, None, cache=object())


def test_registering_twice_changes_nothing() -> None:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    before = dict(ALL_ATTENTION_FUNCTIONS), dict(ALL_MASK_ATTENTION_FUNCTIONS)
    fv.hf.register()
    assert (dict(ALL_ATTENTION_FUNCTIONS), dict(ALL_MASK_ATTENTION_FUNCTIONS)) == before
    assert ALL_ATTENTION_FUNCTIONS["foveate"] is fv.hf.attention


def in_a_fresh_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


def test_without_transformers_the_remedy_is_named() -> None:
    code = "import sys; sys.modules['transformers'] = None; import foveate as fv; fv.hf.register()"
    assert "ImportError: fv.hf needs transformers 5 or newer; run: pip install 'foveate[hf]'" in in_a_fresh_process(
        code
    )
