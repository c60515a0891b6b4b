"""Vision models of the Hugging Face kind by path or hub name, run on a picture (and a text) under `watch`.

A picture is read as the model's own image processor makes it, and shown as it reached the model. Rollout comes last.
"""

from __future__ import annotations

import inspect
import os
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from foveate import vision
from foveate.apps.errors import UserError
from foveate.apps.hub import Hub, explained
from foveate.apps.models import title_of
from foveate.apps.workspace import Kind, Report
from foveate.recording import Recording
from foveate.views.document import Focus
from foveate.views.source import Source
from foveate.views.words import Tokens, from_pieces
from foveate.watch import CaptureError, CaptureWarning, watch

__all__ = ["PictureModel"]

NEW_TOKENS = 32  # of a caption or an answer
MOST_ROLLED = 4096  # tokens of a picture up to which rollout is made


@dataclass(frozen=True)
class _Run:
    """What a pass left: the recording, the tokens of the text, and a line about the outcome."""

    seen: Recording
    text: Tokens | None = None
    message: str = ""


class PictureModel(Hub):
    """A vision model and the picture that it looks at. Construction reads all but the weights.

    Args:
        where: a folder or hub name of ViT, DeiT, DINOv2 (with registers), CLIP or BLIP.
        path: of the picture.

    Raises:
        UserError: there is no such model or picture, or it is not known which of its tokens are patches.
    """

    kind: Kind = "encoder"

    def __init__(self, where: str, path: str | os.PathLike[str]) -> None:
        self.image, self.title = vision.read(path), Path(path).name
        super().__init__(where)
        self.examples: list[str] = []
        made = (self.config.architectures or [""])[0]
        self.reading = _READINGS.get(made)
        self.processor, self.notes = self._processor()
        self.pixel_values = self._pixel_values()
        try:
            self.pictures = vision.pictures(self.config, self.pixel_values, self.processor)
        except ValueError as error:
            raise UserError(f"{self.name}: {error}") from None
        self.tokenizer: Any = None
        self.max_tokens = 0
        if self.reading is not None:
            with explained(where, "tokenizer"):
                self.tokenizer = self.read(self.transformers.AutoTokenizer)
            self.max_tokens = int(self.config.text_config.max_position_embeddings)
        self._model: Any = None
        self._lock = threading.Lock()

    @property
    def reads_text(self) -> bool:
        """Whether words read the picture."""
        return self.reading is not None

    @property
    def needs_text(self) -> bool:
        """Whether there is nothing to run without a text."""
        return self.reading is not None and self.reading is not _caption

    def load(self, report: Report) -> Any:
        """The model in evaluation mode; read once."""
        with self._lock:
            if self._model is None:
                report(0.05, f"Loading the weights of {self.name}")
                made = (self.config.architectures or ["AutoModel"])[0]
                self._model = self.network(getattr(self.transformers, made, self.transformers.AutoModel))
            return self._model

    def run(self, text: str, target: str | None, report: Report) -> Source:
        """Record the model on its picture, and on a text where words read it.

        Raises:
            UserError: the text is too long, a model that needs one is given none, or nothing was captured.
        """
        model = self.load(report)
        report(0.4, f"Running {self.name}")
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", CaptureWarning)  # what was not captured is said on the page
            try:
                found = _look(self, model) if self.reading is None else self.reading(self, model, text.strip())
            except CaptureError as error:
                raise UserError(str(error)) from None
        report(0.9, "Reading the attention")
        return self._shown(found, text)

    def _shown(self, found: _Run, text: str) -> Source:
        seen, picture = found.seen, self.pictures[0]
        if picture.first + picture.parts <= MOST_ROLLED:
            seen = vision.with_rollout(seen, under="vision_model" if self.reads_text else None)
        title = f"{self.title}: {title_of(text)}" if text else self.title
        texts = None if found.text is None else [found.text]
        source = Source(seen, None, texts, title=title, model=self.name, pictures=self.pictures)
        document = source.document()
        crossing = [call.index for call in document.calls if call.kind == "cross"]
        last = Focus(0, len(document.calls) - 1, level="token")
        focus = Focus(_last_word(found.text), crossing[-1]) if crossing and found.text else last
        return source.with_answer(found.message, focus, notes=(*self.notes, *document.notes))

    def ids(self, text: str) -> torch.Tensor:
        """(1, length)

        Raises:
            UserError: the text is empty or too long.
        """
        if not text:
            raise UserError(f"{self.name} reads a picture and a text; the text is empty.")
        ids: torch.Tensor = self.tokenizer(text, return_tensors="pt")["input_ids"]
        if ids.shape[1] > self.max_tokens:
            raise UserError(f"The text has {ids.shape[1]:,} tokens; {self.name} takes at most {self.max_tokens:,}.")
        return ids

    def tokens(self, ids: torch.Tensor) -> Tokens:
        numbers = ids[0].tolist()
        special = set(self.tokenizer.all_special_ids)
        pieces = self.tokenizer.convert_ids_to_tokens(numbers)  # None beyond the vocabulary, which a model may fill up
        named = [f"[{i}]" if piece is None else piece for i, piece in zip(numbers, pieces, strict=True)]
        return from_pieces(named, [i in special for i in numbers])

    def sized(self, forward: Any) -> dict[str, Any]:
        """What tells a model that its picture has another size than those it learned from."""
        size = getattr(self.config, "vision_config", self.config).image_size
        usual = tuple(size) if isinstance(size, list | tuple) else (size, size)
        takes = "interpolate_pos_encoding" in inspect.signature(forward).parameters
        return {"interpolate_pos_encoding": True} if takes and tuple(self.pixel_values.shape[2:]) != usual else {}

    def _processor(self) -> tuple[Any, tuple[str, ...]]:
        """The image processor, or None and a note about what is done without one."""
        names = "preprocessor_config.json", "processor_config.json"
        if self.local and Path(self.where).is_dir() and not any((Path(self.where) / name).is_file() for name in names):
            return None, (
                f"no image processor was saved with {self.name}: the whole picture was resized to the size that the "
                "model learned from, with mean and deviation 0.5",
            )
        with explained(self.where, "image processor"):
            return self.read(self.transformers.AutoImageProcessor), ()

    def _pixel_values(self) -> torch.Tensor:
        """(1, 3, height, width)"""
        if self.processor is not None:
            with explained(self.where, "picture"):
                made: torch.Tensor = self.processor(self.image, return_tensors="pt")["pixel_values"]
                return made
        config = getattr(self.config, "vision_config", self.config)
        size = getattr(config, "image_size", 224)
        high, wide = size if isinstance(size, list | tuple) else (size, size)
        resized = torch.frombuffer(bytearray(self.image.resize((wide, high)).tobytes()), dtype=torch.uint8)
        return (resized.view(1, high, wide, 3).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5


def _last_word(text: Tokens) -> int | None:
    """The number of the last word that has a letter or a digit."""
    tokens = zip(text.text, text.word, text.special, strict=True)
    words = [word for piece, word, special in tokens if not special and any(map(str.isalnum, piece))]
    return words[-1] if words else None


def _look(one: PictureModel, model: Any) -> _Run:
    """The picture alone; of several towers the one for pictures."""
    tower = getattr(model, "vision_model", model)
    with watch(tower, keep="qkv") as seen:
        out = tower(one.pixel_values, **one.sized(tower.forward))
    seen.model = one.name
    logits = getattr(out, "logits", None)
    named = getattr(model.config, "id2label", None)
    if logits is None or logits.ndim != 2 or not named or logits.shape[1] != len(named):
        return _Run(seen)
    probable, label = logits.softmax(-1)[0].max(0)
    told = str(named[int(label)])
    return _Run(seen, None, "" if told.startswith("LABEL_") else f"{told} ({float(probable):.0%})")


def _caption(one: PictureModel, model: Any, text: str) -> _Run:
    """A caption that is given, or written by the model; each word reads those before it, and the picture."""
    config, sized = model.config.text_config, one.sized(model.forward)
    message = ""
    if text:
        ids = one.ids(text)[:, :-1].clone()  # without the end, as it learned to write
        ids[:, 0] = config.bos_token_id
    else:
        ids = model.generate(one.pixel_values, max_new_tokens=NEW_TOKENS, do_sample=False, **sized)
        ids = ids[:, :-1] if ids[0, -1] == config.sep_token_id else ids
        message = f"It writes: {one.tokenizer.decode(ids[0], skip_special_tokens=True)}"
    with watch(model, keep="qkv") as seen:
        model(one.pixel_values, ids, **sized)
    return _named(one, seen, ids, message)


def _answer(one: PictureModel, model: Any, text: str) -> _Run:
    """A question that reads the picture, and what the model answers; the answer reads the question alone."""
    ids, sized = one.ids(text), one.sized(model.forward)
    with watch(model, ["vision_model", "text_encoder"], keep="qkv") as seen:
        out = model.generate(ids, one.pixel_values, max_new_tokens=NEW_TOKENS, do_sample=False, **sized)
    return _named(one, seen, ids, f"{text} -> {one.tokenizer.decode(out[0], skip_special_tokens=True)}")


def _match(one: PictureModel, model: Any, text: str) -> _Run:
    """A text that reads the picture, and how well it fits."""
    ids, sized = one.ids(text), one.sized(model.forward)
    with watch(model, keep="qkv") as seen:
        out = model(ids, one.pixel_values, **sized)
    return _named(
        one, seen, ids, f"The text fits the picture with probability {float(out.itm_score.softmax(-1)[0, 1]):.0%}"
    )


def _named(one: PictureModel, seen: Recording, ids: torch.Tensor, message: str) -> _Run:
    text = one.tokens(ids)
    seen.model, seen.target_tokens = one.name, [list(text.text)]
    seen.target_ids, seen.target_lengths, seen.target_starts = ids.tolist(), [len(text)], [0]
    return _Run(seen, text, message)


# By the class that a model was saved with; of others the picture alone is read.
_READINGS = {
    "BlipForConditionalGeneration": _caption,
    "BlipForQuestionAnswering": _answer,
    "BlipForImageTextRetrieval": _match,
}
