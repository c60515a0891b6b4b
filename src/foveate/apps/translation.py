"""A translator behind the page: its translation, what each word of it read, and how it was written, token by token.

Axes: B sentences (one), T target tokens (the end symbol among them), M width of the model, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from foveate.apps.errors import UserError
from foveate.apps.workspace import Kind, Report
from foveate.pieces import decoded, written
from foveate.recording import Recording
from foveate.recording.calls import MemoryCall
from foveate.views.document import Alternative, Beside, Decoding, Focus, Step
from foveate.views.source import Source
from foveate.views.words import Tokens
from foveate.watch import watch

if TYPE_CHECKING:
    from foveate.tasks.subwords import Encoded
    from foveate.tasks.translation import Translator

EXAMPLES = [
    "How are you?",
    "I don't know the black cat that you saw.",
    "The old man who lives here has never been to the sea.",
]
ALTERNATIVES = 5
BEGIN_TEXT, END_TEXT = "<s>", "</s>"
FIXED = "The same model with one fixed summary of the sentence instead of attention"
GIVEN = "The {} was given: the model read it, and how probable it found each word is shown."


class TranslationModel:
    """Translates a text and shows how, for the page.

    Args:
        translator: a model with attention.
        fixed: another one, as a rule the same without attention, whose answer is shown beside.
        name: for people; default: what kind of model it is.
        examples: sentences to try; default: those the model's description names, or a few English ones.

    Raises:
        UserError: the translator has no attention to look at.
    """

    kind: Kind = "encoder-decoder"

    def __init__(
        self,
        translator: Translator,
        fixed: Translator | None = None,
        *,
        name: str = "",
        examples: Sequence[str] = (),
    ) -> None:
        if not translator.has_attention:
            raise UserError(
                "This model has one fixed vector and no attention to look at; train one with another --attention, or "
                f"{translator.goal.verb} with it in the terminal."
            )
        self.translator, self.fixed = translator, fixed
        self.max_tokens = translator.goal.max_tokens
        self.name = name or translator.shape.name
        self.examples = list(examples) or list(translator.facts.get("examples") or EXAMPLES)

    def run(self, text: str, target: str | None, report: Report) -> Source:
        """Translate a text, or read a given translation of it, and record what was read at each step.

        Raises:
            UserError: the text or the target is empty, or has more tokens than the model takes.
        """
        sentence = " ".join(text.split())
        source = self._encoded("text", sentence)
        if target is None:
            report(0.1, self.translator.goal.doing)
            (found,) = self.translator.translate([sentence])
            assert found.forced is not None
            written, finished, message = found.forced.target, found.finished, found.text
        else:
            written, finished = self._encoded("target", target), True
            message = " ".join(target.split())
        report(0.6, "Reading the attention")
        done = _decoded(self.translator, source, written, finished, self.name)
        beside = self._beside(sentence, report)
        seen = Source(done.recording, [done.source], [done.target], target_offset=1, title=sentence, model=self.name)
        notes = (
            *seen.document().notes,
            *((GIVEN.format(self.translator.goal.result),) if target is not None else ()),
            *done.notes,
        )
        return seen.with_answer(message, done.focus, decoding=done.decoding, beside=beside, notes=notes)

    def _encoded(self, what: str, text: str) -> Encoded:
        encoded = self.translator.subwords.encode(text)
        if not len(encoded):
            raise UserError(f"There is no word in this {what}.")
        if len(encoded) > self.max_tokens:
            raise UserError(
                f"The {what} has {len(encoded):,} tokens; {self.name} takes at most {self.max_tokens:,}. "
                f"Shorten the {what}."
            )
        return encoded

    def _beside(self, sentence: str, report: Report) -> tuple[Beside, ...]:
        if self.fixed is None:
            return ()
        report(0.8, "Translating without attention")
        (found,) = self.fixed.translate([sentence], weights=False)
        label = self.fixed.shape.name if self.fixed.has_attention else FIXED
        return (Beside(label, found.text or "(nothing)"),)


def open_folder(folder: str | Path) -> TranslationModel | None:
    """The model in a folder that `foveate train translate` left; None if it holds something else.

    Raises:
        UserError: it should be one, and cannot be read.
    """
    from foveate.tasks.translation import load
    from foveate.tasks.translation.goal import GOALS

    folder = Path(folder)
    try:
        if json.loads((folder / "model.json").read_text(encoding="utf-8"))["task"] not in GOALS:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    try:
        return TranslationModel(load(folder), name=folder.resolve().name)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from None


@dataclass(frozen=True)
class _Decoded:
    """One translation, read step by step."""

    recording: Recording
    source: Tokens
    target: Tokens
    decoding: Decoding
    focus: Focus
    notes: tuple[str, ...]


def _decoded(translator: Translator, source: Encoded, target: Encoded, finished: bool, name: str) -> _Decoded:
    """All steps at once: the decoder is given `<s> y1 .. yn`, and row t is what it read to write y(t + 1), or the end.

    `finished`: whether the end was written, too.
    """
    from foveate.tasks.subwords import BEGIN, END

    model, numbers = translator.model, translator.numbers(target.ids)
    given, out = [BEGIN, *numbers], [*numbers, END]
    if not finished:  # the length limit came before the end
        given, out = given[:-1], out[:-1]
    with torch.no_grad(), watch(model, keep="qkv") as seen:
        source_B1 = torch.tensor([[*source.ids, END]])
        hidden_BTM = model(source_B1, torch.tensor([source_B1.shape[1]]), torch.tensor([given]))
        p_TV = model.logits(hidden_BTM[0]).float().softmax(-1)
    recording, shown, head, notes = _calls(seen, translator, name)
    names = list(recording)
    target_rows = [i for i, one in enumerate(names) if recording.info(one).kind != "encoder" and one in seen]
    written = translator.reading.modules[-1]
    first = names.index(written) if written in names else target_rows[0]
    calls = (first, *(i for i in target_rows if i != first))
    decoding = Decoding(calls, (_steps(translator, p_TV, out, target),))
    return _Decoded(
        recording,
        tokens_of(source, end=True),
        tokens_of(target, begin=True, end=finished),
        decoding,
        Focus(None, call=names.index(shown), head=head, level="word"),
        notes,
    )


def _calls(seen: Recording, translator: Translator, name: str) -> tuple[Recording, str, int | None, tuple[str, ...]]:
    """The calls under names that say what they are, the one and the head that align best, and notes on them.

    Where words are aligned by what was read when they were given to the decoder (Chen et al. 2020), that is one step
    later than their row: such calls appear a second time, with the rows of the words that they align.
    """
    reading = translator.reading
    calls: list[MemoryCall] = []
    for _, step, one, info in seen.calls():
        p = one.problem
        options = {"score": p.score, "normalizer": p.normalizer, "mask": p.mask, "bias": p.bias, "dtype": one.dtype}
        calls.append(MemoryCall(info, step, one.query, one.key, one.value, options))
    head = reading.head if isinstance(reading.head, int) else None if calls[-1].info.heads > 1 else 0
    if reading.shift == "output":
        return _recorded(calls, name), reading.modules[-1], head, ()
    later = [_later(call) for call in calls if call.info.name in reading.modules]
    later = [call for call in later if call.query.shape[-2]]
    if not later:
        return _recorded(calls, name), reading.modules[-1], head, ()
    note = (
        f"“{later[-1].info.label}” shows what was read once a word was written: that names its source better, in this "
        "layer, than what was read to write it."
    )
    return _recorded([*calls, *later], name), later[-1].info.name, head, (note,)


def _later(call: MemoryCall) -> MemoryCall:
    """Row t + 1 as row t: what was read when the decoder was given the token, rather than when it wrote it."""
    info = replace(call.info, name=f"{call.info.name} (given)", label=f"alignment, {call.info.label}")
    return replace(call, info=info, query=call.query[..., 1:, :])


def _recorded(calls: Sequence[MemoryCall], name: str) -> Recording:
    made = Recording(calls=list(calls))
    made.model = name
    return made


def _steps(translator: Translator, p_TV: Tensor, out: Sequence[int], target: Encoded) -> tuple[Step, ...]:
    """What could have come out at each step; the target's token t + 1 did, counted with the begin symbol."""
    outputs = translator.model.embedding.outputs
    most = p_TV.topk(min(ALTERNATIVES, p_TV.shape[-1]), dim=-1).indices.tolist()
    steps = []
    for t, (number, best) in enumerate(zip(out, most, strict=True)):
        listed = best if number in best else [*best, number]
        own = target.pieces[t] if t < len(target) else END_TEXT
        pieces = translator.subwords.pieces(outputs[listed].tolist())
        pieces[listed.index(number)] = own  # a given target may hold a token that the model knows only as unknown
        texts = zip(_told_apart(pieces), p_TV[t, listed].tolist(), strict=True)
        alternatives = tuple(Alternative(text, float(f"{p:.5g}")) for text, p in texts)
        steps.append(Step(t + 1, alternatives, listed.index(number)))
    return tuple(steps)


