"""A drop-in for `torch.nn.MultiheadAttention` on `foveate.attention`, and how to put it into a model.

Axes: N batch, L queries, S keys, E width of the model, H heads, D = E / H head width.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import masks
from ..attend import attention
from ..masks import Mask
from .parts import merge_heads, split_heads

__all__ = ["TorchMultiheadAttention", "replace"]

Model = TypeVar("Model", bound=nn.Module)


class TorchMultiheadAttention(nn.MultiheadAttention):
    """`torch.nn.MultiheadAttention`: the same arguments, weights (`state_dict`), signature and results.

    Three things differ. A query that sees no key reads zeros, where PyTorch gives NaN. Weights are given out as they
    are before dropout. And PyTorch's fused inference path is not taken, also inside `nn.TransformerEncoder`, so that
    what is watched is what runs.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._decline_fused_path()

    def _decline_fused_path(self) -> None:
        # nn.TransformerEncoder(Layer) runs its fused path, which calls no module, only where this says True
        self._qkv_same_embed_dim = False

    def _reset_parameters(self) -> None:
        self._qkv_same_embed_dim = self.in_proj_weight is not None
        super()._reset_parameters()
        self._decline_fused_path()

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `torch.nn.MultiheadAttention.forward`; in both masks True hides.

        Raises:
            ValueError: shapes that do not fit, nested tensors, or `is_causal` without the mask that it hints at.
        """
        self._check(query, key, value)
        if is_causal and attn_mask is None:
            raise ValueError("is_causal is a hint about attn_mask: give that too, or use fv.nn.MultiHeadAttention")
        q, k, v = self._project(query, key, value)
        mask: Mask | None = None
        bias: Tensor | None = None
        if is_causal and key_padding_mask is None and not need_weights:  # as PyTorch: the hint is taken at its word
            mask = masks.causal(align="start")
        else:
            mask, bias = self._hidden(
                attn_mask, key_padding_mask, (len(q), q.shape[2], key.shape[self._length_axis(key)])
            )
        dropout = self.dropout if self.training else 0.0
        out_NHLD, weights = attention(q, k, v, mask=mask, bias=bias, dropout=dropout)
        out = self._as_given(self.out_proj(merge_heads(out_NHLD)), query)
        if not need_weights:
            return out, None
        shown = weights.dense(limit=1 << 62)
        shown = shown.mean(dim=1) if average_attn_weights else shown
        return out, shown if query.dim() == 3 else shown[0]

    def _length_axis(self, x: Tensor) -> int:
        return 1 if self.batch_first and x.dim() == 3 else 0

    def _batch_first(self, x: Tensor) -> Tensor:
        """(L, E), (L, N, E) or (N, L, E) -> (N, L, E)."""
        return x[None] if x.dim() == 2 else x if self.batch_first else x.transpose(0, 1)

    def _as_given(self, out_NLE: Tensor, query: Tensor) -> Tensor:
        """The other way round."""
        return out_NLE[0] if query.dim() == 2 else out_NLE if self.batch_first else out_NLE.transpose(0, 1)

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Inputs -> (N, H, L, D) and twice (N, H, S, D), S counting what the module appends."""
        w, b = self.in_proj_weight, self.in_proj_bias
        x = self._batch_first(query)
        if w is not None and key is query and value is query:
            made = F.linear(x, w, b).chunk(3, dim=-1)
        else:
            inputs = x, self._batch_first(key), self._batch_first(value)
            weights = w.chunk(3) if w is not None else (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
            biases = (None,) * 3 if b is None else b.chunk(3)
            made = tuple(F.linear(*parts) for parts in zip(inputs, weights, biases, strict=True))
        q, k, v = made
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (
                torch.cat([t, more.expand(len(t), 1, -1)], dim=1) for t, more in ((k, self.bias_k), (v, self.bias_v))
            )
        if self.add_zero_attn:
            k, v = (F.pad(t, (0, 0, 0, 1)) for t in (k, v))
        return [split_heads(t, self.num_heads) for t in (q, k, v)]

    def _hidden(
        self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, sizes: tuple[int, int, int]
    ) -> tuple[Mask | None, Tensor | None]:
        """Both masks as ours: booleans, turned round, and numbers to add. What the module appends is visible."""
        n, length, keys = sizes
        mask: Mask | None = None
        bias: Tensor | None = None
        extra = int(self.bias_k is not None) + int(self.add_zero_attn)
        for name, t in (("attn_mask", attn_mask), ("key_padding_mask", key_padding_mask)):
            if t is None:
                continue
            fits: tuple[tuple[int, ...], ...]
            if name == "attn_mask":
                fits = ((length, keys), (n * self.num_heads, length, keys))
                shape = (-1, self.num_heads, length, keys) if t.dim() == 3 else (1, 1, length, keys)
            else:
                fits = ((n, keys), (keys,)) if n == 1 else ((n, keys),)
                shape = (n, 1, 1, keys)
            if tuple(t.shape) not in fits:
                raise ValueError(f"{name} must have shape {' or '.join(map(str, fits))}; got {tuple(t.shape)}")
            t = F.pad(t.reshape(shape), (0, extra))
            if t.dtype == torch.bool:
                mask = masks.tensor(~t) if mask is None else mask & masks.tensor(~t)
            else:
                bias = t if bias is None else bias + t
        return mask, bias

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        if query.is_nested or key.is_nested or value.is_nested:
            raise ValueError("nested tensors are not taken; pad them and give a key_padding_mask")
        shapes = ", ".join(str(tuple(t.shape)) for t in (query, key, value))
        if query.dim() not in (2, 3) or {t.dim() for t in (query, key, value)} != {query.dim()}:
            raise ValueError(f"query, key and value must all have 2 axes, or all 3; got {shapes}")
        widths = query.shape[-1], key.shape[-1], value.shape[-1]
        if widths != (self.embed_dim, self.kdim, self.vdim):
            raise ValueError(
                f"query, key and value must be {self.embed_dim}, {self.kdim} and {self.vdim} wide; got {shapes}"
            )


def replace(model: Model) -> Model:
    """Put `TorchMultiheadAttention` in the place of every `nn.MultiheadAttention` of a model; returns the model.

    The modules stay the same objects with the same parameters and hooks, so optimisers and tied weights stay right;
    only what `forward` does changes. Subclasses of `nn.MultiheadAttention` run code of their own and are left alone.
    The fused inference paths of `nn.TransformerEncoder` and its layers are declined from then on.

    Raises:
        ValueError: there is nothing to replace, or a module's forward has been wrapped.
    """
    found = [(path, module) for path, module in model.named_modules() if type(module) is nn.MultiheadAttention]
    for path, module in found:
        if "forward" in module.__dict__:
            raise ValueError(
                f"the forward of {path or 'the model'} has been wrapped; replace before that, or unwrap it"
            )
    for _, module in found:
        module.__class__ = TorchMultiheadAttention
    ours = [module for module in model.modules() if isinstance(module, TorchMultiheadAttention)]
    if not ours:
        raise ValueError(f"{type(model).__name__} holds no nn.MultiheadAttention")
    for own in ours:
        own._decline_fused_path()
    for encoder in model.modules():
        if isinstance(encoder, nn.TransformerEncoder):
            encoder.use_nested_tensor = False  # its other fused path: padding taken out before the layers
    return model
