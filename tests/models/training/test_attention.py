import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from models.training.attention import FEW_KEYS, SinglePrecisionAttention


class Types(TorchDispatchMode):
    """Notes the types that attention is computed in."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        if "attention" in name or "softmax" in name or "bmm" in name:
            self.seen |= {part.dtype for part in args if isinstance(part, torch.Tensor)}
        return func(*args, **(kwargs or {}))


def heads(length, *, seed=0):
    torch.manual_seed(seed)
    return torch.randn(2, 4, length, 16).to(torch.bfloat16).requires_grad_()


@pytest.mark.parametrize("keys", [FEW_KEYS, 4 * FEW_KEYS])
@pytest.mark.parametrize("has_mask", [False, True])
def test_half_precision_attention_is_computed_in_single(keys, has_mask):
    query, key, value = heads(40), heads(keys, seed=1), heads(keys, seed=2)
    # A learned bias: it takes a gradient.
    mask = torch.randn(2, 4, 40, keys, dtype=torch.bfloat16).requires_grad_() if has_mask else None
    exact = F.scaled_dot_product_attention(
        *(part.double() for part in (query, key, value)),
        attn_mask=None if mask is None else mask.double(),
    )
    types = Types()
    with types:
        with torch.autocast("cpu", torch.bfloat16), SinglePrecisionAttention():
            found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        found.float().sum().backward()
    assert types.seen - {torch.bool, torch.int64} == {torch.float32}
    assert found.dtype == torch.bfloat16
    # Half a unit in the last place of bf16 (2^-9), of values below 4.
    assert (found.double() - exact).abs().max() <= 4 * 2**-9
    learned = (query, key, value) if mask is None else (query, key, value, mask)
    assert all(bool(part.grad.isfinite().all()) and part.grad.any() for part in learned)


def test_other_functions_are_as_without():
    query = heads(8)
    with SinglePrecisionAttention():
        assert torch.equal(F.gelu(query), F.gelu(query.detach()))
