"""How attention is computed while a model learns on a CPU in half precision."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from typing_extensions import override

# Up to so many keys the plain products are faster, forwards and backwards together.
FEW_KEYS = 32


class SinglePrecisionAttention(TorchFunctionMode):
    """Computes attention in fp32 while the rest is in half precision.

    The fused attention of torch's CPU build is slow backwards in bf16, and the plain products
    are slow over many places in any precision: (24, 4, 256, 16) takes 89 ms by plain products in
    bf16, 60 ms fused in bf16, 31 ms fused in fp32, on one core of an AMD EPYC.
    """

    @override
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        """Run ``func``; attention in fp32 with its result as half as its query was."""
        named = dict(kwargs or {})
        if func is not F.scaled_dot_product_attention:
            return func(*args, **named)
        query, key = args[0], args[1]
        backend = SDPBackend.MATH if key.shape[-2] <= FEW_KEYS else SDPBackend.FLASH_ATTENTION
        with torch.autocast("cpu", enabled=False), sdpa_kernel([backend, SDPBackend.MATH]):
            single = [_single(part) for part in args]
            attended = func(*single, **{name: _single(value) for name, value in named.items()})
        return attended.to(query.dtype)


def _single(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
