"""PyTorch's own samples of scaled_dot_product_attention: output and gradients against PyTorch's own plain formula."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import foveate as fv
import oracle

with warnings.catch_warnings():  # torch's own, while it collects the samples of all its operators
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

(INFO,) = [op for op in op_db if op.name == "nn.functional.scaled_dot_product_attention"]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def ours(backend: str) -> Callable[..., Tensor]:
    def attend(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool, dropout_p: float, attn_mask: Any = None) -> Tensor:
        q = q.reshape((1,) * (k.ndim - q.ndim) + q.shape)  # ours wants as many axes in queries as in keys
        mask = fv.masks.causal(align="start") if is_causal else None
        return fv.attention(q, k, v, mask=mask, bias=attn_mask, dropout=dropout_p, backend=backend)[0]

    return attend


def theirs(*inputs: Tensor, **options: Any) -> Tensor:
    with sdpa_kernel(SDPBackend.MATH):
        return F.scaled_dot_product_attention(*inputs, **options)


def fused(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """PyTorch's own choice among its kernels; only for four axes is the fused one among them."""
    lead = (1, *k.shape[:-3])[-1:]
    four = [t.expand(*lead, *t.shape[-3:]) for t in (q, k, v)]
    return F.scaled_dot_product_attention(*four, scale=q.shape[-1] ** -0.5, **options).reshape(
        *k.shape[:-2], *q.shape[-2:]
    )


def results(attend: Callable[..., Tensor], sample: Any, dtype: torch.dtype) -> list[Tensor]:
    """The output and every gradient; the same weights are dropped whoever computes it."""
    leaves = [t.detach().to(dtype).requires_grad_() for t in (sample.input, *sample.args)]
    options = dict(sample.kwargs)
    if options.get("attn_mask") is not None:
        options["attn_mask"] = options["attn_mask"].detach().to(dtype).requires_grad_()
        leaves.append(options["attn_mask"])
    torch.manual_seed(3)
    out = attend(*leaves[:3], **options)
    weighted = (out * torch.linspace(-1, 1, out.numel()).reshape(out.shape).to(dtype)).sum()
    return [out.detach(), *torch.autograd.grad(weighted, leaves)]


def samples(dtype: torch.dtype) -> list[Any]:
    return list(INFO.sample_inputs("cpu", dtype, requires_grad=True))


@pytest.mark.parametrize("backend", ["auto", "sdpa", "blocks", "reference"])
def test_every_sample_in_double(backend: str) -> None:
    for sample in samples(torch.float64):
        found = zip(*(results(f, sample, torch.float64) for f in (ours(backend), theirs)), strict=True)
        for got, exact in found:
            oracle.close(got, exact)


@pytest.mark.parametrize("backend", ["auto", "sdpa", "blocks", "reference"])
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_as_exact_as_the_plain_formula(dtype: torch.dtype, backend: str) -> None:
    """Over all samples: in a single one, of a few hundred numbers, the plain formula may be exact by luck."""
    errors = torch.zeros(2, 5)  # ours and theirs; output and gradients
    for sample in samples(dtype):
        exact = results(theirs, sample, torch.float64)
        for who, attend in enumerate((ours(backend), theirs)):
            for i, (got, true) in enumerate(zip(results(attend, sample, dtype), exact, strict=True)):
                assert got.dtype == dtype
                errors[who, i] = max(errors[who, i], float((got.double() - true).abs().max()))
    assert (errors[0] <= 2 * errors[1]).all(), errors


@pytest.mark.parametrize("backend", ["auto", "sdpa"])
@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.itemsize > 2], ids=str)
def test_the_fused_kernel_gets_what_it_should(dtype: torch.dtype, backend: str) -> None:
    """Short rows in half precision, all samples are such, are handed over in float32: the test above is about them."""
    for sample in samples(dtype):
        found = results(ours(backend), sample, dtype), results(fused, sample, dtype)
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_samples_are_those_that_were_read() -> None:
    assert set(DTYPES) == set(INFO.dtypes)
    assert [len(samples(dtype)) for dtype in DTYPES] == [25] * 4
