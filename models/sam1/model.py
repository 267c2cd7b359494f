"""SAM 1: one picture embedded once, then masks for prompts (Kirillov et al., 2023).

Shape legend:
    N images, B objects, P points of each, S side of the input in px, g tokens along it, C width.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from models.common.mask_decoder import DecodedMasks, MaskDecoder
from models.common.prompt_encoder import (
    LABEL_BOX_BOTTOM_RIGHT,
    LABEL_BOX_TOP_LEFT,
    FourierPosition,
    PromptEncoder,
)
from models.common.prompting import InputFrame, MaskCandidates, ObjectPrompts
from models.sam1.config import Sam1Config
from models.sam1.image_encoder import VisionEncoder

# Of RGB in 0 … 255, as the published weights were trained.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class Sam1(nn.Module):
    """Vision encoder, prompt encoder and mask decoder; fit for an ``ImagePredictor``."""

    def __init__(self, config: Sam1Config) -> None:
        super().__init__()
        self.config = config
        self.shared_image_embedding = FourierPosition(config.vision.neck_dim)
        self.vision_encoder = VisionEncoder(config.vision)
        self.prompt_encoder = PromptEncoder(config.prompt_encoder)
        self.mask_decoder = MaskDecoder(config.mask_decoder)
        # Prompts and picture are placed by one and the same code.
        self.shared_image_embedding.positional_embedding.copy_(
            self.prompt_encoder.shared_embedding.positional_embedding
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.vision_encoder.pos_embed.device

    @property
    def mask_side(self) -> int:
        """Side of the masks it gives and takes: four times the grid."""
        return 4 * self.config.vision.grid

    def encode_images(self, images: Tensor) -> Tensor:
        """Embed normalised and padded pictures: (N, 3, S, S) to (N, C, g, g).

        Raises:
            ValueError: If the shape is another.
        """
        side = self.config.vision.image_size
        if images.ndim != 4 or images.shape[1:] != (3, side, side):
            raise ValueError(
                f"images has shape {tuple(images.shape)!r}; accepted: (*, 3, {side}, {side})"
            )
        return self.vision_encoder(images)

    def decode(self, embedding: Tensor, prompts: ObjectPrompts) -> DecodedMasks:
        """Answer the prompts of B objects on one picture.

        Args:
            embedding: Shape (1, C, g, g), of :meth:`encode_images`, or (B, C, g, g) for objects
                on pictures of their own.
            prompts: At least points, boxes or masks.
        """
        encoder, grid = self.prompt_encoder, embedding.shape[-1]
        dense = encoder.no_mask()
        if prompts.mask_logits is not None:
            dense = encoder.mask(prompts.mask_logits.to(embedding.dtype))
        positions = self.shared_image_embedding.image(grid)
        return self.mask_decoder(embedding, positions, self._sparse(prompts, grid), dense)

    def _sparse(self, prompts: ObjectPrompts, grid: int) -> Tensor:
        """Tokens of points and box corners, shape (B, P + 1 without a box or P + 2, C)."""
        encoder, boxes = self.prompt_encoder, prompts.boxes
        if boxes is None:
            closes = prompts.points.shape[1] > 0
            return encoder.points(prompts.points, prompts.labels, grid, closes=closes)
        corner_labels = prompts.labels.new_tensor((LABEL_BOX_TOP_LEFT, LABEL_BOX_BOTTOM_RIGHT))
        points = torch.cat([prompts.points, boxes.unflatten(1, (2, 2))], dim=1)
        labels = torch.cat([prompts.labels, corner_labels.expand(len(boxes), 2)], dim=1)
        return encoder.points(points, labels, grid, closes=False)

    def frame_of(self, picture_hw: tuple[int, int]) -> InputFrame:
        """Longest side to S; the rest is padding at the bottom or right."""
        side, longest = self.config.vision.image_size, max(picture_hw)
        # Half up, in the order of operations of the original; a sliver keeps one row.
        height, width = (max(1, int(size * (side / longest) + 0.5)) for size in picture_hw)
        return InputFrame(picture_hw=picture_hw, content_hw=(height, width), side=side)

    def preprocess(self, pixels: Tensor) -> Tensor:
        """Resize, normalise and pad pictures of one size.

        Args:
            pixels: RGB, uint8, shape (N, H, W, 3).

        Returns:
            Shape (N, 3, S, S), in the type of the weights.
        """
        frame = self.frame_of((pixels.shape[1], pixels.shape[2]))
        levels = _resize_levels(pixels, frame.content_hw)
        mean, std = (levels.new_tensor(x)[:, None, None] for x in (PIXEL_MEAN, PIXEL_STD))
        height, width = frame.content_hw
        images = F.pad((levels - mean) / std, (0, frame.side - width, 0, frame.side - height))
        return images.to(self.vision_encoder.pos_embed.dtype)

    def encode_picture(self, pixels: Tensor) -> Tensor:
        """Embed one RGB picture (1, H, W, 3), uint8, as (1, C, g, g)."""
        return self.encode_images(self.preprocess(pixels))

    def decode_prompts(
        self, state: Tensor, prompts: ObjectPrompts, *, multimask: bool
    ) -> MaskCandidates:
        """Answer prompts: the three ambiguous-prompt masks with ``multimask``, else the single."""
        decoded = self.decode(state, prompts)
        chosen = slice(1, None) if multimask else slice(0, 1)
        return MaskCandidates(
            mask_logits=decoded.mask_logits[:, chosen], predicted_iou=decoded.iou[:, chosen]
        )

    def upscale(self, mask_logits: Tensor, frame: InputFrame) -> Tensor:
        """Bring (B, M, 4g, 4g) logits to the input's size, cut the padding off, then resize."""
        side = (frame.side, frame.side)
        large = F.interpolate(mask_logits.float(), side, mode="bilinear", align_corners=False)
        content = large[..., : frame.content_hw[0], : frame.content_hw[1]]
        return F.interpolate(content, frame.picture_hw, mode="bilinear", align_corners=False)


def _resize_levels(pixels: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Resize RGB uint8 (N, H, W, 3) with Pillow, as the original does, to fp32 (N, 3, h, w).

    Torch's own filter rounds otherwise: up to one level in a fifth of all places.
    """
    height, width = size_hw
    small = [
        np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
        for picture in pixels.numpy(force=True)
    ]
    return torch.from_numpy(np.stack(small)).to(pixels.device).permute(0, 3, 1, 2).float()
