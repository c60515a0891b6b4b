"""The model that is surveyed: how texts become numbers for it, and how it is run on a batch of them."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .batches import Batch, Encoded, Side

__all__ = ["Subject", "Text", "most_positions", "subject_of"]

Text = Any  # a string, a list of token ids, or a pair of either: what a decoder of its own reads comes second
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_target_positions", "max_sequence_length")
_PADDED_POSITIONS = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "longformer", "mpnet", "data2vec-text"}


@dataclass(eq=False)
class Subject:
    """A model and what it takes. `runs` is the part of `model` that is called: all but a language model's output layer;
    `whole` is the model with it.

    `special` are ids that are no part of a text; `most` is how many tokens it takes, None for any number.
    """

    model: nn.Module
    runs: nn.Module
    whole: nn.Module
    name: str
    tokenizer: Any
    special: frozenset[int]
    pad: int
    start: int
    most: int | None
    takes: frozenset[str] = field(init=False)
    cut: int = field(init=False, default=0)  # texts that were cut off at `most`
    _known: dict[str, Any] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.takes = frozenset(inspect.signature(self.runs.forward).parameters)

    @property
    def two_sided(self) -> bool:
        return bool(getattr(getattr(self.model, "config", None), "is_encoder_decoder", False))

    @property
    def mixed(self) -> bool:
        """Whether texts of different lengths may share a batch: only if the model can be told where they end."""
        return "attention_mask" in self.takes

    def encode(self, texts: Sequence[tuple[int, Text]]) -> list[Encoded]:
        """Numbered texts as ids.

        Raises:
            ValueError: something is no text, has no token, or has no target where the model reads two texts.
        """
        sides = [_sides(number, text, self.two_sided) for number, text in texts]
        sources = self._ids([source for source, _ in sides], target=False)
        targets = self._ids([target for _, target in sides], target=True) if self.two_sided else [None] * len(sides)
        for (number, _), ids in zip(texts, sources, strict=True):
            if not ids:
                raise ValueError(f"text {number} has no token")
        return [Encoded(number, s, t) for (number, _), s, t in zip(texts, sources, targets, strict=True)]

    def _ids(self, texts: list[Any], *, target: bool) -> list[tuple[int, ...]]:
        strings = [text for text in texts if isinstance(text, str)]
        found = iter(self._tokenized(strings, target) if strings else ())
        made = []
        for text in texts:
            ids = list(next(found) if isinstance(text, str) else text)
            if target:  # what is read to write it: the start, and all but the last
                ids = [self.start, *ids][:-1] if ids else [self.start]
            self.cut += self.most is not None and len(ids) > self.most
            made.append(tuple(ids[: self.most]))
        return made

    def _tokenized(self, texts: list[str], target: bool) -> Iterable[Sequence[int]]:
        if self.tokenizer is None:
            raise ValueError("texts that are strings need a tokenizer: survey(model, texts, tokenizer=...)")
        how = {"text_target": texts} if target else {"text": texts}
        found: list[list[int]] = self.tokenizer(**how)["input_ids"]
        return found

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The ids as people read them."""
        convert = getattr(self.tokenizer, "convert_ids_to_tokens", None)
        return [str(one) for one in ids] if convert is None else [str(token) for token in convert(list(ids))]

    @torch.no_grad()
    def run(self, batch: Batch) -> None:
        """One pass over a batch."""
        device = next((p.device for p in self.runs.parameters()), torch.device("cpu"))
        inputs = _inputs(batch.source, "", device)
        if batch.target is not None:
            inputs |= _inputs(batch.target, "decoder_", device)
        if "input_ids" in self.takes:
            quick = {"use_cache": False} if "use_cache" in self.takes else {}
            self.runs(**{name: t for name, t in inputs.items() if name in self.takes}, **quick)
        else:
            self.runs(*(t for name, t in inputs.items() if name.endswith("ids")))

    def once(self, name: str, find: Callable[[], Any]) -> Any:
        """What `find` gives, found once for this model."""
        if name not in self._known:
            self._known[name] = find()
        return self._known[name]

    def digest(self) -> str:
        """Changes with the model: names, shapes and some numbers of all its parameters."""
        found = hashlib.sha256(self.name.encode())
        for name, p in self.model.state_dict().items():
            flat = p.detach().flatten()
            some = flat[:: max(1, len(flat) // 256)][:256].double().cpu()
            found.update(f"{name} {tuple(p.shape)} {p.dtype}".encode() + some.numpy().tobytes())
        return found.hexdigest()


def subject_of(
    model: nn.Module,
    tokenizer: Any = None,
    *,
    name: str = "",
    most: int | None = None,
    special: Iterable[int] = (),
    whole: nn.Module | None = None,
) -> Subject:
    """What is to be known of a model.

    Args:
        most: tokens of a text that are read, at most; never more than it has positions.
        special: ids that are no part of a text, beside those that the tokenizer names.
        whole: the model with its output layer, where `model` is a part of it.
    """
    config = getattr(model, "config", None)
    base = getattr(model, "base_model", None)
    runs = base if isinstance(base, nn.Module) else model
    ids = [getattr(thing, "pad_token_id", None) for thing in (tokenizer, config)]
    limits = [n for n in (most, most_positions(config)) if n is not None]
    start = getattr(getattr(model, "generation_config", None), "decoder_start_token_id", None)
    start = getattr(config, "decoder_start_token_id", None) if start is None else start
    return Subject(
        model,
        runs,
        model if whole is None else whole,
        name or type(model).__name__,
        tokenizer,
        frozenset([*special, *(getattr(tokenizer, "all_special_ids", None) or ())]),
        next((one for one in ids if isinstance(one, int)), 0),
        0 if start is None else start,
        min(limits) if limits else None,
    )


def most_positions(config: Any) -> int | None:
    """The longest text in tokens that the positions of a transformers model allow; None where it does not say."""
    if not hasattr(config, "get_text_config"):
        return None
    text_config = config.get_text_config()
    found = [getattr(text_config, name, None) for name in _POSITIONS]
    limits = [n for n in found if isinstance(n, int) and n > 0]
    if not limits:
        return None
    return max(1, min(limits) - 2 * (text_config.model_type in _PADDED_POSITIONS))


def _sides(number: int, text: Text, two_sided: bool) -> tuple[Any, Any]:
    pair = isinstance(text, tuple) and len(text) == 2 and not isinstance(text[0], int)
    source, target = text if pair else (text, None)
    for side in (source,) if target is None else (source, target):
        if not isinstance(side, str) and not (
            isinstance(side, list | tuple) and all(isinstance(one, int) for one in side)
        ):
            raise ValueError(
                f"a text is a string, a list of token ids, or a pair of them; text {number} is {type(side).__name__}"
            )
    if two_sided and target is None:
        raise ValueError(
            f"an encoder-decoder reads two texts, (source, target), or --target; text {number} has no target"
        )
    return source, target


def _inputs(side: Side, prefix: str, device: torch.device) -> dict[str, Tensor]:
    return {f"{prefix}input_ids": side.ids.to(device), f"{prefix}attention_mask": side.real.long().to(device)}
