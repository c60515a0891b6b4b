"""Models as subjects of a survey: translators and Hugging Face models, loaded by name in each worker that measures."""

from __future__ import annotations

import sys

from foveate.apps import translation
from foveate.apps.models import HubModel
from foveate.extras import need
from foveate.heads.subject import Subject, subject_of
from foveate.tasks.translation.surveyed import SurveyedTranslator

__all__ = ["load"]

_PREDICTS = {
    "LMHeadModel": "AutoModelForCausalLM",
    "CausalLM": "AutoModelForCausalLM",
    "MaskedLM": "AutoModelForMaskedLM",
}


def load(where: str, most_tokens: int | None = None) -> Subject:
    """The model at a path or of a hub name. Modules are named as `foveate view` and `record` name them.

    Raises:
        UserError: there is no such model, or it cannot be read.
    """
    own = translation.open_folder(where)
    if own is not None:
        return SurveyedTranslator(own.translator, name=own.name, most=most_tokens)
    hub = HubModel(where, most_tokens=sys.maxsize)
    saved = "".join(getattr(hub.config, "architectures", None) or [])  # with an output layer, or without
    loader = next((loader for name, loader in _PREDICTS.items() if saved.endswith(name)), None)
    whole = None if loader is None else hub.network(getattr(need("transformers", "hf"), loader))
    model = hub.load(lambda progress, message: None) if whole is None else whole.base_model
    most = hub.max_tokens if most_tokens is None else min(most_tokens, hub.max_tokens)
    return subject_of(model, hub.tokenizer, name=hub.name, most=most, whole=whole)
