"""Exemplar encoder of SAM 3 (section 3): boxes and points that illustrate a concept become tokens.

Shape legend:
    B (image, concept) pairs, P points, K boxes, D channels, G tokens along a side.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from models.common.attention import Attention, key_mask
from models.common.boxes import cxcywh_to_xyxy
from models.common.mlp import FeedForward
from models.common.positional import sine_1d
from models.common.roi_align import roi_align
from models.sam3.network.config import DetectorConfig

# Cells along a side of what is pooled from a box.
ROI_SIZE = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class PointExemplars:
    """Points on what each pair's concept means, or with a negative label on what it does not.

    Attributes:
        xy: Shape (B, P, 2), normalised.
        is_positive: Shape (B, P), bool.
        is_valid: Shape (B, P), bool; valid points come first.
    """

    xy: Tensor
    is_positive: Tensor
    is_valid: Tensor

    def select(self, index: Tensor) -> Self:
        """Choose pairs by an index of shape (B,)."""
        return type(self)(
            xy=self.xy[index], is_positive=self.is_positive[index], is_valid=self.is_valid[index]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemplars:
    """Boxes that illustrate, or with a negative label delimit, the concept of each pair.

    Attributes:
        boxes_cxcywh: Shape (B, K, 4), normalised.
        is_positive: Shape (B, K), bool.
        is_valid: Shape (B, K), bool.
        points: Points beside the boxes; only where ``DetectorConfig.point_exemplars`` is set.
    """

    boxes_cxcywh: Tensor
    is_positive: Tensor
    is_valid: Tensor
    points: PointExemplars | None = None

    @classmethod
    def none(cls, batch: int, device: torch.device) -> Self:
        """Return no boxes for ``batch`` pairs."""
        nothing = torch.zeros(batch, 0, dtype=torch.bool, device=device)
        return cls(
            boxes_cxcywh=torch.zeros(batch, 0, 4, device=device),
            is_positive=nothing,
            is_valid=nothing,
        )

    @property
    def are_given(self) -> Tensor:
        """Whether each pair has any, shape (B,), bool."""
        is_given = self.is_valid.any(1)
        return is_given if self.points is None else is_given | self.points.is_valid.any(1)

    def select(self, index: Tensor) -> Self:
        """Choose pairs by an index of shape (B,)."""
        return type(self)(
            boxes_cxcywh=self.boxes_cxcywh[index],
            is_positive=self.is_positive[index],
            is_valid=self.is_valid[index],
            points=None if self.points is None else self.points.select(index),
        )


class ExemplarLayer(nn.Module):
    """Pre-norm: self-attention over prompt tokens, attention to the picture, feed-forward."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.dim)
        self.self_attn = Attention(config.dim, config.num_heads)
        self.cross_attn = Attention(config.dim, config.num_heads)
        self.layer_norm2 = nn.LayerNorm(config.dim)
        self.mlp = FeedForward(config.dim, config.mlp_dim, nn.ReLU)
        self.layer_norm3 = nn.LayerNorm(config.dim)

    @override
    def forward(self, x: Tensor, is_valid: Tensor, image: Tensor, image_pos: Tensor) -> Tensor:
        """Map (B, K + 1, D) to the same shape; the picture is (B, G * G, D)."""
        normed = self.layer_norm1(x)
        x = x + self.self_attn(normed, normed, normed, key_mask(is_valid))
        x = x + self.cross_attn(self.layer_norm2(x), image + image_pos, image)
        return x + self.mlp(self.layer_norm3(x))


