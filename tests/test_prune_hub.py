"""Heads taken out of models of transformers: the same as knocked out, smaller, saved, loaded, put back."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import foveate as fv
from foveate.heads.pruning.sites import find, why_not
from hf_models import make_inputs, tensors, transformers
from pruned_models import MORE, knocked_out, some_heads

pytestmark = pytest.mark.usefixtures("one_thread")

CASES = [(name, how) for name, family in MORE.items() for how in family.implementations]
WRITERS = ["gpt2", "llama", "gemma2", "opt", "multi-query", "bert-decoder", "t5", "bart", "marian", "whisper", "umt5"]


def outputs(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    with torch.no_grad():
        return tensors(model(**inputs))


def apart(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    return max(float((x - y).abs().max()) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("first_empty", [True, False])
@pytest.mark.parametrize(("name", "how"), CASES)
def test_a_pruned_model_computes_what_is_left(name: str, how: str, first_empty: bool) -> None:
    family = MORE[name]
    model, inputs = family.build(how), make_inputs(family.inputs)
    heads = some_heads(model, first_empty=first_empty)
    other = knocked_out(copy.deepcopy(model), heads)
    before, wanted, state = outputs(model, inputs), outputs(other, inputs), copy.deepcopy(model.state_dict())
    pruned = fv.heads.prune(model, heads)
    found = outputs(model, inputs)
    assert apart(found, wanted) < 2e-6 * max(1.0, *(float(x.abs().max()) for x in wanted)) < apart(found, before)
    assert pruned.heads[0] - pruned.heads[1] == sum(map(len, heads.values()))
    assert pruned.parameters[1] == sum(p.numel() for p in model.parameters()) < pruned.parameters[0]
    assert apart(outputs(copy.deepcopy(model), inputs), found) == 0
    pruned.restore()
    assert outputs(model, inputs)[0].equal(before[0])
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert not pruned.removed
    assert pruned.parameters[0] == pruned.parameters[1]


def test_layers_of_t5_share_a_bias_of_which_each_reads_its_own_heads() -> None:
    model, inputs = MORE["t5"].build("sdpa"), make_inputs("pair")
    wanted = outputs(knocked_out(copy.deepcopy(model), {}), inputs)
    heads = {path: (0, 2) for path in find(model) if path.startswith("encoder")}
    fv.heads.prune(model, heads)
    attention = model.encoder.block[0].layer[0].SelfAttention
    _, bias, _ = attention(torch.randn(1, 5, 24))
    assert bias.shape == (1, 6, 5, 5)
    assert apart(outputs(model, inputs), wanted) > 1e-3


@pytest.mark.parametrize("first_empty", [True, False])
@pytest.mark.parametrize("name", WRITERS)
def test_generation_with_caches(name: str, first_empty: bool) -> None:
    family = MORE[name]
    model, inputs = family.build(family.implementations[-1]), make_inputs(family.inputs)
    inputs.pop("decoder_input_ids", None)
    heads = some_heads(model, first_empty=first_empty)
    other = knocked_out(copy.deepcopy(model), heads)
    fv.heads.prune(model, heads)
    plain = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    for more in ({}, {"num_beams": 3}, {"cache_implementation": "static"}, {"use_cache": False}):
        if name == "bert-decoder" and more.get("cache_implementation"):
            continue  # it has no static cache
        found = model.generate(**inputs, **plain, **more)
        assert found.equal(other.generate(**inputs, **plain, **more)), more


def test_training_goes_on() -> None:
    model, inputs = MORE["llama"].build("sdpa"), make_inputs("text")
    fv.heads.prune(model, some_heads(model))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss = model(**inputs, labels=inputs["input_ids"]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5", "gpt-oss", "vit"])
def test_a_folder_loads_small_and_plain_transformers_computes_the_same(name: str, tmp_path: Path) -> None:
    family = MORE[name]
    how = family.implementations[-1]
    model, inputs = family.build(how), make_inputs(family.inputs)
    model.save_pretrained(tmp_path / "whole")
    fv.heads.prune(model, some_heads(model))
    wanted = outputs(model, inputs)
    fv.heads.save(model, tmp_path / "small")
    assert apart(outputs(model, inputs), wanted) == 0  # saving left it as it was

    small = fv.heads.load(tmp_path / "small", attn_implementation=how)
    assert apart(outputs(small, inputs), wanted) == 0
    assert sum(p.numel() for p in small.parameters()) == sum(p.numel() for p in model.parameters())
    plain = type(model).from_pretrained(tmp_path / "small", attn_implementation=how).eval()
    assert apart(outputs(plain, inputs), wanted) < 1e-5
    assert sum(p.numel() for p in plain.parameters()) > sum(p.numel() for p in small.parameters())

    fv.heads.restore(tmp_path / "small", tmp_path / "again")
    first = (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == first
    assert not (tmp_path / "again" / "foveate_pruned.json").exists()


def test_zeros_stay_zeros_where_plain_transformers_trains_on(tmp_path: Path) -> None:
    model, inputs = MORE["gpt2"].build("sdpa"), make_inputs("text")
    heads = some_heads(model, first_empty=False)
    fv.heads.prune(model, heads)
    fv.heads.save(model, tmp_path)
    plain = type(model).from_pretrained(tmp_path)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        plain(**inputs, labels=inputs["input_ids"]).loss.backward()
        optimizer.step()
    wanted = outputs(plain.eval(), inputs)
    fv.heads.prune(plain, heads)
    assert apart(outputs(plain, inputs), wanted) < 1e-5


def test_a_class_with_another_head_loads_it_too(tmp_path: Path) -> None:
    model, inputs = MORE["llama"].build("sdpa"), make_inputs("text")
    heads = some_heads(model)
    fv.heads.prune(model, heads)
    fv.heads.save(model, tmp_path)
    body = fv.heads.load(tmp_path, transformers.AutoModel)
    assert apart(outputs(body, inputs)[:1], outputs(model.model, inputs)[:1]) == 0
    small_first = {path.removeprefix("model."): len(some) for path, some in heads.items()}
    assert {path: 6 - site.heads for path, site in find(body).items()} == small_first


def test_watch_sees_the_heads_that_are_left() -> None:
    model, inputs = MORE["llama"].build("sdpa"), make_inputs("text")
    fv.heads.prune(model, some_heads(model))
    with torch.no_grad(), fv.watch(model) as seen:
        model(**inputs)
    assert {name: call.shape[1] for name, call in seen.items()} == {"model.layers.1.self_attn": 3}
    assert not seen.not_captured


def test_heads_that_share_keys_go_as_groups_or_in_equal_numbers() -> None:
    model, inputs = MORE["llama"].build("sdpa"), make_inputs("text")
    path, site = next(iter(find(model).items()))
    assert site.units == ((0, 1, 2), (3, 4, 5))
    with pytest.raises(
        ValueError, match=r"these heads would leave 2 of group 0, 3 of group 1\. Remove whole groups of 3"
    ):
        fv.heads.prune(model, {(path, 0)})
    assert site.heads == next(iter(find(model).values())).heads  # nothing was cut
    other = knocked_out(copy.deepcopy(model), {path: (0, 5)})
    pruned = fv.heads.prune(model, [(path, 0), (path, 5)])
    assert apart(outputs(model, inputs), outputs(other, inputs)) < 1e-6
    assert pruned.kept[path] == (1, 2, 3, 4)
    again = fv.heads.prune(model, {path: (0, 1)})  # the first group, as it is now
    assert again.kept[path] == (3, 4)
    assert model.get_submodule(path).k_proj.out_features == 4


def test_what_is_not_known_is_not_pruned() -> None:
    small = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 16}
    albert = transformers.AlbertModel(transformers.AlbertConfig(**small, vocab_size=97, embedding_size=8))
    with pytest.raises(ValueError, match=r"AlbertModel has no attention that can be pruned. .*what its LayerNorm does"):
        fv.heads.prune(albert, {(0, 0)})
    phi = transformers.Phi3ForCausalLM(transformers.Phi3Config(**small, vocab_size=97, pad_token_id=0))
    assert set(why_not(phi).values()) == {"it takes its number of heads from the configuration"}
    bloom = transformers.BloomModel(transformers.BloomConfig(hidden_size=24, n_head=3, n_layer=1, vocab_size=97))
    assert set(why_not(bloom).values()) == {"it computes attention by itself"}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda told: told.update(format=2), "its format is 2; this version reads 1"),
        (
            lambda told: told["modules"]["encoder.layer.0.attention.self"].update(kept=[6]),
            "numbers from 0 to 5 in order",
        ),
        (
            lambda told: told["modules"]["encoder.layer.0.attention.self"].update(heads=9, groups=9),
            "says that .* has 9 heads",
        ),
        (
            lambda told: told.update(modules={"nowhere": {"heads": 2, "groups": 2, "kept": []}}),
            "names no module of Bert",
        ),
        (lambda told: told.pop("modules"), "cannot be used"),
    ],
)
def test_hostile_descriptions(change: Any, match: str, tmp_path: Path) -> None:
    model = MORE["bert"].build("sdpa")
    fv.heads.prune(model, {(1, 0), (1, 5)})
    fv.heads.save(model, tmp_path)
    told = json.loads((tmp_path / "foveate_pruned.json").read_text())
    change(told)
    (tmp_path / "foveate_pruned.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match=match):
        fv.heads.load(tmp_path)


def test_what_was_removed_must_fit(tmp_path: Path) -> None:
    model = MORE["bert"].build("sdpa")
    with pytest.raises(ValueError, match="nothing was removed"):
        fv.heads.save(model, tmp_path)
    fv.heads.prune(model, {(1, 0)})
    fv.heads.save(model, tmp_path)
    (tmp_path / "removed.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(ValueError, match=r"removed.safetensors in .* cannot be read"):
        fv.heads.load(tmp_path)
    (tmp_path / "removed.safetensors").unlink()
    fv.heads.load(tmp_path)
    with pytest.raises(ValueError, match=r"there is no removed.safetensors in .*, and nothing to put back"):
        fv.heads.restore(tmp_path, tmp_path / "again")
    with pytest.raises(ValueError, match=r"there is no foveate_pruned.json in tests"):
        fv.heads.load(Path(__file__).parent)
