"""Small random translators, and documents of what they read: what the tests of a translation's page share."""

from __future__ import annotations

from typing import Any

import torch

from foveate.apps.translation import TranslationModel
from foveate.tasks.subwords import Subwords, used
from foveate.tasks.translation import Forced, Shape, Translator
from foveate.tasks.translation.shape import build
from foveate.views.source import Source

ENGLISH = [
    "how are you ?",
    "a man in a blue shirt is standing on a ladder",
    "the cat sat on the mat",
    "two dogs are running in the park",
]
FRENCH = [
    "comment allez-vous ?",
    "un homme en chemise bleue est debout sur une échelle",
    "le chat est assis sur le tapis",
    "deux chiens courent dans le parc",
]
TEXT, TARGET = "two blue dogs are running in the park", "deux chiens bleus courent dans le parc"
SUBWORDS = Subwords.train(ENGLISH * 3 + FRENCH * 3, 600)
OUTPUTS = used(SUBWORDS.ids(FRENCH))


def translator(seed: int = 1, **shape: Any) -> Translator:
    """A random model whose attention, if it is additive, has clear favourites, which differ from word to word."""
    torch.manual_seed(seed)
    made = Shape(width=16, hidden=12, heads=2, layers=2, inner=16, **shape)
    model = build(made, len(SUBWORDS), OUTPUTS)
    if shape.get("attention", "additive") == "additive" and made.arch == "rnn":
        with torch.no_grad():
            score = model.attention.score
            for weight, factor in ((score.v, 40), (score.query_weight, 15), (score.key_weight, 4)):
                weight.mul_(factor)
            model.asking.weight_ih_l0.mul_(4)
    return Translator(model, SUBWORDS, made, {})


def quiet(progress: float, message: str) -> None:
    pass


def shown(made: Translator, text: str = TEXT, target: str | None = TARGET, fixed: Translator | None = None) -> Source:
    return TranslationModel(made, fixed).run(text, target, quiet)


def forced(made: Translator, text: str = TEXT, target: str = TARGET) -> Forced:
    (found,) = made.force([(made.subwords.encode(text), made.subwords.encode(target))])
    return found
