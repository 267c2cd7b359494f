"""DETR decoder of SAM 3 with its presence token, and the score of each query (section 3).

Shape legend:
    L layers, B (image, concept) pairs, Q queries, D channels, G tokens along a side,
    T prompt tokens.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from models.common.attention import Attention, key_mask
from models.common.boxes import cxcywh_to_xyxy, inverse_sigmoid
from models.common.elementwise import elementwise
from models.common.mlp import FeedForward, NumberedMLP, RowLinear
from models.common.positional import sine_boxes
from models.sam3.network.config import DetectorConfig

SCORE_LIMIT = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderOutput:
    """What every layer of the decoder says.

    Attributes:
        queries: Shape (L, B, Q, D), normed.
        boxes_cxcywh: Shape (L, B, Q, 4), normalised, in fp32 always.
        presence_logits: Shape (L, B).
    """

    queries: Tensor
    boxes_cxcywh: Tensor
    presence_logits: Tensor


class DecoderLayer(nn.Module):
    """Post-norm: self-attention, attention to the prompt, to the picture, feed-forward."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config.dim, config.num_heads)
        self.self_attn_layer_norm = nn.LayerNorm(config.dim)
        self.text_cross_attn = Attention(config.dim, config.num_heads)
        self.text_cross_attn_layer_norm = nn.LayerNorm(config.dim)
        self.vision_cross_attn = Attention(config.dim, config.num_heads)
        self.vision_cross_attn_layer_norm = nn.LayerNorm(config.dim)
        self.mlp = FeedForward(config.dim, config.mlp_dim, nn.ReLU)
        self.mlp_layer_norm = nn.LayerNorm(config.dim)

    @override
    def forward(
        self, x: Tensor, place: Tensor, prompt: Tensor, is_valid: Tensor, picture: "_Picture"
    ) -> Tensor:
        """Map (B, 1 + Q, D) to the same shape; the presence token comes first and has no place."""
        placed = x + place
        x = self.self_attn_layer_norm(x + self.self_attn(placed, placed, x))
        x = self.text_cross_attn_layer_norm(
            x + self.text_cross_attn(x + place, prompt, prompt, key_mask(is_valid))
        )
        seen = self.vision_cross_attn(x + place, picture.keys, picture.values, picture.bias)
        x = self.vision_cross_attn_layer_norm(x + seen)
        # Published weights want this in fp32 even when the rest is not: scores depend on it.
        with torch.autocast(x.device.type, enabled=False):
            fed = self.mlp(x.to(self.mlp.fc1.weight.dtype))
        return self.mlp_layer_norm(x + fed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picture:
    keys: Tensor
    values: Tensor
    bias: Tensor


class Decoder(nn.Module):
    """Refines learned boxes layer by layer, looking where they are (relative position bias)."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.dim = dim = config.dim
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.output_layer_norm = nn.LayerNorm(dim)
        self.box_head = NumberedMLP(dim, dim, 4, 3)
        self.query_embed = nn.Embedding(config.num_queries, dim)
        self.reference_points = nn.Embedding(config.num_queries, 4)
        self.presence_token = nn.Embedding(1, dim)
        self.presence_head = NumberedMLP(dim, dim, 1, 3, linear=RowLinear)
        self.presence_layer_norm = nn.LayerNorm(dim)
        self.ref_point_head = NumberedMLP(2 * dim, dim, dim, 2)
        self.box_rpb_embed_x = NumberedMLP(2, dim, config.num_heads, 2)
        self.box_rpb_embed_y = NumberedMLP(2, dim, config.num_heads, 2)

    @override
    def forward(
        self,
        image: Tensor,
        image_pos: Tensor,
        prompt: Tensor,
        is_valid: Tensor,
        *,
        grid: tuple[int, int],
    ) -> DecoderOutput:
        """Decode.

        Args:
            image: Fused picture, shape (B, G * G, D).
            image_pos: Shape (1, G * G, D).
            prompt: Shape (B, T, D).
            is_valid: Shape (B, T), bool.
            grid: Rows and columns of the picture's tokens.
        """
        batch = image.shape[0]
        boxes = self.reference_points.weight.float().sigmoid()[None].expand(batch, -1, -1)
        x = torch.cat((self.presence_token.weight, self.query_embed.weight))[None].expand(
            batch, -1, -1
        )
        keys, dtype = image + image_pos, self.query_embed.weight.dtype
        queries: list[Tensor] = []
        refined: list[Tensor] = []
        presence: list[Tensor] = []
        for layer in self.layers:
            # The presence token has neither a place nor a bias: it looks at the whole picture.
            code = sine_boxes(boxes, self.dim // 2).to(dtype)
            place = F.pad(self.ref_point_head(code), (0, 0, 1, 0))
            bias = self._relative_bias(boxes, grid)
            x = layer(x, place, prompt, is_valid, _Picture(keys=keys, values=image, bias=bias))
            normed = self.output_layer_norm(x[:, 1:])
            logits = elementwise(inverse_sigmoid, boxes) + self.box_head(normed).float()
            new_boxes = elementwise(torch.sigmoid, logits)
            queries.append(normed)
            refined.append(new_boxes)
            presence.append(self.presence_head(self.presence_layer_norm(x[:, 0])).squeeze(-1))
            boxes = new_boxes.detach()
        return DecoderOutput(
            queries=torch.stack(queries),
            boxes_cxcywh=torch.stack(refined),
            presence_logits=torch.stack(presence),
        )

    def _relative_bias(self, boxes: Tensor, grid: tuple[int, int]) -> Tensor:
        """Bias (B, heads, 1 + Q, G * G): signed log distances of cell edges to the box's sides."""
        x0, y0, x1, y1 = cxcywh_to_xyxy(boxes).unbind(-1)
        rows, columns = grid
        dtype = self.query_embed.weight.dtype
        from_y = _log_distance(rows, torch.stack((y0, y1), dim=-1)).to(dtype)
        from_x = _log_distance(columns, torch.stack((x0, x1), dim=-1)).to(dtype)
        along_y, along_x = self.box_rpb_embed_y(from_y), self.box_rpb_embed_x(from_x)
        # Padded and brought into order while they are small: the sum is written once.
        along_y, along_x = (
            F.pad(along.permute(0, 3, 1, 2), (0, 0, 1, 0)).contiguous()
            for along in (along_y, along_x)
        )
        return (along_y[..., :, None] + along_x[..., None, :]).flatten(3)


def _log_distance(cells: int, sides: Tensor) -> Tensor:
    """Map sides of shape (B, Q, 2) to (B, Q, cells, 2)."""
    edges = torch.arange(cells, dtype=sides.dtype, device=sides.device) / cells
    distance = 8 * (edges[:, None] - sides[:, :, None, :])
    return distance.sign() * torch.log2(distance.abs() + 1) / math.log2(8)


class DotProductScoring(nn.Module):
    """Score of each query against the prompt's mean token."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        dim = config.dim
        self.text_mlp = NumberedMLP(dim, config.mlp_dim, dim, 2)
        self.text_mlp_out_norm = nn.LayerNorm(dim)
        self.text_proj = RowLinear(dim, dim)
        self.query_proj = nn.Linear(dim, dim)

    @override
    def forward(self, queries: Tensor, prompt: Tensor, is_valid: Tensor) -> Tensor:
        """Score queries (L, B, Q, D) against prompts (B, T, D): logits (L, B, Q) within ±12."""
        prompt = self.text_mlp_out_norm(prompt + self.text_mlp(prompt))
        weight = is_valid.to(prompt.dtype)[..., None]
        pooled = (prompt * weight).sum(1) / weight.sum(1).clamp(min=1)
        scores = (self.query_proj(queries) @ self.text_proj(pooled)[..., None])[..., 0]
        return (scores / math.sqrt(prompt.shape[-1])).clamp(-SCORE_LIMIT, SCORE_LIMIT)
