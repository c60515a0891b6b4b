"""Hugging Face models by path or hub name: loaded without pickle or remote code, run on a text under `watch`.

An encoder-decoder without a target text first writes one greedily; then one pass over both texts is recorded, so that
every attention module has one call.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
import warnings
from dataclasses import dataclass
from typing import Any

import torch

from foveate.apps.errors import UserError
from foveate.apps.hub import Hub, explained
from foveate.apps.pieces import in_pieces
from foveate.apps.workspace import Kind, Report
from foveate.apps.writing import Writing, Written, named, write
from foveate.heads.subject import most_positions
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
_TOWERS = {"clip": "CLIPTextModel"}  # of models with one for pictures, too


@dataclass(frozen=True)
class Prepared:
    """Inputs of a model, (1, length) each, and the tokens they stand for."""

    inputs: dict[str, torch.Tensor]
    tokens: Tokens
    target_tokens: Tokens | None
    written: Written | None = None

    @property
    def prompt(self) -> int | None:
        """How many tokens were given, where others were written."""
        return None if self.written is None else self.written.given


class HubModel(Hub):
    """A text model of the Hugging Face kind. Construction reads configuration and tokenizer; `load` the weights.

    Raises:
        UserError: there is no such model, it is no text model, or its weights are not in safetensors files.
    """

    def __init__(self, where: str, most_tokens: int = MOST_TOKENS, writing: Writing | None = None) -> None:
        super().__init__(where)
        self.writing = writing
        self.examples = list(EXAMPLES)
        with explained(where, "tokenizer"):
            self.tokenizer = self.read(self.transformers.AutoTokenizer)
        self.kind: Kind = _kind(self.transformers, self.config)
        if writing is not None and self.kind == "encoder":
            raise UserError(f"{self.name} is an encoder: it reads a text and writes none; leave out --generate")
        self.max_tokens = min(most_tokens, _limit(self.config, self.tokenizer))
        self._model: Any = None
        self._writer: Any = None
        self._lock = threading.Lock()

    def load(self, report: Report) -> Any:
        """The model in evaluation mode; read once."""
        with self._lock:
            if self._model is None:
                report(0.05, f"Loading the weights of {self.name}")
                transformers = self.transformers
                writes = self.kind == "decoder" and self.writing is not None
                two_sided = self.kind == "encoder-decoder"
                one = getattr(transformers, _TOWERS.get(self.config.model_type, "AutoModel"))
                loader = transformers.AutoModelForSeq2SeqLM if two_sided else one
                self._writer = self.network(transformers.AutoModelForCausalLM if writes else loader)
                self._model = self._writer.base_model if writes else self._writer
            return self._model

    def whole(self, report: Report) -> Any:
        """The model with the head that it was saved with, in evaluation mode."""
        report(0.05, f"Loading the weights of {self.name}")
        names = self.config.architectures or ["AutoModel"]
        return self.network(getattr(self.transformers, names[0], self.transformers.AutoModel))

    def run(self, text: str, target: str | None, report: Report) -> Source:
        """Record the model on a text and put the answer together.

        Raises:
            UserError: the text is empty, or has more tokens than the model takes.
        """
        given = self.prepared(text, target, report)
        report(0.7, f"Running {self.name} on {len(given.tokens):,} tokens")
        seen = self.watched(given.inputs, given.prompt)
        report(0.95, "Reading the attention")
        targets = [given.target_tokens] if given.target_tokens else None
        source = Source(seen, [given.tokens], targets, title=title_of(text), model=self.name)
        decoding = source.document().decoding
        if given.written is None or decoding is None:
            return source
        texts = lambda ids: list(self._pieces(ids).text)  # noqa: E731
        return source.with_answer("", None, decoding=named(decoding, given.written, texts))

    def prepared(self, text: str, target: str | None, report: Report) -> Prepared:
        """What one pass over a text takes; what the model shall write, it has written.

        Raises:
            UserError: as `run`.
        """
        if not text.strip():
            raise UserError("The text is empty.")
        inputs = self.tokenizer(text, return_tensors="pt")
        self._check_length("text", inputs["input_ids"].shape[1])
        tokens = self._tokens(text, inputs)
        model = self.load(report)
        taken = inspect.signature(model.forward).parameters
        accepted = {name: value for name, value in inputs.items() if name in taken}
        if self.kind == "encoder-decoder":
            report(0.4, "Writing the target text" if target is None else "Reading the target text")
            ids, written = self._target_ids(accepted, target)
            accepted["decoder_input_ids"] = torch.tensor([ids])
            return Prepared(accepted, tokens, self._pieces(ids), written)
        if self.writing is None:
            return Prepared(accepted, tokens, None)
        report(0.4, f"Writing {self.writing.tokens} tokens")
        self._check_room(len(tokens), "text")
        written = write(self._writer, accepted, self.writing)
        whole = torch.tensor([written.ids])
        accepted = {"input_ids": whole, "attention_mask": torch.ones_like(whole)}
        return Prepared(accepted, self._pieces(written.ids), None, written)

    def watched(
        self,
        inputs: dict[str, torch.Tensor],
        prompt: int | None = None,
        *,
        until: type[Exception] | None = None,
        **options: Any,
    ) -> Recording:
        """One pass under `watch`, which takes the options; raising `until` ends it early, as if it were done.

        Over a long text, feed-forward layers go piece by piece.

        `prompt`: how many tokens were given, where the model wrote the others.

        Raises:
            UserError: nothing was captured.
        """
        model = self.load(lambda progress, message: None)
        with torch.no_grad(), in_pieces(model), warnings.catch_warnings():
            warnings.simplefilter("ignore", CaptureWarning)  # what was not captured is said on the page
            about = {"model": self.name, **({} if prompt is None else {"prompt_lengths": [prompt]})}
            return _watched(model, about, inputs, until, {"tokenizer": self.tokenizer, **options})

    def _check_length(self, what: str, count: int) -> None:
        if count > self.max_tokens:
            raise UserError(
                f"The {what} has {count:,} tokens; {self.name} takes at most {self.max_tokens:,}. Shorten the {what}."
            )

    def _check_room(self, given: int, what: str) -> None:
        """That what is to be written fits in behind what is given."""
        assert self.writing is not None
        most = self.max_tokens - given
        if self.writing.tokens > most:
            raise UserError(
                f"{self.writing.tokens:,} tokens are to be written after the {given:,} of the {what}; "
                f"{self.name} takes {self.max_tokens:,} in all. Write fewer, --generate {max(1, most)}, or shorten the "
                "text."
            )

    def _tokens(self, text: str, inputs: Any) -> Tokens:
        encodings = getattr(inputs, "encodings", None)
        return from_encoding(text, encodings[0]) if encodings else self._pieces(inputs["input_ids"][0].tolist())

    def _pieces(self, ids: list[int]) -> Tokens:
        special = set(self.tokenizer.all_special_ids)
        return from_pieces(self.tokenizer.convert_ids_to_tokens(ids), [i in special for i in ids])

    def _target_ids(self, inputs: dict[str, Any], target: str | None) -> tuple[list[int], Written | None]:
        """What the decoder reads: the start token and the target, without the end token; and what was written, if it
        was asked to write."""
        found: Written | None = None
        if target is None:
            writing = self.writing or Writing(min(NEW_TOKENS, self.max_tokens - 1))
            if self.writing is not None:
                self._check_room(1, "target")
            found = write(self._writer, inputs, writing)
            ids = found.ids
        else:
            start = self._writer.generation_config.decoder_start_token_id
            start = self.config.decoder_start_token_id if start is None else start
            if start is None:
                raise UserError(f"{self.name} does not say with which token its target texts start.")
            ids = [start, *self.tokenizer(text_target=target)["input_ids"]]
        if len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]
        self._check_length("target", len(ids))
        return ids, found if self.writing is not None else None


def _watched(
    model: Any, about: dict[str, Any], inputs: dict[str, Any], until: type[Exception] | None, options: dict[str, Any]
) -> Recording:
    try:
        with watch(model, **{"keep": "qkv", **options}) as seen:
            vars(seen).update(about)
            with contextlib.suppress(*(() if until is None else (until,))):
                model(**inputs)
    except CaptureError as error:
        raise UserError(str(error)) from None
    return seen


def title_of(text: str) -> str:
    """The beginning of a text, for lists and tabs."""
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"


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
    return most_positions(config) or max(1, int(tokenizer.model_max_length))
