"""A recorded `generate()` as one map a module: its rows are those of the steps, and of one pass over all tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import foveate as fv
from foveate import masks
from foveate.apps.viewing import source_of
from foveate.masks.intervals import Intervals
from foveate.masks.spans import spans
from foveate.recording import CallInfo, MemoryCall, Recording
from foveate.shapes import Geometry
from hf_models import FAMILIES, make_inputs

NEW = 6
CACHES: dict[str, dict[str, Any]] = {
    "dynamic": {},
    "none": {"use_cache": False},
    "static": {"cache_implementation": "static", "disable_compile": True},
}


def left_padded() -> dict[str, torch.Tensor]:
    """A batch of two, lengths 11 and 7, the padding to the left."""
    return {k: torch.stack([t[0], t[1].roll(4)]) for k, t in make_inputs("text").items()}


def written(name: str, inputs: dict[str, torch.Tensor], to: Path | None = None, **options: Any) -> Recording:
    model = FAMILIES[name].build(FAMILIES[name].implementations[-1])
    how = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, **options}
    with fv.watch(model, keep="qkv", to=to or "cpu", tokenizer=lambda ids: list(map(str, ids))) as seen:
        model.generate(**inputs, **how)
    return seen


def one_pass(name: str, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The model's own weights of one pass over all tokens, from its eager path."""
    with torch.no_grad():
        return FAMILIES[name].build("eager")(input_ids=ids, attention_mask=mask, output_attentions=True).attentions


def check_steps(seen: Recording, name: str) -> None:
    """Row by row: the joined map has the weights of the step, and zeros where the step had no key."""
    joined, generation, end = seen.joined(name), seen.generation(), 0
    assert generation is not None
    for i, step in enumerate(seen[name]):
        want = step.dense() if generation.origin is None else step.dense()[generation.origin[i]]
        got = joined[:, :, end : end + want.shape[2]]
        end += want.shape[2]
        last = want.shape[3] if seen.info(name).kind == "cross" else end
        inside = got[..., last - want.shape[3] : last]
        torch.testing.assert_close(inside, want, atol=2e-6, rtol=0)
        assert float((got.sum(-1) - inside.sum(-1)).abs().max()) < 2e-6
    assert end == joined.shape[2]


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt-oss"])  # all keys; sliding windows; sinks, too
def test_rows_are_those_of_the_steps_and_of_one_pass(name: str, cache: str) -> None:
    inputs = left_padded()
    seen = written(name, inputs, **CACHES[cache])
    ids = torch.tensor(seen.input_ids)
    mask = torch.cat([inputs["attention_mask"], torch.ones(2, NEW - 1, dtype=torch.long)], dim=1)
    for layer, want in zip(seen, one_pass(name, ids, mask), strict=True):
        if cache != "none":
            check_steps(seen, layer)
        joined = seen.joined(layer)
        assert tuple(joined.shape) == tuple(want.shape) == (2, 6, 10 + NEW, 10 + NEW)
        for b, first in enumerate([0, 4]):
            torch.testing.assert_close(joined[b, :, first:], want[b, :, first:], atol=5e-6, rtol=0)
        assert joined.reduce(fv.stats.Entropy()).shape == (2, 6, 10 + NEW)
        assert len(seen[layer]) == NEW  # the calls stay as they are


def test_a_search_is_followed_to_where_its_sequences_came_from() -> None:
    inputs = left_padded()
    seen = written("llama", inputs, num_beams=3)
    generation = seen.generation()
    assert generation is not None
    assert generation.origin is not None
    assert generation.origin[-1].tolist() == list(range(6))
    for layer in seen:
        check_steps(seen, layer)
    source = source_of(seen)
    texts = [texts.source.text for texts in source.document().sequences]
    ids = torch.zeros(6, 10 + NEW, dtype=torch.long)
    for b, text in enumerate(texts):
        ids[b, 10 + NEW - len(text) :] = torch.tensor(list(map(int, text)))
    assert ids.tolist() != seen.input_ids  # as they were fed, sequences change places
    whole = one_pass("llama", ids, (ids > 0).long())
    for layer, want in zip(seen, whole, strict=True):
        for b, text in enumerate(texts):
            first = 10 + NEW - len(text)
            torch.testing.assert_close(seen.joined(layer)[b, :, first:], want[b, :, first:], atol=5e-6, rtol=0)
    assert any("the search moved sequences about" in note for note in source.document().notes)


