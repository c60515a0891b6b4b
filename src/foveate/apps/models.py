"""Hugging Face models by path or hub name: loaded without pickle or remote code, run on a text under `watch`.

An encoder-decoder without a target text first writes one greedily; then one pass over both texts is recorded, so that
every attention module has one call.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import socket
import threading
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from foveate.apps.errors import UserError
from foveate.apps.workspace import Kind, Report, in_words
from foveate.extras import need
from foveate.recording import Recording
from foveate.views.source import Source
from foveate.views.words import Tokens, from_encoding, from_pieces
from foveate.watch import CaptureError, CaptureWarning, watch

EXAMPLES = [
    "The cat sat on the mat because it was tired.",
    "The bank by the river was steep.",
    "The keys that the old man left on the table were hers.",
]
MOST_TOKENS = 16_384  # on a page that runs the model
NEW_TOKENS = 64
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_target_positions", "max_sequence_length")
_PADDED_POSITIONS = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "longformer", "mpnet", "data2vec-text"}


@dataclass(frozen=True)
class Prepared:
    """Inputs of a model, (1, length) each, and the tokens they stand for."""

    inputs: dict[str, torch.Tensor]
    tokens: Tokens
    target_tokens: Tokens | None


class HubModel:
    """A text model of the Hugging Face kind. Construction reads configuration and tokenizer; `load` the weights.

    Raises:
        UserError: there is no such model, it is no text model, or its weights are not in safetensors files.
    """

    def __init__(self, where: str, most_tokens: int = MOST_TOKENS) -> None:
        self.where = where
        self.name = _name(Path(where)) if Path(where).is_dir() else where
        self.examples = list(EXAMPLES)
        transformers = need("transformers", "hf")
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        self._local = Path(where).is_dir() or not _hub_has_an_address()
        with _explained(where, "model"):
            self.config = self._read(transformers.AutoConfig)
        with _explained(where, "tokenizer"):
            self.tokenizer = self._read(transformers.AutoTokenizer)
        self.kind: Kind = _kind(transformers, self.config)
        self.max_tokens = min(most_tokens, _limit(self.config, self.tokenizer))
        self._model: Any = None
        self._lock = threading.Lock()

    def _read(self, kind: Any, **options: Any) -> Any:
        return kind.from_pretrained(self.where, trust_remote_code=False, local_files_only=self._local, **options)

    def load(self, report: Report) -> Any:
        """The model in evaluation mode; read once."""
        with self._lock:
            if self._model is None:
                report(0.05, f"Loading the weights of {self.name}")
                transformers = need("transformers", "hf")
                two_sided = self.kind == "encoder-decoder"
                loader = transformers.AutoModelForSeq2SeqLM if two_sided else transformers.AutoModel
                with _explained(self.where, "weights"):
                    self._model = self._read(loader, use_safetensors=True)
                self._model.eval()
            return self._model

    def run(self, text: str, target: str | None, report: Report) -> Source:
        """Record the model on a text and put the answer together."""
        seen, tokens, target_tokens = self.record(text, target, report)
        report(0.95, "Reading the attention")
        targets = [target_tokens] if target_tokens else None
        return Source(seen, [tokens], targets, title=title_of(text), model=self.name)

    def record(
        self, text: str, target: str | None, report: Report, **options: Any
    ) -> tuple[Recording, Tokens, Tokens | None]:
        """The recording, and the tokens of the text and of the target. `options` go to `watch`.

        Raises:
            UserError: the text is empty, or has more tokens than the model takes.
        """
        given = self.prepared(text, target, report)
        report(0.7, f"Running {self.name} on {len(given.tokens):,} tokens")
        return self.watched(given.inputs, **options), given.tokens, given.target_tokens

    def prepared(self, text: str, target: str | None, report: Report) -> Prepared:
        """What one pass over a text takes; an encoder-decoder without a target has written one.

        Raises:
            UserError: as `record`.
        """
        if not text.strip():
            raise UserError("The text is empty.")
        inputs = self.tokenizer(text, return_tensors="pt")
        self._check_length("text", inputs["input_ids"].shape[1])
        tokens = self._tokens(text, inputs)
        model = self.load(report)
        taken = inspect.signature(model.forward).parameters
        accepted = {name: value for name, value in inputs.items() if name in taken}
        target_tokens = None
        with torch.no_grad():
            if self.kind == "encoder-decoder":
                report(0.4, "Writing the target text" if target is None else "Reading the target text")
                ids = self._target_ids(model, accepted, target)
                accepted["decoder_input_ids"] = ids
                target_tokens = self._pieces(ids[0].tolist())
        return Prepared(accepted, tokens, target_tokens)

    def watched(
        self, inputs: dict[str, torch.Tensor], *, until: type[Exception] | None = None, **options: Any
    ) -> Recording:
        """One pass under `watch`, which takes the options; raising `until` ends it early, as if it were done.

        Raises:
            UserError: nothing was captured.
        """
        model = self.load(lambda progress, message: None)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", CaptureWarning)  # what was not captured is said on the page
            return _watched(model, self.name, inputs, until, {"tokenizer": self.tokenizer, **options})

    def _check_length(self, what: str, count: int) -> None:
        if count > self.max_tokens:
            raise UserError(
                f"The {what} has {count:,} tokens; {self.name} takes at most {self.max_tokens:,}. Shorten the {what}."
            )

    def _tokens(self, text: str, inputs: Any) -> Tokens:
        encodings = getattr(inputs, "encodings", None)
        return from_encoding(text, encodings[0]) if encodings else self._pieces(inputs["input_ids"][0].tolist())

    def _pieces(self, ids: list[int]) -> Tokens:
        special = set(self.tokenizer.all_special_ids)
        return from_pieces(self.tokenizer.convert_ids_to_tokens(ids), [i in special for i in ids])

    def _target_ids(self, model: Any, inputs: dict[str, Any], target: str | None) -> torch.Tensor:
        """What the decoder reads, (1, T): the start token and the target, without the end token."""
        if target is None:
            most = min(NEW_TOKENS, self.max_tokens - 1)
            made = model.generate(**inputs, max_new_tokens=most, num_beams=1, do_sample=False)
            ids = made[0].tolist()
        else:
            start = model.generation_config.decoder_start_token_id
            start = self.config.decoder_start_token_id if start is None else start
            if start is None:
                raise UserError(f"{self.name} does not say with which token its target texts start.")
            ids = [start, *self.tokenizer(text_target=target)["input_ids"]]
        if len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]
        self._check_length("target", len(ids))
        return torch.tensor([ids])


def _watched(
    model: Any, name: str, inputs: dict[str, Any], until: type[Exception] | None, options: dict[str, Any]
) -> Recording:
    try:
        with watch(model, **{"keep": "qkv", **options}) as seen:
            seen.model = name
            with contextlib.suppress(*(() if until is None else (until,))):
                model(**inputs)
    except CaptureError as error:
        raise UserError(str(error)) from None
    return seen


def title_of(text: str) -> str:
    """The beginning of a text, for lists and tabs."""
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"


def _name(folder: Path) -> str:
    """A folder's name, with its parent's where it says nothing by itself."""
    folder = folder.resolve()
    plain = folder.name in ("model", "best", "final", "output", "weights") or folder.name.startswith("checkpoint")
    return f"{folder.parent.name}/{folder.name}" if plain else folder.name


def _kind(transformers: Any, config: Any) -> Kind:
    if getattr(config, "is_encoder_decoder", False):
        return "encoder-decoder"
    architectures = getattr(config, "architectures", None) or []
    if getattr(config, "is_decoder", False) or any(a.endswith(("CausalLM", "LMHeadModel")) for a in architectures):
        return "decoder"
    causal = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    masked = type(config) in transformers.MODEL_FOR_MASKED_LM_MAPPING
    return "decoder" if causal and not masked else "encoder"


def _limit(config: Any, tokenizer: Any) -> int:
    """The longest text in tokens: positions of the model, or what the tokenizer says where it tells none."""
    text_config = config.get_text_config()
    found = [getattr(text_config, name, None) for name in _POSITIONS]
    limits = [n for n in found if isinstance(n, int) and n > 0]
    if text_config.model_type in _PADDED_POSITIONS:
        limits = [n - 2 for n in limits]
    return max(1, min(limits or [int(tokenizer.model_max_length)]))


def _hub_has_an_address() -> bool:
    """False where its name cannot be looked up: then only what is on this machine is read, and no retry waited for."""
    endpoint = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    if urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(endpoint.hostname, endpoint.port or 443)
    except (OSError, UnicodeError):
        return False
    return True


@contextlib.contextmanager
def _explained(where: str, what: str) -> Iterator[None]:
    """Errors of loading, as one sentence each."""
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise UserError(_sentence(where, what, error)) from None


def _sentence(where: str, what: str, error: Exception) -> str:
    text = str(error)
    looks_local = where.startswith((".", "/", "~")) or where.count("/") > 1
    if looks_local and not Path(where).exists():
        return f"There is no folder {where}."
    if "trust_remote_code" in text:
        return f"{where} needs code of its own to run, and foveate never runs code that comes with a model."
    if what == "weights" and ("safetensors" in text or "pytorch_model.bin" in text):
        return (
            f"{where} has no safetensors weights, and foveate never reads pickle files; convert them with "
            "model.save_pretrained(folder) first."
        )
    if what == "model" and isinstance(error, OSError):
        return (
            f"Cannot find a model {where!r}: it is no folder with a config.json, and no model of that name could be "
            "read from the Hugging Face hub."
        )
    if what == "tokenizer":
        return f"{where} has no tokenizer that reads text: {in_words(error)}"
    return f"Cannot read the {what} of {where}: {in_words(error)}"