class ExemplarEncoder(nn.Module):
    """Encodes points and boxes by coordinates, content and place, and appends a picture token.

    That last token (``cls_embed``) is there even without exemplars: the published weights were
    trained so.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        dim = config.dim
        self.dim = dim
        self.label_embed = nn.Embedding(2, dim)
        self.cls_embed = nn.Embedding(1, dim)
        if config.point_exemplars:
            self.points_direct_project = nn.Linear(2, dim)
            self.points_pool_project = nn.Linear(dim, dim)
            self.points_pos_enc_project = nn.Linear(dim, dim)
        self.boxes_direct_project = nn.Linear(4, dim)
        self.boxes_pool_project = nn.Conv2d(dim, dim, ROI_SIZE)
        self.boxes_pos_enc_project = nn.Linear(dim + 2, dim)
        self.vision_layer_norm = nn.LayerNorm(dim)
        self.final_proj = nn.Linear(dim, dim)
        self.prompt_layer_norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(ExemplarLayer(config) for _ in range(config.exemplar_layers))
        self.output_layer_norm = nn.LayerNorm(dim)

    @override
    def forward(
        self, exemplars: Exemplars, image: Tensor, image_pos: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            exemplars: P points (only with ``DetectorConfig.point_exemplars``) and K boxes for each
                of B pairs.
            image: Coarsest level of the detector's pyramid, shape (B, D, G, G).
            image_pos: Its position encoding, shape (D, G, G).

        Returns:
            Prompt tokens of shape (B, P + K + 1, D), points first and the picture token last, and
            their bool validity of shape (B, P + K + 1).
        """
        batch = image.shape[0]
        tokens = [self.cls_embed.weight[None].expand(batch, -1, -1)]
        is_valid = [torch.ones(batch, 1, dtype=torch.bool, device=image.device)]
        points = exemplars.points
        if exemplars.boxes_cxcywh.shape[1] or points is not None:
            normed = self.vision_layer_norm(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            if exemplars.boxes_cxcywh.shape[1]:
                tokens.insert(0, self._encode_boxes(exemplars, normed))
                is_valid.insert(0, exemplars.is_valid)
            if points is not None:
                tokens.insert(0, self._encode_points(points, normed))
                is_valid.insert(0, points.is_valid)
        valid = torch.cat(is_valid, dim=1)
        x = self.prompt_layer_norm(self.final_proj(torch.cat(tokens, dim=1)))
        flat, flat_pos = image.flatten(2).transpose(1, 2), image_pos.flatten(1).t()[None]
        for layer in self.layers:
            x = layer(x, valid, flat, flat_pos)
        return self.output_layer_norm(x), valid

    def _encode_points(self, points: PointExemplars, normed: Tensor) -> Tensor:
        # Zero outside the picture, cell centres at half a cell: as the weights were trained.
        content = F.grid_sample(
            normed, 2 * points.xy[:, :, None].to(normed.dtype) - 1, align_corners=False
        )
        place = sine_1d(points.xy, self.dim // 2).flatten(-2)
        return (
            self.points_direct_project(points.xy.to(normed.dtype))
            + self.points_pool_project(content[..., 0].transpose(1, 2))
            + self.points_pos_enc_project(place.to(normed.dtype))
            + self.label_embed(points.is_positive.long())
        )

    def _encode_boxes(self, exemplars: Exemplars, normed: Tensor) -> Tensor:
        boxes = exemplars.boxes_cxcywh
        size = torch.tensor(
            [normed.shape[-1], normed.shape[-2]] * 2, dtype=boxes.dtype, device=boxes.device
        )
        content = self.boxes_pool_project(roi_align(normed, cxcywh_to_xyxy(boxes) * size, ROI_SIZE))
        x, y, width, height = boxes.unbind(-1)
        place = torch.cat(
            (
                sine_1d(y, self.dim // 2),
                sine_1d(x, self.dim // 2),
                height[..., None],
                width[..., None],
            ),
            dim=-1,
        )
        return (
            self.boxes_direct_project(boxes.to(normed.dtype))
            + content.view(*boxes.shape[:2], self.dim)
            + self.boxes_pos_enc_project(place.to(normed.dtype))
            + self.label_embed(exemplars.is_positive.long())
        )
