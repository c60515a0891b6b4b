"""ONNX's attention operators in terms of ours: one adapter per operator, from a node's attributes and inputs.

Axes: B batch, H query heads, G key/value heads, Q queries, K keys (those of the past included), D width, V value width.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import torch
from onnx import ModelProto, helper
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner
from onnx.reference import ReferenceEvaluator
from torch import Tensor

import foveate as fv
import oracle
from foveate.masks import Mask

FAR = 1 << 20  # beyond any key


class NotExpressibleError(Exception):
    """Something that an ONNX operator asks for and foveate does not have."""


@dataclass(frozen=True)
class Case:
    """One test of ONNX: a model of one node, what goes in by name, what must come out."""

    name: str
    model: ModelProto
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    rtol: float
    atol: float

    @property
    def op(self) -> str:
        return self.model.graph.node[0].op_type

    def given(self) -> dict[str, Any]:
        """Attributes, and inputs by the names that the operator's schema gives them."""
        node = self.model.graph.node[0]
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        tensors = dict(zip([i.name for i in self.model.graph.input], map(_tensor, self.inputs), strict=True))
        return attributes | {name: tensors[name] for name in node.input if name}

    def check(self, found: dict[str, Tensor]) -> None:
        """By ONNX's own comparison. Where it computes in float16, its tolerance is less than the rounding of its own
        numbers; as it does for bfloat16, two units in the last place are allowed, but then ours must be no worse."""
        theirs = dict(zip([o.name for o in self.model.graph.output], self.outputs, strict=True))
        ours = [_array(found[name], o) for name, o in theirs.items()]
        rtol = max(self.rtol, *(2 * float(ml_dtypes.finfo(o.dtype).eps) for o in self.outputs))
        Runner.assert_similar_outputs(self.outputs, ours, rtol=rtol, atol=self.atol)
        if self.outputs[0].dtype.itemsize == 2:
            exact = ADAPTERS[self.op](**{k: v.double() if _is_real(v) else v for k, v in self.given().items()})
            for name, o in theirs.items():
                oracle.as_good_as(found[name], _tensor(o), exact[name])


@functools.cache
def cases(op: str) -> dict[str, Case]:
    """All tests of an operator that ONNX ships, by name; those of its expansion into other operators left out."""
    return {name: case for name, case in _all_cases().items() if case.op == op}


@functools.cache
def _all_cases() -> dict[str, Case]:
    found = {}
    with warnings.catch_warnings():  # casts that overflow on purpose, in tests of other operators
        warnings.simplefilter("ignore")
        tests = load_model_tests(kind="node")
    for t in tests:
        if "_expanded" in t.name or t.model.graph.node[0].op_type not in ADAPTERS:
            continue
        ((inputs, outputs),) = t.data_sets
        found[t.name] = Case(t.name, t.model, inputs, outputs, t.rtol, t.atol)
    return found


def run(case: Case, backend: str = "auto") -> None:
    """Compute one case by our operator and compare. Only `fv.attention` has backends.

    Raises:
        NotExpressibleError: foveate has no such thing.
        AssertionError: another result.
    """
    options = {"backend": backend} if case.op in HAVE_BACKENDS else {}
    case.check(ADAPTERS[case.op](**case.given(), **options))


def attention(
    Q: Tensor,
    K: Tensor,
    V: Tensor,
    attn_mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    nonpad_kv_seqlen: Tensor | None = None,
    *,
    scale: float | None = None,
    is_causal: int = 0,
    q_num_heads: int | None = None,
    kv_num_heads: int | None = None,
    softcap: float = 0.0,
    qk_matmul_output_mode: int = 0,
    left_window_size: int = -1,
    right_window_size: int = -1,
    softmax_precision: int = 0,
    backend: str = "auto",
) -> dict[str, Tensor]:
    """`Attention`, opsets 23 to 25. `softmax_precision` asks for nothing: ours is float32 or wider."""
    flat = Q.ndim == 3
    if flat:
        assert q_num_heads is not None and kv_num_heads is not None
        Q, K, V = _unflatten(Q, q_num_heads), _unflatten(K, kv_num_heads), _unflatten(V, kv_num_heads)
    offset: int | Tensor = 0
    if past_key is not None and past_value is not None:
        offset = past_key.shape[2]
        K, V = torch.cat([past_key, K], dim=2), torch.cat([past_value, V], dim=2)
    elif nonpad_kv_seqlen is not None:
        offset = nonpad_kv_seqlen - Q.shape[2]
    bounds = (
        left_window_size if left_window_size >= 0 else None,
        right_window_size if right_window_size >= 0 else None,
    )
    mask = _both(_band(*bounds, offset, Q, K), _band(None, 0, offset, Q, K) if is_causal else None)
    if nonpad_kv_seqlen is not None:
        mask = _both(mask, fv.masks.padding(nonpad_kv_seqlen))
    bias = None
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        mask = _both(mask, fv.masks.tensor(_filled(attn_mask, K.shape[2], False)))
    elif attn_mask is not None:
        bias = _filled(attn_mask, K.shape[2], -torch.inf)
    score = fv.scores.scaled_dot(softcap=softcap or None)
    output, weights = fv.attention(Q, K, V, score=score, scale=scale, mask=mask, bias=bias, backend=backend)
    return {
        "Y": output.transpose(1, 2).flatten(2) if flat else output,
        "present_key": K,
        "present_value": V,
        "qk_matmul_output": _looked_at(weights, qk_matmul_output_mode).to(Q.dtype),
    }


