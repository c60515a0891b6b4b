"""Predictions of transformers' models: a class of the text, the next word, or the word in the place of a mask.

Axes: B sequences, N tokens, C classes, or words of the vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..heads.subject import most_positions
from .errors import FaithfulError
from .subject import MOST, Subject, asked, chosen

__all__ = ["of_hub"]


def of_hub(model: nn.Module, text: Any, target: Any, tokenizer: Any, replacement: Any) -> Subject:
    """The prediction of a model with a head on a text.

    Raises:
        FaithfulError: the model has no head that a report knows, or text and target do not fit it.
    """
    config: Any = model.config
    ids_1N, given = _encoded(model, text, tokenizer)
    with torch.no_grad():
        place = _place(model, ids_1N, _logits(model, ids_1N, given), tokenizer)

    def ask(given_BN: Tensor) -> Tensor:
        extra = {name: value.expand(len(given_BN), -1) for name, value in given.items()}
        logits = _logits(model, given_BN, extra)
        return logits if place is None else logits[:, place]

    with torch.no_grad():
        logits_C = asked(ask, ids_1N)[0]
    if place is None:
        labels = [str(config.id2label[number]) for number in range(len(logits_C))]
        number = chosen(_class(target, labels), logits_C, labels)
        name = labels[number]
    else:
        number = _word(target, logits_C, tokenizer, " " if place and place + 1 == ids_1N.shape[1] else "")
        name = tokenizer.decode([number]).strip() or repr(tokenizer.decode([number]))
    never = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    ids = ids_1N[0].tolist()
    special = tuple(one in never for one in ids)
    alone = place is None and getattr(config, "pad_token_id", None) is None  # then it takes no batch
    stand_in = _hidden(tokenizer, replacement, getattr(config, "vocab_size", None) or len(tokenizer))
    hidden = None if stand_in is None else torch.tensor(stand_in, device=ids_1N.device)
    stands = None if stand_in is None else tokenizer.convert_ids_to_tokens(stand_in)
    names = tuple(tokenizer.convert_ids_to_tokens(ids))
    return Subject(model, ids_1N, ask, names, special, number, name, hidden, stands, 1 if alone else MOST)


def _encoded(model: nn.Module, text: Any, tokenizer: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Ids (1, N), and what else the model is given."""
    config: Any = model.config
    if getattr(config, "is_encoder_decoder", False):
        raise FaithfulError("an encoder-decoder reads two texts; a report is about models that read one")
    if tokenizer is None:
        raise FaithfulError("a transformers model needs its tokenizer=")
    if not isinstance(text, str):
        raise FaithfulError(f"text must be a text; got {type(text).__name__}")
    device = next(model.parameters()).device
    given = {name: value.to(device) for name, value in tokenizer(text, return_tensors="pt").items()}
    ids_1N = given.pop("input_ids")
    if not text.strip() or not ids_1N.shape[1]:
        raise FaithfulError("the text is empty")
    most = most_positions(config)
    if most is not None and ids_1N.shape[1] > most:
        raise FaithfulError(f"the text has {ids_1N.shape[1]} tokens; the model takes {most}")
    return ids_1N, {name: value for name, value in given.items() if name in ("attention_mask", "token_type_ids")}


def _logits(model: nn.Module, ids_BN: Tensor, given: dict[str, Tensor]) -> Tensor:
    logits = getattr(model(input_ids=ids_BN, **given), "logits", None)
    if not isinstance(logits, Tensor):
        raise FaithfulError(
            f"{type(model).__name__} has no head that predicts; load it with one: AutoModelForSequenceClassification, "
            "AutoModelForCausalLM or AutoModelForMaskedLM"
        )
    return logits


def _place(model: nn.Module, ids_1N: Tensor, logits: Tensor, tokenizer: Any) -> int | None:
    """The position whose logits are the prediction; None if they are of the whole text."""
    config: Any = model.config
    kind = type(model).__name__
    if logits.ndim == 2:
        if getattr(config, "problem_type", None) == "multi_label_classification":
            raise FaithfulError(f"{kind} gives several labels at once; a report is about one choice among classes")
        return None
    if logits.ndim != 3 or logits.shape[-1] != getattr(config, "vocab_size", None):
        raise FaithfulError(
            f"{kind} gives logits {tuple(logits.shape)}; a report is about one class of the text, the next word, or "
            "the word in the place of one mask"
        )
    mask = getattr(tokenizer, "mask_token_id", None)
    places = [] if mask is None else (ids_1N[0] == mask).nonzero()[:, 0].tolist()
    if len(places) > 1:
        raise FaithfulError(f"the text has {len(places)} masks; a report is about one")
    if places:
        return int(places[0])
    if "MaskedLM" in kind:
        raise FaithfulError(f"{kind} predicts the word in the place of {tokenizer.mask_token}; the text has none")
    return ids_1N.shape[1] - 1


def _class(target: Any, labels: list[str]) -> Any:
    """A target that is written as a number is one, unless a class is called so."""
    return int(target) if isinstance(target, str) and target.isdecimal() and target not in labels else target


def _word(target: Any, logits_C: Tensor, tokenizer: Any, before: str) -> int:
    """The id of a word, as it is written after `before` if it is one token so."""
    if not isinstance(target, str):
        return chosen(target, logits_C, None)
    spellings = dict.fromkeys((before + target.strip(), target, target.strip()))
    found = [tokenizer(one, add_special_tokens=False)["input_ids"] for one in spellings if one.strip()]
    for ids in found:
        if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
            return int(ids[0])
    if not found:
        raise FaithfulError("the target is empty")
    pieces = tokenizer.convert_ids_to_tokens(found[-1])
    if len(pieces) == 1:
        raise FaithfulError(f"the target {target!r} is not in the vocabulary of the model")
    raise FaithfulError(f"the target {target!r} is {len(pieces)} tokens, {' '.join(pieces)}; a report is about one")


def _hidden(tokenizer: Any, replacement: Any, vocabulary: int) -> int | None:
    """The id that stands for a removed token: the one given, the mask, or a token that is for unknown words only."""
    if replacement is not None:
        number = tokenizer.convert_tokens_to_ids(replacement) if isinstance(replacement, str) else replacement
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < vocabulary:
            raise FaithfulError(f"replacement must be a token of the model's vocabulary; got {replacement!r}")
        return number
    mask, unknown = getattr(tokenizer, "mask_token_id", None), tokenizer.unk_token_id
    if mask is not None and mask < vocabulary:  # transformers gives tokenizers masks that their models do not know
        return int(mask)
    return None if unknown in (None, tokenizer.bos_token_id, tokenizer.eos_token_id) else int(unknown)
