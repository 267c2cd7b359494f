"""Sizes of the memory tracker that SAM 2.1 and SAM 3 share."""

from dataclasses import dataclass

from models.common.mask_decoder import MaskDecoderConfig
from models.common.prompt_encoder import PromptEncoderConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerConfig:
    """Memory tracker (SAM 2, section 4; SAM 3, section 3). The defaults are SAM 3's."""

    image_size: int = 1008
    patch_size: int = 14
    hidden_dim: int = 256
    memory_dim: int = 64
    num_heads: int = 8
    mask_decoder_depth: int = 2
    mask_decoder_mlp_dim: int = 2048
    mask_in_chans: int = 16
    iou_head_dim: int = 256
    memory_attention_layers: int = 4
    memory_attention_mlp_dim: int = 2048
    memory_fuser_layers: int = 2
    memory_fuser_dim: int = 1024
    num_maskmem: int = 7
    max_cond_frames: int = 4
    max_object_pointers: int = 16
    rope_theta: float = 10000.0

    @property
    def prompt_encoder(self) -> PromptEncoderConfig:
        """Sizes of its prompt encoder."""
        return PromptEncoderConfig(
            dim=self.hidden_dim, mask_in_chans=self.mask_in_chans, patch_size=self.patch_size
        )

    @property
    def mask_decoder(self) -> MaskDecoderConfig:
        """Sizes of its mask decoder."""
        return MaskDecoderConfig(
            dim=self.hidden_dim,
            num_heads=self.num_heads,
            depth=self.mask_decoder_depth,
            mlp_dim=self.mask_decoder_mlp_dim,
            iou_head_dim=self.iou_head_dim,
        )
