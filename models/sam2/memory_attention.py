"""Conditions a frame's features on the memories of each object."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from models.common.attention import Attention, key_mask, merge_heads, split_heads
from models.common.positional import axial_rotary_table, rotate, sine_grid
from models.sam2.config import TrackerConfig

POSITION_WEIGHT = 0.1
# Elements of the keys that a CPU handles at once (16 MiB in fp32). Larger tensors do not come from
# the heap but are mapped anew each time, which costs more than a larger batch gains.
CPU_ELEMENTS = 2**22


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTokens:
    """Memories of B objects, padded to one length.

    Attributes:
        tokens: Shape (B, K, memory_dim): ``num_maps`` maps of g * g tokens, then pointer tokens.
        pos: Position code, same shape.
        num_maps: Maps per object, those that are only padding included.
        is_valid: Shape (B, K), bool, false for padding; ``None`` when there is none.
    """

    tokens: Tensor
    pos: Tensor
    num_maps: int
    is_valid: Tensor | None

    def parts(self, map_tokens: int, most_tokens: int) -> "list[tuple[list[int], MemoryTokens]]":
        """Cut into parts without padding: of objects that remember as much as each other.

        Args:
            map_tokens: Tokens of a map.
            most_tokens: Most tokens of a part of more than one object.

        Returns:
            The objects of each part, and what they remember.
        """
        count, length = self.tokens.shape[0], self.num_maps * map_tokens
        like: dict[tuple[int, int], list[int]] = {}
        if self.is_valid is None:
            like[length, self.tokens.shape[1] - length] = list(range(count))
        else:
            held = zip(
                self.is_valid[:, :length].sum(1).tolist(),
                self.is_valid[:, length:].sum(1).tolist(),
                strict=True,
            )
            for row, sizes in enumerate(held):
                like.setdefault(sizes, []).append(row)
        found: list[tuple[list[int], MemoryTokens]] = []
        for (in_maps, in_pointers), rows in like.items():
            size = max(1, most_tokens // max(in_maps + in_pointers, 1))
            for first in range(0, len(rows), size):
                part = rows[first : first + size]
                found.append((part, self._without_padding(part, length, in_maps, in_pointers)))
        return found

    def _without_padding(
        self, rows: list[int], length: int, in_maps: int, in_pointers: int
    ) -> "MemoryTokens":
        """Choose objects of which so many tokens are real; ``length`` are those of maps in all."""
        tokens, pos = (
            torch.cat((x[:, :in_maps], x[:, length : length + in_pointers]), dim=1)
            for x in (self.tokens[rows], self.pos[rows])
        )
        num_maps = self.num_maps * in_maps // max(length, 1)
        return MemoryTokens(tokens=tokens, pos=pos, num_maps=num_maps, is_valid=None)


class MemoryAttentionLayer(nn.Module):
    """Self-attention, cross-attention to memory and a feed-forward, each after its own norm."""

    def __init__(self, config: TrackerConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.self_attn = Attention(dim, 1)
        self.cross_attn_image = Attention(dim, 1, kv_dim=config.memory_dim)
        self.linear1 = nn.Linear(dim, config.memory_attention_mlp_dim)
        self.linear2 = nn.Linear(config.memory_attention_mlp_dim, dim)
        self.layer_norm1 = nn.LayerNorm(dim)
        self.layer_norm2 = nn.LayerNorm(dim)
        self.layer_norm3 = nn.LayerNorm(dim)

    def attend_self(self, x: Tensor, table: Tensor) -> Tensor:
        """First third of the layer; does not depend on the object."""
        attn, normed = self.self_attn, self.layer_norm1(x)
        query = rotate(split_heads(attn.q_proj(normed), 1), table)
        key = rotate(split_heads(attn.k_proj(normed), 1), table)
        value = split_heads(attn.v_proj(normed), 1)
        return x + attn.o_proj(merge_heads(F.scaled_dot_product_attention(query, key, value)))

    def attend_memory(self, x: Tensor, memory: MemoryTokens, table: Tensor) -> Tensor:
        """Second third: spatial keys are rotated map by map, pointer keys are not rotated."""
        attn = self.cross_attn_image
        query = rotate(split_heads(attn.q_proj(self.layer_norm2(x)), 1), table)
        key = split_heads(attn.k_proj(memory.tokens + memory.pos), 1)
        value = split_heads(attn.v_proj(memory.tokens), 1)
        length = x.shape[1] * memory.num_maps
        maps = rotate(key[:, :, :length].unflatten(2, (memory.num_maps, -1)), table).flatten(2, 3)
        key = torch.cat([maps, key[:, :, length:]], dim=2)
        seen = F.scaled_dot_product_attention(
            query, key, value, attn_mask=key_mask(memory.is_valid)
        )
        return x + attn.o_proj(merge_heads(seen))

    def feed_forward(self, x: Tensor) -> Tensor:
        """Last third."""
        return x + self.linear2(F.relu(self.linear1(self.layer_norm3(x))))


class MemoryAttention(nn.Module):
    """Stack of memory attention layers."""

    def __init__(self, config: TrackerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            MemoryAttentionLayer(config) for _ in range(config.memory_attention_layers)
        )
        self.layer_norm = nn.LayerNorm(config.hidden_dim)

    @override
    def forward(self, features: Tensor, frame_index: Tensor, memory: MemoryTokens) -> Tensor:
        """Condition the features of B objects' frames.

        Args:
            features: Raw top features of N frames, shape (N, C, g, g).
            frame_index: Frame of each object, shape (B,).
            memory: Memories of the objects, batch B.

        Returns:
            Shape (B, C, g, g).
        """
        channels, grid = features.shape[1], features.shape[-1]
        device = features.device
        table = axial_rotary_table(grid, grid, channels, scale=1.0, device=device)
        place = sine_grid(grid, grid, channels, device).to(features.dtype)
        x = features + POSITION_WEIGHT * place
        x = x.flatten(2).transpose(1, 2)
        # Up to here all objects of a frame are alike, so it is done once per frame.
        x = cast("MemoryAttentionLayer", self.layers[0]).attend_self(x, table)[frame_index]
        if device.type == "cpu" and not torch.compiler.is_compiling():
            # Padding would change the last bits of an object with what others remember.
            parts = memory.parts(grid * grid, CPU_ELEMENTS // channels)
            order = torch.tensor([row for rows, _ in parts for row in rows])
            seen = torch.cat([self._attend(x[rows], tokens, table) for rows, tokens in parts])
            x = seen[order.argsort()]
        else:
            x = self._attend(x, memory, table)
        return x.transpose(1, 2).unflatten(2, (grid, grid))

    def _attend(self, x: Tensor, memory: MemoryTokens, table: Tensor) -> Tensor:
        """Do all that comes after the first self-attention, (B, g * g, C) to the same shape."""
        for number, module in enumerate(self.layers):
            layer = cast("MemoryAttentionLayer", module)
            x = x if number == 0 else layer.attend_self(x, table)
            x = layer.feed_forward(layer.attend_memory(x, memory, table))
        return self.layer_norm(x)
