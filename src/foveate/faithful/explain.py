"""The report: scores of tokens, what becomes of the prediction without those that they put first, and the verdict."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..heads.correlation import spearman
from ..shapes import whole
from .attributions import attended, gradient_weighted, value_norms
from .curves import Curve, Order, curves, how_many, probability
from .errors import FaithfulError
from .flow import MOST_PIPES, flow, pipes
from .hub import of_hub
from .judging import RANKS, Verdict, judge, moved, overall
from .links import MOST_TOKENS, links_tested
from .reading import Pass, read
from .removing import HOW, Removal
from .result import LABELS, Report, Score
from .rolled import rolled
from .subject import Subject, own

__all__ = ["report"]


def report(
    model: nn.Module,
    text: Any,
    target: int | str | None = None,
    *,
    tokenizer: Any = None,
    predict: Callable[[Tensor], Tensor] | None = None,
    tokens: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    methods: Iterable[str] | None = None,
    links: bool = True,
    how: str | None = None,
    replacement: Any = None,
    keep: Iterable[int] = (),
    samples: int = 30,
    seed: int = 0,
) -> Report:
    """Does attention explain this prediction?

    Tokens are removed in the order in which attention, and other scores, say that they matter, and the change of the
    prediction is compared with what random orders and gradients do. Attention **explains** the prediction if, by its
    better plain reading (last layer, mean of layers), comprehensiveness is above and sufficiency below the mean of
    random orders by more than 1.645 standard deviations of these, and comprehensiveness gains over them at least 0.8 of
    what the better gradient gains; **partly** if only one of the two is beyond random orders, or less is gained; else
    it **does not**, as where no gradient reaches what attention reads. If neither attention, gradients nor leaving out
    one token at a time is beyond random orders, the report **cannot tell**.

    Args:
        model: in evaluation mode: a transformers model with a head (sequence classification, causal or masked language
            model) and its `tokenizer`; or any module, and `predict`.
        text: a text. With `predict`, also ids (N,) or vectors (N, E).
        target: number or label of a class, or a word that is one token. Default: what the model predicts.
        tokenizer: of the model.
        predict: of one's own model: a function of ids (B, N), or vectors (B, N, E), that gives logits (B, classes).
        tokens, labels: with `predict`: what the tokens, and the classes, are called.
        methods: names of scores, those of `LABELS`; attention and leaving one out are always there. Default: all that
            can be had (flow only on graphs of up to 20,000 pipes).
        links: also remove links between tokens (up to 512 tokens).
        how: "replace" tokens by `replacement`, or "hide" them from all others. Default: replace if there is something.
        replacement: a token (its text or id; of vectors: a vector) that stands for a removed one. Default: the
            tokenizer's mask, or its unknown token, if it has one.
        keep: places of tokens that are never removed; special tokens never are.
        samples: random orders, at least 2.
        seed: of these, and of the order of tokens with equal scores.

    Returns:
        A `Report`: `print` it for words; `.scores`, `.rows()`, `.to_pandas()` for numbers.

    Raises:
        FaithfulError: model, text, target or an option do not fit; the text says what does.
    """
    _check(model, samples)
    wanted = _methods(methods)
    subject = _subject(model, text, target, tokenizer, predict, tokens, labels, replacement)
    subject = _keeping(subject, keep)
    return _report(subject, wanted, links, _how(how, subject), samples, seed)


def _check(model: nn.Module, samples: int) -> None:
    if not isinstance(model, nn.Module):
        raise FaithfulError(f"report takes an nn.Module; got {type(model).__name__}")
    if model.training:
        raise FaithfulError("the model is in training mode, and drops parts at random; call model.eval() first")
    if whole(samples, "samples") < 2:
        raise FaithfulError(f"samples must be at least 2; got {samples}")


def _report(subject: Subject, wanted: set[str], links: bool, how: str, samples: int, seed: int) -> Report:
    seen = read(subject)
    places, notes = _removable(subject, seen, how)
    removal = Removal(subject, how)
    values = {name: found.tolist() for name, found in _values(seen, wanted, notes).items()}
    values["leave_one_out"] = _one_out(removal, places, len(subject.tokens))
    scores, chance = _tested(values, places, removal, samples, seed)
    tested = None
    if links and len(subject.tokens) <= MOST_TOKENS:
        tested = links_tested(removal, seen.layers, seen.log_odds, samples, seed)
    elif links:
        notes.append(f"links are tested in texts of up to {MOST_TOKENS} tokens; this one has {len(subject.tokens):,}")
    return Report(
        model=type(subject.model).__name__,
        tokens=subject.tokens,
        target=subject.name,
        probability=probability(seen.log_odds),
        verdict=_verdict(scores, seen.reaches),
        scores=scores,
        random=tuple(chance),
        links=tested,
        how=how,
        replacement=subject.stands if how == "replace" else None,
        reaches=seen.reaches,
        notes=tuple(notes),
    )


def _methods(methods: Iterable[str] | None) -> set[str]:
    if methods is None:
        return set(LABELS)
    wanted = set([methods] if isinstance(methods, str) else methods)
    if unknown := wanted - set(LABELS):
        raise FaithfulError(f"unknown method {sorted(unknown)[0]!r}; expected some of {', '.join(LABELS)}")
    return wanted


def _subject(
    model: nn.Module,
    text: Any,
    target: Any,
    tokenizer: Any,
    predict: Any,
    tokens: Any,
    labels: Any,
    replacement: Any,
) -> Subject:
    with torch.no_grad():
        if predict is not None:
            return own(model, text, target, predict, tokenizer, tokens, labels, replacement)
        if not hasattr(getattr(model, "config", None), "model_type"):
            raise FaithfulError(
                "of a model that is none of transformers', predict= must say how to ask it: a function of ids "
                "(batch, tokens) that gives logits (batch, classes)"
            )
        if tokens is not None or labels is not None:
            raise FaithfulError("tokens and labels of a transformers model are its tokenizer's and configuration's")
        return of_hub(model, text, target, tokenizer, replacement)


def _keeping(subject: Subject, keep: Iterable[int]) -> Subject:
    count, special = len(subject.tokens), list(subject.special)
    for place in keep:
        if not 0 <= whole(place, "a place to keep") < count:
            raise FaithfulError(f"keep holds places of the {count} tokens, 0 to {count - 1}; got {place}")
        special[place] = True
    return replace(subject, special=tuple(special))


def _how(how: str | None, subject: Subject) -> str:
    if how is None:
        return "hide" if subject.hidden is None else "replace"
    if how not in HOW:
        raise FaithfulError(f"unknown how {how!r}; expected 'replace' or 'hide'")
    if how == "replace" and subject.hidden is None:
        raise FaithfulError("how='replace' needs a replacement=: the tokenizer has no mask or unknown token")
    return how


def _removable(subject: Subject, seen: Pass, how: str) -> tuple[Order, list[str]]:
    """The places of tokens that are removed, and what to know about them.

    Raises:
        FaithfulError: there are fewer than two.
    """
    places, notes = [place for place, special in enumerate(subject.special) if not special], []
    if how == "hide" and seen.layers[-1].among_tokens:
        predicting = seen.rows_Q.nonzero()[:, 0].tolist()
        if len(predicting) > 1:
            notes.append(
                "the prediction is made from several tokens at once, and what is hidden from others is still among "
                "them; a replacement= would take it out"
            )
        elif predicting[0] in places:
            places.remove(predicting[0])
            notes.append(f"the prediction is made at {subject.tokens[predicting[0]]!r}, which is not removed")
    if len(places) < 2:
        raise FaithfulError(f"a report needs at least two tokens that can be removed; the text has {len(places)}")
    if not seen.reaches:
        notes.append("no gradient reaches attention, so its weights were read for all queries of the last layer")
    return tuple(places), notes


def _values(seen: Pass, wanted: set[str], notes: list[str]) -> dict[str, Tensor]:
    """Scores (N,) by name, but leaving one out; why some are left out is added to `notes`."""
    layers, rows_Q = seen.layers, seen.rows_Q
    many = len(layers) > 1 and all(layer.among_tokens for layer in layers)
    makers: dict[str, Callable[[], Tensor]] = {"attention": lambda: attended(layers[-1], rows_Q)}
    if many:
        makers["attention_mean"] = lambda: torch.stack([attended(layer, rows_Q) for layer in layers]).mean(0)
    if all(layer.among_tokens for layer in layers[:-1]):
        makers["rollout"] = lambda: rolled([layer.weights for layer in layers], rows_Q)
        if pipes(layers) <= MOST_PIPES:
            makers["flow"] = lambda: flow(layers, rows_Q)
        elif "flow" in wanted:
            notes.append(f"attention flow is for graphs of up to {MOST_PIPES:,} pipes; this one has {pipes(layers):,}")
    makers["value_norm"] = lambda: value_norms(layers[-1], rows_Q)
    if many:
        makers["value_norm_mean"] = lambda: torch.stack([value_norms(layer, rows_Q) for layer in layers]).mean(0)
    makers["gradient_attention"] = lambda: gradient_weighted(layers)
    unknown = [layer.name for layer in layers if layer.projection_HVE is None]
    if unknown and wanted & {"value_norm", "value_norm_mean"}:
        notes.append(f"value norms are of the heads' outputs: the projection that follows {unknown[0]} is not known")
    if seen.gradient_NE is not None and seen.embedded_NE is not None:
        embedded_NE, gradient_NE = seen.embedded_NE.double(), seen.gradient_NE.double()
        makers["gradient_norm"] = lambda: gradient_NE.norm(dim=-1)
        makers["gradient_input"] = lambda: (gradient_NE * embedded_NE).sum(-1)
    elif wanted & {"gradient_norm", "gradient_input"}:
        notes.append("gradients of the input are left out: no nn.Embedding was given the ids as they are")
    always = {"attention", "attention_mean"}
    return {name: make() for name, make in makers.items() if name in wanted | always}


def _one_out(removal: Removal, places: Order, count: int) -> list[float]:
    whole, *without = removal.without([frozenset(), *(frozenset([place]) for place in places)])
    found = [0.0] * count
    for place, log_odds in zip(places, without, strict=True):
        found[place] = whole - log_odds
    return found


def _tested(
    values: dict[str, list[float]], places: Order, removal: Removal, samples: int, seed: int
) -> tuple[dict[str, Score], list[Curve]]:
    """Every score, put to the test, and as many random orders."""
    draw = random.Random(seed)
    chance = [tuple(draw.sample(places, len(places))) for _ in range(samples)]
    ties = draw.sample(places, len(places))  # equal scores in random order, so that no place in the text is favoured
    orders = {name: tuple(sorted(ties, key=lambda place: -found[place])) for name, found in values.items()}
    found = curves([*orders.values(), *chance], how_many(len(places)), removal.without)
    by_name, by_chance = dict(zip(orders, found, strict=False)), found[len(orders) :]
    gradients = [by_name[name] for name in ("gradient_norm", "gradient_input") if name in by_name]
    gradients = gradients or [by_name["leave_one_out"]]
    some = moved(found)
    reference = [values["leave_one_out"][place] for place in places]
    scores = {
        name: Score(
            name,
            tuple(number if place in set(places) else None for place, number in enumerate(numbers)),
            orders[name],
            by_name[name],
            _in_order([numbers[place] for place in places], reference),
            judge(by_name[name], by_chance, gradients) if some else "cannot tell",
        )
        for name, numbers in values.items()
    }
    return scores, by_chance


def _in_order(a: list[float], b: list[float]) -> float | None:
    """How far two scores order tokens alike; None where one of them tells none apart."""
    found = spearman(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64))
    return None if math.isnan(found) else found


def _verdict(scores: dict[str, Score], reaches: bool) -> Verdict:
    plain = [scores[name].verdict for name in ("attention", "attention_mean") if name in scores]
    references = [
        scores[name].verdict for name in ("gradient_norm", "gradient_input", "leave_one_out") if name in scores
    ]
    return overall(max(plain, key=RANKS.index), references, reaches)
