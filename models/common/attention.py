"""Multi-head attention with separate projections."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override


class Attention(nn.Module):
    """Scaled dot-product attention with separate projections, possibly narrower inside.

    Shape legend:
        B batch, L queries, S keys, C channels, N heads.
    """

    def __init__(
        self, dim: int, num_heads: int, *, inner_dim: int | None = None, kv_dim: int | None = None
    ) -> None:
        """Build.

        Args:
            dim: Channels of queries and output.
            num_heads: Number of heads.
            inner_dim: Channels inside, all heads together; ``dim`` when left out.
            kv_dim: Channels of keys and values; ``dim`` when left out.
        """
        super().__init__()
        inner_dim, kv_dim = inner_dim or dim, kv_dim or dim
        if inner_dim % num_heads:
            raise ValueError(f"width {inner_dim!r} is not a multiple of num_heads {num_heads!r}")
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, inner_dim)
        self.k_proj = nn.Linear(kv_dim, inner_dim)
        self.v_proj = nn.Linear(kv_dim, inner_dim)
        self.o_proj = nn.Linear(inner_dim, dim)

    @override
    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Attend.

        Args:
            query: Shape (B, L, C), or (1, L, C) for what all of the batch share.
            key: Shape (B, S, C), or (1, S, C).
            value: Shape (B, S, C), or (1, S, C).
            mask: Broadcastable to (B, N, L, S): bool (true = may attend) or an additive bias.

        Returns:
            Shape (B, L, C).
        """
        q = split_heads(self.q_proj(query), self.num_heads)
        k = split_heads(self.k_proj(key), self.num_heads)
        v = split_heads(self.v_proj(value), self.num_heads)
        if q.shape[0] != k.shape[0]:
            # Projected once, then lent to all.
            batch = max(q.shape[0], k.shape[0])
            q, k, v = (x.expand(batch, -1, -1, -1) for x in (q, k, v))
        return self.o_proj(merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Turn (B, L, C) into (B, N, L, C / N)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(-2, -3)


def merge_heads(x: Tensor) -> Tensor:
    """Turn (B, N, L, D) into (B, L, N * D)."""
    return x.transpose(-2, -3).flatten(-2)


def key_mask(is_valid: Tensor | None) -> Tensor | None:
    """Turn a (B, S) bool mask of valid keys into one that broadcasts over heads and queries."""
    return None if is_valid is None else is_valid[:, None, None, :].to(torch.bool)
