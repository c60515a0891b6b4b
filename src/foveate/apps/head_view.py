"""`fv.head_view`: the page for people who come from bertviz, with the arguments that they know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foveate.apps.viewing import Attention, source_of, view
from foveate.map import AttentionMap
from foveate.views.document import Document, Focus
from foveate.views.given import recording_of, tables_of
from foveate.views.source import Source
from foveate.views.texts import TokenLists
from foveate.views.words import Tokens, from_pieces, from_words

__all__ = ["head_view"]


def head_view(
    attention: Attention | None = None,
    tokens: TokenLists = None,
    sentence_b_start: int | None = None,
    prettify_tokens: bool = True,
    layer: int | None = None,
    heads: int | Sequence[int] | None = None,
    encoder_attention: Any = None,
    decoder_attention: Any = None,
    cross_attention: Any = None,
    encoder_tokens: TokenLists = None,
    decoder_tokens: TokenLists = None,
    include_layers: Sequence[int] | None = None,
    html_action: str = "view",
) -> Any:
    """Show attention, called as bertviz's `head_view` is: a widget in a notebook, elsewhere a local page.

    Args:
        attention: a recording, an AttentionMap, or weights as numbers: for each layer a tensor (B, H, Q, K), as
            Hugging Face's `outputs.attentions`, or one tensor. Rows need not sum to 1.
        tokens: the tokens of the sequence, or of each sequence of the batch; a recording brings its own.
        sentence_b_start: the number of the token that a second text begins with; the page says where it begins.
        prettify_tokens: take off the marks of tokenizers (`##ing`, `Ġcat`) and show which pieces are one word.
        layer, heads: what to show first, by their numbers. Several heads are shown together.
        encoder_attention, decoder_attention, cross_attention: in the place of `attention`, those of an
            encoder-decoder, as numbers, with `encoder_tokens` and `decoder_tokens`.
        include_layers: the numbers of the layers to show, of weights that are given as numbers.
        html_action: "view". `fv.export_html` writes a page into a file.

    Returns:
        What `fv.view` returns.

    Raises:
        ValueError: arguments that do not go together, or numbers of layers, heads or tokens that do not exist.
    """
    if html_action != "view":
        raise ValueError(f"html_action must be 'view'; got {html_action!r}; fv.export_html(...) writes a page")
    sides = {"encoder": encoder_attention, "decoder": decoder_attention, "cross": cross_attention}
    sides = {kind: weights for kind, weights in sides.items() if weights is not None}
    if (attention is None) == (not sides):
        raise ValueError("give attention, or some of encoder_attention, decoder_attention and cross_attention")
    if attention is not None:
        _refuse("attention goes with tokens", encoder_tokens=encoder_tokens, decoder_tokens=decoder_tokens)
        texts: tuple[TokenLists, TokenLists] = (tokens, None)
        seen = _chosen(attention, include_layers)
    else:
        _refuse("encoder_attention, ... go with encoder_tokens and decoder_tokens", tokens=tokens)
        texts = (decoder_tokens, None) if list(sides) == ["decoder"] else (encoder_tokens, decoder_tokens)
        tables = {kind: tables_of(weights, f"{kind}_attention") for kind, weights in sides.items()}
        seen = _recorded(tables, include_layers)
    if not prettify_tokens:
        texts = _as_they_are(texts[0]), _as_they_are(texts[1])
    source = source_of(seen, *texts)
    document = source.document()
    focus = _focus(document, layer, heads, include_layers)
    notes = document.notes if sentence_b_start is None else (*document.notes, _second(document, sentence_b_start))
    return view(source.with_answer(document.message, focus, notes=notes))


def _refuse(rule: str, **given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{rule}; leave out {name}")


def _chosen(attention: Attention, include_layers: Sequence[int] | None) -> Attention:
    if isinstance(attention, Source | AttentionMap | Mapping):
        rule = "include_layers goes with weights that are given as numbers; of a model, fv.watch(model, layers) chooses"
        _refuse(rule, include_layers=include_layers)
        return attention
    return _recorded({"": tables_of(attention)}, include_layers)


def _recorded(tables: dict[str, Any], include_layers: Sequence[int] | None) -> Any:
    if include_layers is not None:
        for layers in tables.values():
            for number in include_layers:
                _exists("include_layers", number, range(len(layers)))
        tables = {kind: [layers[number] for number in include_layers] for kind, layers in tables.items()}
    return recording_of(tables, include_layers)


def _as_they_are(tokens: TokenLists) -> TokenLists:
    if tokens is None or isinstance(tokens, Tokens):
        return tokens
    if all(isinstance(token, str) for token in tokens):
        return _marked(tokens)  # type: ignore[arg-type]
    return [one if isinstance(one, Tokens) else _marked(one) for one in tokens]


def _marked(tokens: Sequence[str]) -> Tokens:
    """Tokens as the tokenizer writes them, each a word of its own."""
    words = from_words(tokens)
    return Tokens(words.text, words.word, from_pieces(tokens).special)


def _focus(
    document: Document, layer: int | None, heads: int | Sequence[int] | None, include_layers: Sequence[int] | None
) -> Focus | None:
    if layer is None and heads is None:
        return None
    kind = "cross" if any(call.kind == "cross" for call in document.calls) else document.calls[0].kind
    calls = [call for call in document.calls if call.kind == kind]
    numbers = range(len(calls)) if include_layers is None else include_layers
    number = numbers[0] if layer is None else layer
    _exists("layer", number, numbers)
    call = calls[list(numbers).index(number)]
    chosen = None if heads is None else [heads] if isinstance(heads, int) else list(heads)
    names = [call.number_of(head) for head in range(call.heads)]
    for head in chosen or ():
        _exists("heads", head, names)
    places = [names.index(head) for head in chosen or names[:1]]
    if len(places) == 1:
        return Focus(None, call.index, places[0], level="token")
    return Focus(None, call.index, None, level="token", heads=tuple(places))


def _exists(name: str, number: Any, numbers: Sequence[int]) -> None:
    if isinstance(number, bool) or number not in numbers:
        there = f"{numbers[0]} to {numbers[-1]}" if isinstance(numbers, range) else ", ".join(map(str, numbers))
        raise ValueError(f"{name}: there is no {number!r}; there are {there}")


def _second(document: Document, start: int) -> str:
    text = document.sequences[0].source.text
    if isinstance(start, bool) or not isinstance(start, int) or not 0 < start < len(text):
        raise ValueError(f"sentence_b_start must be a token from 1 to {len(text) - 1}; got {start!r}")
    return f"The second text begins with token {start}, “{text[start]}”."
