"""Two-way transformer that turns features and prompt tokens into masks, for the whole family."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from models.common.attention import Attention
from models.common.config import MaskDecoderConfig
from models.common.elementwise import elementwise
from models.common.mlp import RowLinear, StackedMLP
from models.common.norm import LayerNorm2d

NUM_MULTIMASKS = 3
NUM_BLOCKS = 2
STABILITY_DELTA = 0.05
STABILITY_THRESHOLD = 0.98


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedMasks:
    """Everything the decoder says about B prompts, before one mask is chosen.

    Attributes:
        mask_logits: Shape (B, 4, 4g, 4g): the single mask, then the three of an ambiguous prompt.
        iou: Predicted IoU of each of them, shape (B, 4); SAM 1 does not bound it to 0 … 1.
        tokens: Output token of each of them, shape (B, 4, C).
    """

    mask_logits: Tensor
    iou: Tensor
    tokens: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedObjects(DecodedMasks):
    """With what only SAM 2 and 3 say.

    Attributes:
        object_score_logits: Whether the object is there, shape (B, 1).
    """

    object_score_logits: Tensor


class TwoWayBlock(nn.Module):
    """Tokens attend to themselves and to the image, then the image attends to the tokens."""

    def __init__(self, config: MaskDecoderConfig, *, is_first: bool) -> None:
        super().__init__()
        dim, heads = config.dim, config.num_heads
        self.is_first = is_first
        self.self_attn = Attention(dim, heads)
        self.layer_norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, heads, inner_dim=dim // 2)
        self.layer_norm2 = nn.LayerNorm(dim)
        self.mlp = StackedMLP(dim, config.mlp_dim, dim, depth=2)
        self.layer_norm3 = nn.LayerNorm(dim)
        self.layer_norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, heads, inner_dim=dim // 2)

    @override
    def forward(
        self, tokens: Tensor, image: Tensor, token_pos: Tensor, image_pos: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.is_first:
            # The tokens are their own position code here: nothing to add, and no residual.
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_pos
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.layer_norm1(tokens)
        placed_image = image + image_pos
        tokens = self.layer_norm2(
            tokens + self.cross_attn_token_to_image(tokens + token_pos, placed_image, image)
        )
        tokens = self.layer_norm3(tokens + self.mlp(tokens))
        image = image + self.cross_attn_image_to_token(placed_image, tokens + token_pos, tokens)
        return tokens, self.layer_norm4(image)


class TwoWayTransformer(nn.Module):
    """Stack of :class:`TwoWayBlock` and a last look of the tokens at the image."""

    def __init__(self, config: MaskDecoderConfig) -> None:
        super().__init__()
        dim = config.dim
        self.layers = nn.ModuleList(TwoWayBlock(config, is_first=i == 0) for i in range(NUM_BLOCKS))
        self.final_attn_token_to_image = Attention(dim, config.num_heads, inner_dim=dim // 2)
        self.layer_norm_final_attn = nn.LayerNorm(dim)

    @override
    def forward(self, tokens: Tensor, image: Tensor, image_pos: Tensor) -> tuple[Tensor, Tensor]:
        token_pos = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pos, image_pos)
        last = self.final_attn_token_to_image(tokens + token_pos, image + image_pos, image)
        return self.layer_norm_final_attn(tokens + last), image


class MaskDecoder(nn.Module):
    """Masks, their predicted IoU and their tokens, as SAM 1 decodes them (SAM, appendix A)."""

    def __init__(self, config: MaskDecoderConfig) -> None:
        super().__init__()
        dim, num_masks = config.dim, NUM_MULTIMASKS + 1
        self.num_masks = num_masks
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(num_masks, dim)
        self.transformer = TwoWayTransformer(config)
        self.upscale_conv1 = nn.ConvTranspose2d(dim, dim // 4, kernel_size=2, stride=2)
        self.upscale_layer_norm = LayerNorm2d(dim // 4)
        self.upscale_conv2 = nn.ConvTranspose2d(dim // 4, dim // 8, kernel_size=2, stride=2)
        self.output_hypernetworks_mlps = nn.ModuleList(
            StackedMLP(dim, dim, dim // 8, depth=3, linear=RowLinear) for _ in range(num_masks)
        )
        self.iou_prediction_head = StackedMLP(
            dim, config.iou_head_dim, num_masks, depth=3, linear=RowLinear
        )

    @override
    def forward(
        self, image: Tensor, image_pos: Tensor, sparse: Tensor, dense: Tensor
    ) -> DecodedMasks:
        """Decode B prompts.

        Args:
            image: Features, shape (B, C, g, g); (1, C, g, g) where all prompts are on one picture
                saves part of the work.
            image_pos: Position code of the grid, shape (1, C, g, g).
            sparse: Prompt tokens, shape (B, P, C).
            dense: Dense prompt, broadcastable to (B, C, g, g).
        """
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens, x = self._attend(own, image + dense, image_pos, sparse)
        x = F.gelu(self.upscale_layer_norm(self.upscale_conv1(x)))
        x = F.gelu(self.upscale_conv2(x))
        mask_tokens = tokens[:, 1 : 1 + self.num_masks]
        return DecodedMasks(
            mask_logits=self._masks(mask_tokens, x),
            iou=self.iou_prediction_head(tokens[:, 0]),
            tokens=mask_tokens,
        )

    def _attend(
        self, own: Tensor, image: Tensor, image_pos: Tensor, sparse: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Two-way attention of own tokens (T, C) and prompts with the image; both come back."""
        tokens = torch.cat([own[None].expand(sparse.shape[0], -1, -1), sparse], dim=1)
        flat = image.flatten(2).transpose(1, 2)
        tokens, flat = self.transformer(tokens, flat, image_pos.flatten(2).transpose(1, 2))
        return tokens, flat.transpose(1, 2).unflatten(2, tuple(image.shape[-2:]))

    def _masks(self, mask_tokens: Tensor, x: Tensor) -> Tensor:
        filters = torch.stack(
            [mlp(mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        return (filters @ x.flatten(2)).unflatten(2, tuple(x.shape[-2:]))


class ObjectMaskDecoder(MaskDecoder):
    """With fine features and an object score, as SAM 2 and 3 decode (SAM 2, appendix D)."""

    def __init__(self, config: MaskDecoderConfig) -> None:
        super().__init__(config)
        dim = config.dim
        self.obj_score_token = nn.Embedding(1, dim)
        self.conv_s0 = nn.Conv2d(dim, dim // 8, kernel_size=1)
        self.conv_s1 = nn.Conv2d(dim, dim // 4, kernel_size=1)
        self.pred_obj_score_head = StackedMLP(dim, dim, 1, depth=3, linear=RowLinear)

    @override
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] - it cannot do without them
        self,
        image: Tensor,
        image_pos: Tensor,
        sparse: Tensor,
        dense: Tensor,
        fine: tuple[Tensor, Tensor],
    ) -> DecodedObjects:
        """Decode B objects.

        Args:
            image: Features, memory-conditioned or not, shape (B, C, g, g) or (1, C, g, g).
            image_pos: Position code of the grid, shape (1, C, g, g).
            sparse: Prompt tokens, shape (B, P, C).
            dense: Dense prompt, broadcastable to (B, C, g, g).
            fine: Projected fine features, shapes (B, C / 8, 4g, 4g) and (B, C / 4, 2g, 2g).
        """
        own = torch.cat(
            [self.obj_score_token.weight, self.iou_token.weight, self.mask_tokens.weight]
        )
        tokens, x = self._attend(own, image + dense, image_pos, sparse)
        fine0, fine1 = fine
        x = F.gelu(self.upscale_layer_norm(self.upscale_conv1(x) + fine1))
        x = F.gelu(self.upscale_conv2(x) + fine0)
        mask_tokens = tokens[:, 2 : 2 + self.num_masks]
        return DecodedObjects(
            mask_logits=self._masks(mask_tokens, x),
            iou=elementwise(torch.sigmoid, self.iou_prediction_head(tokens[:, 1])),
            tokens=mask_tokens,
            object_score_logits=self.pred_obj_score_head(tokens[:, 0]),
        )


def choose_multimask(decoded: DecodedMasks) -> Tensor:
    """Index (1 to 3) of the ambiguous-prompt mask with the highest predicted IoU, shape (B,)."""
    return decoded.iou[:, 1:].argmax(dim=1) + 1


def choose_single_mask(decoded: DecodedMasks) -> Tensor:
    """Index (0 to 3) of the mask of an unambiguous prompt, shape (B,).

    It is the single mask, unless that one changes much when its threshold moves; then it is the
    best of the other three.
    """
    single = decoded.mask_logits[:, 0].flatten(1)
    inner = (single > STABILITY_DELTA).sum(dim=1)
    outer = (single > -STABILITY_DELTA).sum(dim=1)
    # An empty mask is stable; division is avoided so that it needs no special case.
    is_stable = inner >= STABILITY_THRESHOLD * outer
    return torch.where(is_stable, 0, choose_multimask(decoded))
