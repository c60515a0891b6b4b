"""Hugging Face models on our operator: `fv.hf.register()`, then `attn_implementation="foveate"`.

transformers calls a registered function with the module, unpacked heads and whatever the model knows of (scale, soft
cap, sinks, position bias); masks come from the mask function registered under the same name. What is computed is the
model's own eager result, except for rows that may see no key (padding): those read zeros, as everywhere in foveate.

Axes: B batch, H query heads, G key/value heads, Q queries, K keys, D head width, V value width.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from . import masks, normalizers, scores
from .attend import attention as attend
from .map import AttentionMap
from .masks import Mask

__all__ = ["NAME", "attention", "mask_for", "register"]

NAME = "foveate"


def register() -> None:
    """Teach transformers the name "foveate": `from_pretrained(..., attn_implementation="foveate")`.

    Calling it again changes nothing. Models that write their softmax by hand (DeBERTa, Bloom, ...) go on doing so.

    Raises:
        ImportError: transformers is not installed, or older than 5.
    """
    try:
        from transformers import AttentionInterface
        from transformers.masking_utils import AttentionMaskInterface
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "transformers":
            raise
        raise ImportError("fv.hf needs transformers 5 or newer; run: pip install 'foveate[hf]'") from None
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, mask_for)


def attention(
    module: nn.Module,
    query: Float[Tensor, "B H Q D"],
    key: Float[Tensor, "B G K D"],
    value: Float[Tensor, "B G K V"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    s_aux: Float[Tensor, " H"] | None = None,
    position_bias: Tensor | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "B Q H V"], AttentionMap]:
    """The function that is registered: (B, Q, H, V), and in place of the weights an `AttentionMap`.

    So `model(..., output_attentions=True).attentions` are maps: exact, and free until they are looked at.

    Args:
        attention_mask: booleans, True = may attend, or numbers to add, that broadcast to (B, H, Q, K). None: the mask
            is causal if `is_causal`, else the module, says so and there are several queries; those are the first then.
        sliding_window: how many keys a query sees, itself included; heeded where there is no mask, which holds it.
        others: what other implementations take is ignored.

    Raises:
        NotImplementedError: a paged cache (continuous batching), which updates its keys inside the call.
    """
    if others.get("cache") is not None:
        raise NotImplementedError("continuous batching with a paged cache; use attn_implementation='sdpa' for it")
    mask, bias = _read(attention_mask, key.shape[2])
    if attention_mask is None:
        flag = getattr(module, "is_causal", True) if is_causal is None else is_causal
        causal, queries = bool(flag) and query.shape[2] > 1, query.shape[2]
        if causal and queries < key.shape[2]:  # the rest of a static cache, still unused
            key, value = key[:, :, :queries], value[:, :, :queries]
        mask = _unwritten(causal, sliding_window, key.shape[2])
    if position_bias is not None:
        added = position_bias[..., : key.shape[2]]
        bias = added if bias is None else bias + added
    output, weights = attend(
        query,
        key,
        value,
        score=scores.scaled_dot(softcap=softcap),
        scale=scaling,
        mask=mask,
        bias=bias,
        normalizer=normalizers.softmax(sinks=s_aux),
        dropout=dropout if module.training else 0.0,
    )
    return output.transpose(1, 2).contiguous(), weights


def mask_for(*args: Any, config: Any = None, **given: Any) -> Tensor | None:
    """The mask function that is registered: booleans, or None where the causal flag says it all.

    A model that does not declare that others may compute its attention is given the numbers that eager models add to
    their scores, and a warning: if it writes its softmax by hand, booleans would be added too, and silently be wrong.
    """
    from transformers.masking_utils import eager_mask, sdpa_mask

    kind: Any = type(config)
    if config is None or _declares(kind):
        return sdpa_mask(*args, **given)
    told = f"the model of {kind.__name__} does not declare that others may compute its attention; "
    warnings.warn(told + "layers that write their softmax by hand stay as they are", stacklevel=2)
    return eager_mask(*args, **given)


@functools.cache
def _declares(config: type) -> bool:
    """Whether all models of a config class declare that their attention may be computed by others."""
    from transformers import PreTrainedModel

    found, models = list(PreTrainedModel.__subclasses__()), []
    while found:
        kind = found.pop()
        found += kind.__subclasses__()
        if kind.config_class is config:
            models.append(kind)
    return all(kind._supports_sdpa or kind._supports_attention_backend for kind in models)


def _read(table: Tensor | None, keys: int) -> tuple[Mask | None, Tensor | None]:
    """A mask as transformers passes it, as our mask and bias. Numbers at or below their dtype's minimum hide."""
    if table is None:
        return None, None
    table = table[..., :keys]  # some are made for a longer cache
    if table.dtype == torch.bool:
        return masks.tensor(table), None
    hidden = table <= torch.finfo(table.dtype).min
    return masks.tensor(~hidden), table.masked_fill(hidden, 0.0)


def _unwritten(causal: bool, window: int | None, keys: int) -> Mask | None:
    """The mask that transformers leaves unwritten."""
    mask = masks.causal() if causal else None
    if window is None or window >= keys:
        return mask
    band = masks.window(window - 1)
    return band if mask is None else mask & band
