"""watch on vision models: every attention, that of patches and of words that read them, is the model's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import foveate as fv
from hf_models import tensors
from vision_models import KINDS, inputs_of

pytestmark = pytest.mark.usefixtures("one_thread")
EAGER = [name for name in KINDS if name.startswith("blip")]  # they have no other path


def own(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights that an eager model's modules give out beside their outputs."""
    found: dict[str, torch.Tensor] = {}

    def keep(name: str, module: Any, args: Any, output: Any) -> None:
        if isinstance(output, tuple) and len(output) == 2 and getattr(output[1], "ndim", 0) == 4:
            found[name] = output[1]

    hooks = [
        module.register_forward_hook(lambda *call, name=name: keep(name, *call))
        for name, module in model.named_modules()
        if name.endswith(("attention", "self_attn", ".self", "attn"))
    ]
    with torch.no_grad():
        model(**inputs)
    for hook in hooks:
        hook.remove()
    return {name: w for name, w in found.items() if not any(other.startswith(f"{name}.") for other in found)}


@pytest.mark.parametrize("name", list(KINDS))
def test_weights_are_the_models_own(name: str) -> None:
    kind = KINDS[name]
    inputs = inputs_of(kind)
    wanted = own(kind.build("eager"), inputs)
    model = kind.build("eager" if name in EAGER else "sdpa")
    with torch.no_grad():
        plain = model(**inputs)
        with fv.watch(model) as seen:
            watched = model(**inputs)
    assert [torch.equal(a, b) for a, b in zip(tensors(plain), tensors(watched), strict=True)].count(False) == 0
    assert set(seen) == set(wanted)
    assert seen.not_captured == ()
    for layer, want in wanted.items():
        assert float((seen[layer].dense() - want).abs().max()) < 5e-6
        assert float(want.std(-1).max()) > 0.03  # far from flat, or the comparison would say nothing


def test_words_that_read_a_picture_are_the_target() -> None:
    kind = KINDS["blip-match"]
    model = kind.build("eager")
    with torch.no_grad(), fv.watch(model, tokenizer=lambda ids: [f"t{i}" for i in ids]) as seen:
        model(**inputs_of(kind))
    assert seen.tokens is None and seen.lengths is None
    assert [len(row) for row in seen.target_tokens] == seen.target_lengths == [7, 4]
    kinds = [seen.info(layer).kind for layer in seen if "layer.0" in layer or "layers.0" in layer]
    assert kinds == ["encoder", "encoder", "cross"]
    assert seen["text_encoder.encoder.layer.1.crossattention.self"].shape == (2, 6, 7, 10)
    assert str(seen["text_encoder.encoder.layer.1.attention.self"].mask) == "padding"


def test_texts_that_read_texts_stay_where_they_are() -> None:
    class Reads(torch.nn.Module):
        """Takes ids of a source, and of a target that reads it."""

        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(9, 8)
            self.cross_attention = fv.nn.MultiHeadAttention(8, 2)

        def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return self.cross_attention(self.embed(target), self.embed(source))

    model = Reads()
    with torch.no_grad(), fv.watch(model) as seen:
        model(torch.arange(5)[None], torch.arange(3)[None])
    assert seen.lengths == [5] and seen.target_lengths is None


def test_a_caption_that_is_written_is_one_map() -> None:
    kind = KINDS["blip-caption"]
    model, inputs = kind.build("eager"), inputs_of(kind, batch=1)
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    plain = model.generate(inputs["pixel_values"], **options)
    with fv.watch(model) as seen:
        watched = model.generate(inputs["pixel_values"], **options)
    assert torch.equal(plain, watched)
    name = "text_decoder.bert.encoder.layer.1.crossattention.self"
    given = plain[:, :-1]
    wanted = own(model, {"pixel_values": inputs["pixel_values"], "input_ids": given})[name]
    rows = torch.cat([call.dense() for call in seen[name]], dim=2)
    assert float((rows - wanted).abs().max()) < 5e-6


@pytest.mark.parametrize("name", ["blip-vision", "blip-match"])
def test_attention_written_by_hand_is_changed_where_it_is_seen(name: str) -> None:
    kind = KINDS[name]
    model, inputs = kind.build("eager"), inputs_of(kind)
    last = "text_encoder.encoder.layer.1.crossattention.self" if kind.takes else "encoder.layers.1.self_attn"
    module = model.get_submodule(last)
    with torch.no_grad():
        plain = model(**inputs)
        with fv.knockout(model, [(last, head) for head in range(6)]), fv.watch(model) as seen:
            changed = model(**inputs)
    assert last in seen
    assert not torch.equal(tensors(plain)[0], tensors(changed)[0])
    silent = module.register_forward_hook(lambda _, args, out: (_nothing(module, out), out[1]))
    with torch.no_grad():
        wanted = model(**inputs)
    silent.remove()
    torch.testing.assert_close(tensors(changed)[0], tensors(wanted)[0], atol=1e-6, rtol=0)


def _nothing(module: Any, out: Any) -> torch.Tensor:
    """What a module gives if none of its heads puts anything out."""
    zero = torch.zeros_like(out[0])
    return module.projection(zero) if hasattr(module, "projection") else zero


def test_a_changed_forward_is_not_taken_for_what_it_was() -> None:
    from foveate.watch import CaptureWarning

    kind = KINDS["blip-vision"]
    model = kind.build("eager")
    with torch.no_grad():
        model.encoder.layers[1].self_attn.scale *= 3
        with fv.watch(model) as seen:
            model(**inputs_of(kind))
    assert len(seen) == 2  # the scale is read from the module
    forward = type(model.encoder.layers[1].self_attn).forward

    def sharper(self: Any, hidden_states: torch.Tensor, **options: Any) -> Any:
        out, weights = forward(self, hidden_states, **options)
        return out, weights.square() / weights.square().sum(-1, keepdim=True)

    model.encoder.layers[1].self_attn.forward = sharper.__get__(model.encoder.layers[1].self_attn)
    with (
        pytest.warns(CaptureWarning, match=r"layers\.1\.self_attn: .*do not reproduce"),
        torch.no_grad(),
        fv.watch(model) as seen,
    ):
        model(**inputs_of(kind))
    assert list(seen) == ["encoder.layers.0.self_attn"]


def test_windows_are_seen_and_are_no_picture() -> None:
    from foveate.views.source import Source
    from hf_models import transformers

    config = transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=12, depths=[1, 1], num_heads=[2, 2], window_size=4
    )
    model = transformers.SwinModel(config).eval()
    with torch.no_grad(), fv.watch(model) as seen:
        model(torch.randn(1, 3, 32, 32))
    assert [seen[name].shape[0] for name in seen] == [4, 1]  # windows of 4 x 4 in the place of sequences
    with pytest.raises(ValueError, match=r"same batch size; got \[1, 4\]"):
        Source(seen)


def test_two_towers_are_not_taken_for_one_text() -> None:
    from foveate.views.source import Source

    kind = KINDS["clip"]
    model, inputs = kind.build(), inputs_of(kind, batch=1)
    with torch.no_grad(), fv.watch(model) as seen:
        model(**inputs)
    with pytest.raises(ValueError, match=r"is of 10 tokens, text_model.* of 7: they are of different texts or picture"):
        Source(seen)
    with torch.no_grad(), fv.watch(model, layers="vision_model") as seen:
        model(**inputs)
    assert len(Source(seen).document().sequences[0].source.text) == 10
