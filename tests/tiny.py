"""Tiny random Hugging Face models in folders, with a word tokenizer: real files, no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEXT = "the a cat dog mat sat on because it was tired dirty . , one two three four five hello"
WORDS = TEXT.split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[BOS]", "[EOS]"]


def save_tokenizer(folder: Path, *, wrap: bool = True, longest: int = 64) -> int:
    """A tokenizer of whole words; `wrap` puts [CLS] and [SEP] around a text. Returns the size of its vocabulary."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    inner = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = Whitespace()
    if wrap:
        ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
        inner.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names |= {"bos_token": "[BOS]", "eos_token": "[EOS]"}
    PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=longest, **names).save_pretrained(folder)
    return len(vocabulary)


def _save(model: Any, folder: Path) -> Path:
    model.eval().save_pretrained(folder)
    return folder


def save_bert(folder: Path) -> Path:
    """2 layers x 3 heads, at most 32 positions."""
    import torch
    from transformers import BertConfig, BertModel

    size = save_tokenizer(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=size,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    return _save(BertModel(config), folder)


def save_gpt2(folder: Path) -> Path:
    """2 layers x 2 heads, causal."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    size = save_tokenizer(folder, wrap=False)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=size, n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=4, eos_token_id=5)
    return _save(GPT2LMHeadModel(config), folder)


def save_t5(folder: Path) -> Path:
    """2 + 2 layers x 2 heads, an encoder-decoder with a position bias."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    size = save_tokenizer(folder, wrap=False)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=size,
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=5,
    )
    return _save(T5ForConditionalGeneration(config), folder)


def save_all(folder: Path) -> dict[str, Path]:
    """One of each kind, by name."""
    return {"bert": save_bert(folder / "bert"), "gpt2": save_gpt2(folder / "gpt2"), "t5": save_t5(folder / "t5")}
