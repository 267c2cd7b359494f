import pytest
import torch
from torch.nn import functional as F

from models.training.attention import FEW_KEYS, SinglePrecisionAttention


def heads(length, *, dtype=torch.bfloat16, seed=0):
    torch.manual_seed(seed)
    return torch.randn(2, 4, length, 16).to(dtype).requires_grad_()


@pytest.mark.parametrize("keys", [FEW_KEYS, 4 * FEW_KEYS])
@pytest.mark.parametrize("has_mask", [False, True])
def test_half_precision_attention_is_as_exact_as_its_inputs(keys, has_mask):
    query, key, value = heads(40), heads(keys, seed=1), heads(keys, seed=2)
    mask = torch.randn(2, 4, 40, keys, dtype=torch.bfloat16) if has_mask else None
    exact = F.scaled_dot_product_attention(
        *(part.double() for part in (query, key, value)),
        attn_mask=None if mask is None else mask.double(),
    )
    with torch.autocast("cpu", torch.bfloat16), SinglePrecisionAttention():
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    assert found.dtype == torch.bfloat16
    # Half a unit in the last place of bf16 (2^-9), of values below 4.
    assert (found.double() - exact).abs().max() <= 4 * 2**-9
    found.float().sum().backward()
    assert all(bool(part.grad.isfinite().all()) for part in (query, key, value))


def test_other_functions_and_single_precision_are_as_without():
    query = heads(8, dtype=torch.float32)
    plain = F.scaled_dot_product_attention(query, query, query, is_causal=True)
    with SinglePrecisionAttention():
        same = F.scaled_dot_product_attention(query, query, query, is_causal=True)
        assert torch.equal(F.gelu(query), F.gelu(query.detach()))
    torch.testing.assert_close(same, plain, rtol=1e-6, atol=1e-6)
