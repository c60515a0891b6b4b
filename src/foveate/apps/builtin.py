"""The built-in model behind the page: what it read, and what it takes the pronoun to stand for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import torch

from foveate.apps.errors import UserError
from foveate.apps.models import title_of
from foveate.apps.workspace import Kind, Report
from foveate.views.document import Focus
from foveate.views.source import Source
from foveate.views.words import from_words
from foveate.watch import watch

if TYPE_CHECKING:
    from foveate.tasks.resolve import Look, Resolution

EXAMPLES = [
    "The cat sat on the mat because it was tired.",
    "The cat sat on the mat because it was dirty.",
    "The truck could not pass the bridge because it was too heavy.",
    "The dog chased the ball until it was tired.",
]


class BuiltinModel:
    """A small encoder of our own, trained to find what a pronoun stands for; no network needed."""

    name = "foveate's built-in model"
    kind: Kind = "encoder"
    max_tokens = 2048

    def __init__(self) -> None:
        self.examples = list(EXAMPLES)
        self._model: Any = None
        self._lock = threading.Lock()

    def load(self, report: Report) -> Any:
        """The model in evaluation mode; read once."""
        with self._lock:
            if self._model is None:
                report(0.1, "Loading the built-in model")
                from foveate.tasks.resolve import load_builtin

                self._model = load_builtin()
            return self._model

    def run(self, text: str, target: str | None, report: Report) -> Source:
        """Record the model on a text; if there is a pronoun, the page opens at the head that looks at its antecedent.

        Raises:
            UserError: there is nothing to read, or more than the model takes.
        """
        model = self.load(report)
        words, ids = model.tokenize(text)
        if not words:
            raise UserError("There is no word in this text.")
        if len(words) > self.max_tokens:
            raise UserError(
                f"The text has {len(words):,} words; {self.name} takes at most {self.max_tokens:,}. Shorten the text."
            )
        report(0.5, f"Reading {len(words)} words")
        with torch.no_grad(), watch(model, keep="qkv") as seen:
            model(torch.tensor([ids]))
        seen.model = self.name
        seen.tokens = [words]
        return _answered(Source(seen, [from_words(words)], title=title_of(text), model=self.name), text)


def _answered(source: Source, text: str) -> Source:
    """The source with what the pronoun stands for, opened where that is seen; as it is where there is no pronoun."""
    from foveate.tasks.resolve import resolve

    try:
        found = resolve(text)
    except ValueError:
        return source
    message = f"{found.pronoun} -> {found.antecedent} ({found.probability:.0%})".replace("%", " %")
    look = next((look for look in found.heads[:12] if _strongest(source, found, look)), found.heads[0])
    return source.with_answer(message, Focus(token=found.pronoun_index, call=look.layer, head=look.head))


def _strongest(source: Source, found: Resolution, look: Look) -> bool:
    """Whether the antecedent is what the pronoun looks at most in this head."""
    row = source.row(look.layer, 0, found.pronoun_index, "reads", "token")[look.head]
    return int(row.argmax()) == found.antecedent_index