def _looked_at(weights: fv.AttentionMap, mode: int) -> Tensor:
    """0: scaled products; 1: soft-capped; 2: and with bias and mask; 3: the weights."""
    if mode == 3:
        return weights.dense()
    if mode == 2:
        return weights.problem.scores(*(slice(0, n) for n in weights.problem.geometry.shape))
    score = weights.score if mode == 1 else fv.scores.scaled_dot()
    bare = fv.AttentionMap(weights.query, weights.key, score=score, scale=weights.scale)
    return bare.problem.scores(*(slice(0, n) for n in bare.problem.geometry.shape))


def _band(left: int | None, right: int | None, offset: int | Tensor, Q: Tensor, K: Tensor) -> Mask | None:
    """Keys from `left` before to `right` after a query, query i being at key position i + offset, one for each sequence
    or one for all; None: no limit."""
    if left is None and right is None:
        return None
    given = isinstance(offset, Tensor) or offset != K.shape[2] - Q.shape[2]
    where = {"offset": offset} if given else {}
    if (left, right) != (None, 0):
        return fv.masks.window(FAR if left is None else left, FAR if right is None else right, **where)
    if not isinstance(offset, Tensor) and offset == 0:
        return fv.masks.causal(align="start")
    return fv.masks.causal(**where)


def flex_attention(
    Q: Tensor,
    K: Tensor,
    V: Tensor,
    *,
    scale: float | None = None,
    score_mod: Any = None,
    prob_mod: Any = None,
    softmax_precision: int = 0,
    backend: str = "auto",
) -> dict[str, Tensor]:
    """`FlexAttention` (preview). A `score_mod` that adds or hides is a bias, one that asks for no place is a score."""
    if prob_mod is not None:
        raise NotExpressibleError("a function of the weights after normalising")
    attend = functools.partial(fv.attention, Q, K, V, backend=backend)
    if score_mod is None:
        return {"Y": attend(scale=scale)[0]}
    mod = _graph(score_mod)
    zero = torch.zeros(*Q.shape[:3], K.shape[2])
    bias = mod(zero)
    if torch.allclose(mod(zero + 1.75), bias + 1.75):
        return {"Y": attend(scale=scale, bias=bias)[0]}
    if not bool((bias == bias.flatten()[0]).all()):
        raise NotExpressibleError("a function of scores and places together that does not just add")
    factor = Q.shape[-1] ** -0.5 if scale is None else scale
    return {"Y": attend(score=lambda q, k: mod(q @ k.mT * factor))[0]}


def _graph(graph: Any) -> Callable[[Tensor], Tensor]:
    (source,) = (i.name for i in graph.input)
    evaluator = ReferenceEvaluator(graph, opsets={"": 26, "ai.onnx.preview": 1})
    return lambda t: torch.from_numpy(np.asarray(evaluator.run(None, {source: t.numpy()})[0]))


def rotary_embedding(
    input: Tensor,  # the schema's own name
    cos_cache: Tensor,
    sin_cache: Tensor,
    position_ids: Tensor | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> dict[str, Tensor]:
    """`RotaryEmbedding`: (B, H, L, D) or (B, L, H D), tables (B, L, P) or by position (N, P)."""
    x = _unflatten(input, num_heads) if input.ndim == 3 else input
    tables = (t if position_ids is None else t[position_ids] for t in (cos_cache, sin_cache))
    cos, sin = (t[:, None] for t in tables)
    assert 2 * cos.shape[-1] == (rotary_embedding_dim or x.shape[-1])
    turned = fv.positions.rotate(x, cos, sin, pairing="interleaved" if interleaved else "halves")
    return {"output": turned.transpose(1, 2).flatten(2) if input.ndim == 3 else turned}


def linear_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_state: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    q_num_heads: int,
    kv_num_heads: int,
    update_rule: bytes = b"gated_delta",
    scale: float = 0.0,
) -> dict[str, Tensor]:
    """`LinearAttention`: (B, L, H D) in and out, a state (B, G, D, V). Which rule it is follows from decay and beta."""
    assert (decay is not None, beta is not None) == (b"gated" in update_rule, b"delta" in update_rule)
    q, k, v = _unflatten(query, q_num_heads), _unflatten(key, kv_num_heads), _unflatten(value, kv_num_heads)
    if decay is not None:
        decay = _unflatten(decay, kv_num_heads)
        decay = decay.squeeze(-1) if decay.shape[-1] == 1 else decay
    result = fv.linear.run(
        q,
        k,
        v,
        feature_map="identity",
        gate=decay,
        beta=None if beta is None else beta.transpose(1, 2),
        state=past_state,
        normalize=False,
        scale=scale or q.shape[-1] ** -0.5,
    )
    return {"output": result.output.transpose(1, 2).flatten(2), "present_state": result.state.memory.to(q.dtype)}


def _is_real(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def _unflatten(t: Tensor, heads: int) -> Tensor:
    return t.unflatten(-1, (heads, -1)).transpose(1, 2)


def _filled(t: Tensor, keys: int, with_what: float | bool) -> Tensor:
    """A mask that ends early hides the rest; one of size 1 broadcasts."""
    return torch.nn.functional.pad(t, (0, keys - t.shape[-1]), value=with_what)


def _both(a: Mask | None, b: Mask | None) -> Mask | None:
    return b if a is None else a if b is None else a & b


def _tensor(a: np.ndarray) -> Tensor:
    if a.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(a.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(a.copy())


def _array(t: Tensor, like: np.ndarray) -> np.ndarray:
    if t.dtype == torch.bfloat16:
        return t.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return t.numpy()


ADAPTERS: dict[str, Callable[..., dict[str, Tensor]]] = {
    "Attention": attention,
    "FlexAttention": flex_attention,
    "RotaryEmbedding": rotary_embedding,
    "LinearAttention": linear_attention,
}
HAVE_BACKENDS = {"Attention", "FlexAttention"}
