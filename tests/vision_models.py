"""Miniature vision models with random weights, of every family that pictures are drawn for, and what they take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from hf_models import transformers

VISION = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "intermediate_size": 20,
    "image_size": 24,
    "patch_size": 8,
}
TEXT = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "intermediate_size": 20,
    "vocab_size": 97,
    "max_position_embeddings": 64,
}
BLIP_TEXT = {
    **TEXT,
    "encoder_hidden_size": 24,
    "bos_token_id": 2,
    "sep_token_id": 3,
    "pad_token_id": 0,
    "eos_token_id": 3,
}


@dataclass(frozen=True)
class Kind:
    """A model class, its config, the tokens before the first patch, and what it takes beside a picture."""

    model: str
    config: str
    options: dict[str, Any] = field(default_factory=lambda: dict(VISION))
    first: int = 1
    takes: tuple[str, ...] = ()

    def build(self, implementation: str = "sdpa", seed: int = 1, **options: Any) -> Any:
        """The model, its projections scaled up: as initialised, attention is so flat that nearly any mistake passes."""
        torch.manual_seed(seed)
        config = getattr(transformers, self.config)(**{**self.options, **options})
        model = getattr(transformers, self.model)._from_config(config, attn_implementation=implementation).eval()
        for name, p in model.named_parameters():
            if p.ndim > 2 and float(p.data.std()) < 1e-3:  # BLIP's begin at 1e-10
                p.data.normal_(0, 0.25)
            if p.ndim == 2 and "embed" not in name:
                p.data.normal_(0, 0.25)
        return model


def _two(text: dict[str, Any]) -> dict[str, Any]:
    return {"vision_config": VISION, "text_config": text, "projection_dim": 8}


BLIP = {**_two(BLIP_TEXT), "image_text_hidden_size": 8}
KINDS = {
    "vit": Kind("ViTModel", "ViTConfig"),
    "vit-classifier": Kind("ViTForImageClassification", "ViTConfig"),
    "deit": Kind("DeiTModel", "DeiTConfig", first=2),
    "dinov2": Kind("Dinov2Model", "Dinov2Config"),
    "dinov2-registers": Kind(
        "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", {**VISION, "num_register_tokens": 3}, 4
    ),
    "clip-vision": Kind("CLIPVisionModel", "CLIPVisionConfig"),
    "clip": Kind("CLIPModel", "CLIPConfig", _two(TEXT), takes=("input_ids",)),
    "blip-vision": Kind("BlipVisionModel", "BlipVisionConfig"),
    "blip-caption": Kind("BlipForConditionalGeneration", "BlipConfig", BLIP, takes=("input_ids",)),
    "blip-answer": Kind("BlipForQuestionAnswering", "BlipConfig", BLIP, takes=("input_ids", "decoder_input_ids")),
    "blip-match": Kind("BlipForImageTextRetrieval", "BlipConfig", BLIP, takes=("input_ids",)),
}


def inputs_of(kind: Kind, height: int = 24, width: int = 24, batch: int = 2) -> dict[str, torch.Tensor]:
    """Noise, and tokens: 7 and 4 of them, or 7 alone."""
    draw = torch.Generator().manual_seed(2)
    found = {"pixel_values": torch.randn(batch, 3, height, width, generator=draw)}
    for name in kind.takes:
        length = 5 if name.startswith("decoder") else 7
        found[name] = torch.randint(4, 97, (batch, length), generator=draw)
    if batch > 1 and "input_ids" in found:
        found["attention_mask"] = torch.ones(batch, 7, dtype=torch.long)
        found["attention_mask"][1, 4:] = 0
    return found
