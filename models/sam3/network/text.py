"""Text encoder of SAM 3: a causal transformer as CLIP's (Radford et al., 2021, section 2.4).

Shape legend:
    P phrases, T tokens (the context length), C text width, D detector width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from models.common.attention import merge_heads, split_heads
from models.common.mlp import FeedForward
from models.sam3.network.config import TextConfig

PAD_TOKEN = 0


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class TextFeatures:
    """Encoded phrases.

    Attributes:
        tokens: Shape (P, T, D).
        is_valid: Shape (P, T), bool; false where the text is padded.
    """

    tokens: Tensor
    is_valid: Tensor

    def select(self, index: Tensor) -> Self:
        """Repeat or reorder the phrases by an index of shape (B,)."""
        return type(self)(tokens=self.tokens[index], is_valid=self.is_valid[index])

    def extend(self, other: Self) -> Self:
        """Let each phrase go on with the tokens of another, (P, U, D), to (P, T + U, D)."""
        return type(self)(
            tokens=torch.cat((self.tokens, other.tokens), dim=1),
            is_valid=torch.cat((self.is_valid, other.is_valid), dim=1),
        )

    def newest(self, count: int) -> Self:
        """Keep the last ``count`` tokens of each phrase at most."""
        return type(self)(tokens=self.tokens[:, -count:], is_valid=self.is_valid[:, -count:])

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Put phrases of several one after another, padded to the longest."""
        longest = max(part.tokens.shape[1] for part in parts)
        missing = [longest - part.tokens.shape[1] for part in parts]
        return cls(
            tokens=torch.cat(
                [F.pad(p.tokens, (0, 0, 0, n)) for p, n in zip(parts, missing, strict=True)]
            ),
            is_valid=torch.cat(
                [F.pad(p.is_valid, (0, n)) for p, n in zip(parts, missing, strict=True)]
            ),
        )


class TextAttention(nn.Module):
    """Causal self-attention; its output projection is called ``out_proj`` in the checkpoints."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q_proj = nn.Linear(config.dim, config.dim)
        self.k_proj = nn.Linear(config.dim, config.dim)
        self.v_proj = nn.Linear(config.dim, config.dim)
        self.out_proj = nn.Linear(config.dim, config.dim)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Attend to earlier tokens only, (P, T, C) to (P, T, C)."""
        q, k, v = (
            split_heads(layer(x), self.num_heads)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(merge_heads(F.scaled_dot_product_attention(q, k, v, is_causal=True)))


class TextBlock(nn.Module):
    """Pre-norm block with exact GELU."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.dim)
        self.self_attn = TextAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.dim)
        self.mlp = FeedForward(config.dim, config.mlp_dim, nn.GELU)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Map (P, T, C) to the same shape."""
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class TextEmbeddings(nn.Module):
    """Token plus learned position."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.dim)
        self.position_embedding = nn.Embedding(config.context_length, config.dim)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.01)

    @override
    def forward(self, token_ids: Tensor) -> Tensor:
        """Map (P, T) to (P, T, C)."""
        return (
            self.token_embedding(token_ids) + self.position_embedding.weight[: token_ids.shape[1]]
        )


class TextStack(nn.Module):
    """The blocks, under the name the checkpoints give them."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TextBlock(config) for _ in range(config.num_blocks))

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Map (P, T, C) to the same shape."""
        for layer in self.layers:
            x = layer(x)
        return x


class TextTransformer(nn.Module):
    """Embeddings, blocks and the final norm."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.embeddings = TextEmbeddings(config)
        self.encoder = TextStack(config)
        self.final_layer_norm = nn.LayerNorm(config.dim)

    @override
    def forward(self, token_ids: Tensor) -> Tensor:
        """Map (P, T) to (P, T, C)."""
        return self.final_layer_norm(self.encoder(self.embeddings(token_ids)))


class TextEncoder(nn.Module):
    """Transformer with CLIP's pooled projection, which is in checkpoints and never read."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.text_model = TextTransformer(config)
        self.text_projection = nn.Linear(config.dim, config.projection_dim, bias=False)

    @override
    def forward(self, token_ids: Tensor) -> Tensor:
        """Map (P, T) to (P, T, C)."""
        return self.text_model(token_ids)


def valid_tokens(token_ids: Tensor) -> Tensor:
    """Tell which tokens are not padding.

    A literal token 0 inside a phrase is masked too, as in training.
    """
    return torch.ne(token_ids, PAD_TOKEN)