def test_a_search_without_a_cache_keeps_the_texts_of_its_last_step() -> None:
    seen = written("llama", left_padded(), num_beams=3, use_cache=False)
    ids = torch.tensor(seen.input_ids)
    assert ids.shape == (6, 10 + NEW)
    for layer, want in zip(seen, one_pass("llama", ids, (ids > 0).long()), strict=True):
        torch.testing.assert_close(seen.joined(layer)[:3], want[:3], atol=5e-6, rtol=0)


def test_several_drawn_sequences() -> None:
    seen = written("llama", left_padded(), do_sample=True, num_return_sequences=2)
    for layer in seen:
        check_steps(seen, layer)
    assert [len(texts.source) for texts in source_of(seen).document().sequences] == [16, 16, 12, 12]


def test_an_encoder_decoder_joins_both_of_its_attentions() -> None:
    inputs = {k: v for k, v in make_inputs("pair").items() if k != "decoder_input_ids"}
    seen = written("t5", inputs)
    with torch.no_grad():
        model = FAMILIES["t5"].build("eager")
        out = model(**inputs, decoder_input_ids=torch.tensor(seen.target_ids), output_attentions=True)
    for layer in range(2):
        for part, want in (
            (f"decoder.block.{layer}.layer.0.SelfAttention", out.decoder_attentions[layer]),
            (f"decoder.block.{layer}.layer.1.EncDecAttention", out.cross_attentions[layer]),
        ):
            check_steps(seen, part)
            torch.testing.assert_close(seen.joined(part).dense(), want, atol=5e-6, rtol=0)
            assert float(want.std(-1).max()) > 0.03
    document = source_of(seen).document()
    assert [(c.kind, c.queries, c.keys) for c in document.calls[2:4]] == [("decoder", 6, 6), ("cross", 6, 11)]
    assert document.decoding is not None
    assert [step.token for step in document.decoding.steps[1]] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_on_disk_it_is_the_same(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    here = written(name, left_padded(), **options)
    written(name, left_padded(), tmp_path / "run.fov", **options)
    there = fv.load(tmp_path / "run.fov")
    for layer in here:
        assert torch.equal(there.joined(layer).dense(), here.joined(layer).dense())
        assert torch.equal(there.joined(layer).value, here.joined(layer).value)


def test_nothing_as_large_as_the_map_is_held() -> None:
    seen = written("llama", {k: v[:1] for k, v in make_inputs("text").items()}, max_new_tokens=50, min_new_tokens=50)
    joined = seen.joined("model.layers.0.self_attn")
    n = joined.shape[-1]
    vectors = 4 * n * 4 * (6 + 2 + 2)  # queries, keys and values of width 4, in bytes
    assert vectors < joined.nbytes <= vectors + 2 * 8 * n  # and two bounds a row


def test_the_page_is_told_what_was_generated() -> None:
    seen = written("llama", left_padded())
    source = source_of(seen)
    assert [one.problem.k_BGKD.shape[1] for one in source.maps] == [2, 2]
    assert [entry.groups for entry in source.maps.entries] == [2, 2]
    document = source.document()
    assert [(call.name, call.step, call.queries, call.keys, call.offset) for call in document.calls] == [
        (f"model.layers.{i}.self_attn", 0, 16, 16, 0) for i in range(2)
    ]
    decoding = document.decoding
    assert decoding is not None
    assert decoding.own
    assert decoding.calls == (0, 1)
    assert [[step.token for step in steps] for steps in decoding.steps] == [list(range(10, 16)), list(range(6, 12))]
    row = source.row(0, 1, 8, "reads", "token")
    step = seen["model.layers.0.self_attn"][2][1, :, 0, 4:]  # token 8 is place 12, behind 4 of padding
    torch.testing.assert_close(row[:, :9], step, atol=2e-6, rtol=0)
    assert float(row[:, 9:].abs().max()) == 0


# what is no generation, or cannot be joined


def call(name: str, step: int, query: torch.Tensor, key: torch.Tensor, **options: Any) -> MemoryCall:
    parts = {"score": fv.scores.scaled_dot(), "normalizer": fv.normalizers.softmax(), "mask": None, "bias": None}
    info = CallInfo(name, "decoder", "layer 0", 0, query.shape[1], "Attention")
    return MemoryCall(info, step, query, key, None, {**parts, "dtype": query.dtype, **options})


def stepped(batch: int = 1, **changed: Any) -> list[MemoryCall]:
    """A prompt of 3 tokens and 3 steps of one module."""
    query, key = torch.randn(2, batch, 2, 6, 5).unbind(0)
    first = call("a", 0, query[:, :, :3], key[:, :, :3], mask=masks.causal())
    return [first, *(call("a", t - 2, query[:, :, t : t + 1], key[:, :, : t + 1], **changed) for t in range(3, 6))]


def test_calls_that_only_repeat_are_no_generation() -> None:
    t = torch.randn(1, 2, 4, 5)
    for calls in ([call("a", 0, t, t)], [call("a", i, t, t) for i in range(3)]):
        recording = Recording(calls=list(calls))
        assert recording.generation() is None
        with pytest.raises(ValueError, match=r"a: its calls are not steps of a generation"):
            recording.joined("a")
    longer = torch.randn(1, 2, 5, 5)  # two texts, one of them a token longer
    assert Recording(calls=[call("a", 0, t, t), call("a", 1, longer, longer)]).generation() is None


def test_two_runs_are_not_one() -> None:
    recording = Recording(calls=[*stepped(), *stepped()])
    with pytest.raises(ValueError, match="several texts were run, or steps were taken back"):
        recording.joined("a")
    document = source_of(recording).document()
    assert len(document.calls) == 8
    assert document.decoding is None
    assert document.notes[-1].startswith("the steps of a are shown one by one: several texts were run")


@pytest.mark.parametrize("batch", [1, 2])
def test_keys_that_changed_are_not_joined(batch: int) -> None:
    calls = stepped(batch)
    assert Recording(calls=list(calls)).joined("a").shape == (batch, 2, 6, 6)
    calls[1].key = calls[1].key.clone()
    calls[1].key[0, 0, 3, 0] += 1
    told = r"step 3 read other keys" if batch == 1 else r"goes on with none of the step before"
    with pytest.raises(ValueError, match=told):
        Recording(calls=list(calls)).joined("a")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"score": fv.scores.dot()}, "the score changed from step to step"),
        ({"normalizer": fv.normalizers.sparsemax()}, "the normalizer changed from step to step"),
        ({"bias": torch.ones(1, 2, 1, 1)}, "its bias is no number for each distance"),
        (
            {"mask": masks.prefix(1) | masks.window(0)},
            r"its mask, prefix\(1\) \| window\(0, 0\), shows queries more than",
        ),
    ],
)
def test_steps_that_are_of_another_kind(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Recording(calls=stepped(**changed)).joined("a")


# the mask of joined calls


def test_intervals_show_each_row_its_run_of_keys() -> None:
    g = Geometry(2, 3, 5, 7)
    first = torch.tensor([[0, 1, 2, 7, 3], [0, 0, 5, 1, 6]])
    last = torch.tensor([[7, 4, 2, 7, 5], [1, 7, 6, 3, 7]])
    mask = Intervals(first, last)
    weights = fv.AttentionMap(torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4), mask=mask).dense()
    places = torch.arange(7)
    allowed = (places >= first[..., None]) & (places < last[..., None])
    assert torch.equal(weights > 0, allowed[:, None].expand(2, 3, 5, 7))
    found = spans(mask, g)
    assert found is not None
    assert torch.equal((places >= found[0][..., None]) & (places < found[1][..., None]), allowed[:, None])
    for rows in ((0, 1), (1, 3), (0, 5)):
        for columns in ((0, 7), (5, 7), (0, 1)):
            part = allowed[:, slice(*rows), slice(*columns)]
            known = mask.coverage(g, rows, columns)
            assert known is not masks.Coverage.ALL or bool(part.all())
            assert known is not masks.Coverage.NONE or not bool(part.any())
    with pytest.raises(
        ValueError, match=r"must have the shape \(batch, queries\) = \(2, 4\), or \(1, 4\); got \(2, 5\)"
    ):
        fv.AttentionMap(torch.randn(2, 3, 4, 4), torch.randn(2, 3, 7, 4), mask=mask)
    with pytest.raises(ValueError, match="must have one shape"):
        Intervals(first, last[:1])
