"""Tiny random Hugging Face models of every family that watch is checked on, and inputs for them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()

SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "intermediate_size": 20,
    "vocab_size": 97,
    "max_position_embeddings": 64,
}
SEQ2SEQ = {
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 6,
    "encoder_ffn_dim": 20,
    "decoder_ffn_dim": 20,
    "vocab_size": 97,
}
T5 = {"d_model": 24, "d_kv": 4, "d_ff": 20, "num_layers": 2, "num_heads": 6, "vocab_size": 97}
GEMMA = {"num_key_value_heads": 2, "head_dim": 4, "sliding_window": 5, "query_pre_attn_scalar": 4}
OSS = {"num_key_value_heads": 3, "head_dim": 4, "sliding_window": 5, "num_local_experts": 2, "num_experts_per_tok": 1}
WHISPER = {
    **SEQ2SEQ,
    "num_mel_bins": 8,
    "max_source_positions": 17,
    "max_target_positions": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


@dataclass(frozen=True)
class Family:
    """A model class, its config, which inputs it takes, and which attention implementations it has."""

    model: str
    config: str
    options: dict[str, Any]
    inputs: str = "text"
    implementations: tuple[str, ...] = ("eager", "sdpa")

    def build(self, implementation: str, seed: int = 1) -> torch.nn.Module:
        """The model, its projections scaled up: as initialised, attention is so flat that nearly any mistake passes."""
        torch.manual_seed(seed)
        config = getattr(transformers, self.config)(**self.options)
        model = getattr(transformers, self.model)._from_config(config, attn_implementation=implementation).eval()
        for name, p in model.named_parameters():
            if p.ndim == 2 and not any(part in name for part in ("embed", "wte", "wpe", "shared", "lm_head")):
                p.data.mul_(0.25 / max(float(p.data.std()), 1e-3))
        return model


FAMILIES = {
    "bert": Family("BertModel", "BertConfig", SMALL),
    "gpt2": Family(
        "GPT2LMHeadModel", "GPT2Config", {"n_embd": 24, "n_layer": 2, "n_head": 6, "vocab_size": 97, "n_positions": 64}
    ),
    "llama": Family("LlamaForCausalLM", "LlamaConfig", {**SMALL, "num_key_value_heads": 2}),
    "gemma2": Family(
        "Gemma2ForCausalLM",
        "Gemma2Config",
        {**SMALL, **GEMMA, "attn_logit_softcapping": 2.0},
        implementations=("eager",),
    ),
    "gpt-oss": Family("GptOssForCausalLM", "GptOssConfig", {**SMALL, **OSS}, implementations=("eager",)),
    "t5": Family("T5ForConditionalGeneration", "T5Config", {**T5, "decoder_start_token_id": 0}, "pair"),
    "bart": Family("BartForConditionalGeneration", "BartConfig", {**SEQ2SEQ, "max_position_embeddings": 64}, "pair"),
    "vit": Family(
        "ViTModel",
        "ViTConfig",
        {k: v for k, v in SMALL.items() if k not in ("vocab_size", "max_position_embeddings")}
        | {"image_size": 24, "patch_size": 8},
        "image",
    ),
    "whisper": Family("WhisperForConditionalGeneration", "WhisperConfig", WHISPER, "audio"),
}
LENGTHS = [11, 7]


def make_inputs(kind: str) -> dict[str, torch.Tensor]:
    """A right-padded batch of two, lengths 11 and 7; targets are 5 long."""
    torch.manual_seed(2)
    if kind == "image":
        return {"pixel_values": torch.randn(2, 3, 24, 24)}
    targets = torch.randint(3, 97, (2, 5))
    if kind == "audio":
        return {"input_features": torch.randn(2, 8, 34), "decoder_input_ids": targets}
    mask = (torch.arange(11)[None] < torch.tensor(LENGTHS)[:, None]).long()
    text = {"input_ids": torch.randint(3, 97, (2, 11)) * mask, "attention_mask": mask}
    return text if kind == "text" else {**text, "decoder_input_ids": targets}


def eager_weights(family: Family, inputs: dict[str, torch.Tensor]) -> dict[str, list[torch.Tensor]]:
    """The model's own weights, by kind of attention, from its eager path."""
    with torch.no_grad():
        out = family.build("eager")(**inputs, output_attentions=True)
    if family.inputs in ("pair", "audio"):
        names = {"encoder": "encoder_attentions", "decoder": "decoder_attentions", "cross": "cross_attentions"}
        return {kind: list(getattr(out, name)) for kind, name in names.items()}
    return {"decoder" if "LM" in family.model else "encoder": list(out.attentions)}


def tensors(output: Any) -> list[torch.Tensor]:
    """Every tensor of a model's output."""
    return [value for value in output.values() if isinstance(value, torch.Tensor)]


def real_rows(inputs: dict[str, torch.Tensor], kind: str) -> list[int] | None:
    """Rows of padding are compared nowhere: eager gives mean(v) where nothing is visible, foveate 0."""
    return LENGTHS if "attention_mask" in inputs and (kind == "encoder" or "decoder_input_ids" not in inputs) else None


def worst(seen: Any, wanted: dict[str, list[torch.Tensor]], inputs: dict[str, torch.Tensor]) -> float:
    """The largest difference between recorded weights and a model's own."""
    found = 0.0
    for kind, layers in wanted.items():
        names = [name for name in seen if seen.info(name).kind == kind]
        assert len(names) == len(layers), (kind, names)
        for name, want in zip(names, layers, strict=True):
            got = seen[name]
            assert tuple(got.shape) == tuple(want.shape)
            rows = real_rows(inputs, kind)
            for b in range(len(want)):
                n = want.shape[2] if rows is None else rows[b]
                found = max(found, float((got[b, :, :n] - want[b, :, :n]).abs().max()))
    return found


Build = Callable[[str], torch.nn.Module]
