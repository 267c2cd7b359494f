"""What there is to a size of SAM 2.1, and to the memory tracker that it shares with SAM 3.

The sizes are in :mod:`models.catalogue`. Importing this costs no torch.
"""

from dataclasses import dataclass

from models.common.config import BackboneShape, MaskDecoderConfig, PromptEncoderConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerConfig:
    """Memory tracker (SAM 2, section 4; SAM 3, section 3). The defaults are SAM 3's.

    A frame attends to the ``max_cond_frames`` closest conditioning frames; ``None`` means to all.
    """

    image_size: int = 1008
    patch_size: int = 14
    hidden_dim: int = 256
    memory_dim: int = 64
    num_heads: int = 8
    mask_decoder_mlp_dim: int = 2048
    iou_head_dim: int = 256
    memory_attention_layers: int = 4
    memory_attention_mlp_dim: int = 2048
    memory_fuser_dim: int = 1024
    num_maskmem: int = 7
    max_cond_frames: int | None = 4
    max_object_pointers: int = 16

    @property
    def prompt_encoder(self) -> PromptEncoderConfig:
        """Sizes of its prompt encoder."""
        return PromptEncoderConfig(dim=self.hidden_dim, patch_size=self.patch_size)

    @property
    def mask_decoder(self) -> MaskDecoderConfig:
        """Sizes of its mask decoder."""
        return MaskDecoderConfig(
            dim=self.hidden_dim,
            num_heads=self.num_heads,
            mlp_dim=self.mask_decoder_mlp_dim,
            iou_head_dim=self.iou_head_dim,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HieraConfig:
    """Hiera backbone with windows (SAM 2, appendix D; Hiera, Ryali et al., 2023).

    Attributes:
        dim: Channels of the first of four stages; each further one has twice as many.
        num_heads: Heads of the first stage; each further one has twice as many.
        blocks: Blocks per stage.
        windows: Side in tokens of the windows of each stage.
        global_blocks: Blocks, counted through all stages, that attend to the whole picture.
        background_grid: Side in tokens of the coarse part of the position embedding.
    """

    dim: int
    num_heads: int
    blocks: tuple[int, int, int, int]
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    global_blocks: tuple[int, ...]
    background_grid: int = 7

    @property
    def stage_dims(self) -> tuple[int, ...]:
        """Channels of each stage, finest first."""
        return tuple(self.dim * 2**stage for stage in range(len(self.blocks)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sam2Config:
    """Network of one size.

    Attributes:
        hiera: Its backbone.
        tracker: All the rest, which every size has alike. As released, a frame attends to every
            conditioning frame.
    """

    hiera: HieraConfig
    tracker: TrackerConfig = TrackerConfig(image_size=1024, patch_size=16, max_cond_frames=None)

    @property
    def image_size(self) -> int:
        """Side of the square picture in px."""
        return self.tracker.image_size

    @property
    def backbone(self) -> BackboneShape:
        """What tells its checkpoints from those of other sizes."""
        return BackboneShape(width=self.hiera.dim, num_blocks=sum(self.hiera.blocks))
