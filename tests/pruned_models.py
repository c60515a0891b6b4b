"""Tiny random models of more families than `hf_models` has, and heads to take out of them."""

from __future__ import annotations

from typing import Any

import torch

from foveate.heads.pruning.sites import Site, find
from hf_models import FAMILIES, SEQ2SEQ, SMALL, T5, Family

__all__ = ["MORE", "knocked_out", "some_heads"]

GROUPED = {**SMALL, "num_key_value_heads": 2}
NO_TEXT = {k: v for k, v in SMALL.items() if k not in ("vocab_size", "max_position_embeddings")}
DISTIL = {"dim": 24, "n_layers": 2, "n_heads": 6, "hidden_dim": 20, "vocab_size": 97, "max_position_embeddings": 64}
OPT = {"word_embed_proj_dim": 24, "ffn_dim": 20, "pad_token_id": 1}
READER = {"is_decoder": True, "add_cross_attention": True}

MORE = {
    **FAMILIES,
    "roberta": Family("RobertaModel", "RobertaConfig", SMALL),
    "electra": Family("ElectraModel", "ElectraConfig", {**SMALL, "embedding_size": 24}),
    "distilbert": Family("DistilBertModel", "DistilBertConfig", DISTIL),
    "bert-decoder": Family("BertLMHeadModel", "BertConfig", {**SMALL, "is_decoder": True}),
    "opt": Family("OPTForCausalLM", "OPTConfig", {**SMALL, **OPT}),
    "mistral": Family("MistralForCausalLM", "MistralConfig", {**GROUPED, "head_dim": 4}),
    "qwen2": Family("Qwen2ForCausalLM", "Qwen2Config", GROUPED),
    "qwen3": Family("Qwen3ForCausalLM", "Qwen3Config", {**GROUPED, "head_dim": 4}),
    "multi-query": Family("LlamaForCausalLM", "LlamaConfig", {**SMALL, "num_key_value_heads": 1}),
    "gpt-neox": Family("GPTNeoXForCausalLM", "GPTNeoXConfig", SMALL),
    "phi": Family("PhiForCausalLM", "PhiConfig", SMALL),
    "marian": Family(
        "MarianMTModel", "MarianConfig", {**SEQ2SEQ, "pad_token_id": 0, "decoder_start_token_id": 0}, "pair"
    ),
    "mt5": Family("MT5ForConditionalGeneration", "MT5Config", {**T5, "decoder_start_token_id": 0}, "pair"),
    "umt5": Family("UMT5ForConditionalGeneration", "UMT5Config", {**T5, "decoder_start_token_id": 0}, "pair"),
    "clip": Family("CLIPVisionModel", "CLIPVisionConfig", {**NO_TEXT, "image_size": 24, "patch_size": 8}, "image"),
    "deit": Family("DeiTModel", "DeiTConfig", {**NO_TEXT, "image_size": 24, "patch_size": 8}, "image"),
}


def some_heads(model: torch.nn.Module, *, first_empty: bool = True) -> dict[str, tuple[int, ...]]:
    """All heads of the first module (or the first unit), the first unit of the second, the last of the third, ..."""
    chosen = {}
    for number, (path, site) in enumerate(find(model).items()):
        units = site.units if number == 0 and first_empty else site.units[:1] if number % 2 else site.units[-1:]
        chosen[path] = tuple(head for unit in units for head in unit)
    return chosen


def knocked_out(model: torch.nn.Module, heads: dict[str, tuple[int, ...]]) -> torch.nn.Module:
    """The same model, in place: what these heads read is set to zero before it is projected."""

    def silence(site: Site, some: tuple[int, ...]) -> Any:
        def hook(module: torch.nn.Module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            x = given[0].clone()
            for head in some:
                x[..., head * site.width : (head + 1) * site.width] = 0
            return (x,)

        return hook

    for path, site in find(model).items():
        model.get_submodule(site.output).register_forward_pre_hook(silence(site, heads.get(path, ())))
    return model