def tokens_of(encoded: Encoded, *, begin: bool = False, end: bool = False) -> Tokens:
    """Sub-words as the page shows them, in the words of `encoded`, between special tokens."""
    text, word = _spelled(encoded.pieces), list(encoded.words)
    special = [False] * len(text)
    if begin:
        text, word, special = [BEGIN_TEXT, *text], [0, *(number + 1 for number in word)], [True, *special]
    if end:
        text, word, special = [*text, END_TEXT], [*word, max(word, default=-1) + 1], [*special, True]
    return Tokens(tuple(text), tuple(word), tuple(special))


def _spelled(pieces: Sequence[str]) -> list[str]:
    """What each piece says; of a character that is written in bytes the first byte says it, the others nothing."""
    return decoded(written(_plain(piece), byte_level=False) for piece in pieces)


def _told_apart(pieces: Sequence[str]) -> list[str]:
    """What pieces say; of two that say the same, the one that goes on with a word has dots before it."""
    plain = [_plain(piece) for piece in pieces]
    goes_on = [plain.count(text) > 1 and not piece.startswith("▁") for piece, text in zip(pieces, plain, strict=True)]
    return [f"…{text}" if later else text for text, later in zip(plain, goes_on, strict=True)]


def _plain(piece: str) -> str:
    return piece.removeprefix("▁").replace("\n", "▁")
