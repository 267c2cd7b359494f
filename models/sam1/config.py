"""What there is to a size of SAM 1; the sizes are in :mod:`models.catalogue`. Imports no torch."""

from dataclasses import dataclass, field

from models.common.config import BackboneShape, MaskDecoderConfig, PromptEncoderConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionConfig:
    """Vision encoder (SAM, appendix A; ViTDet, section 3).

    ``window`` is in tokens, ``global_blocks`` are the indices of the blocks that see the whole
    picture.
    """

    image_size: int = 1024
    patch_size: int = 16
    dim: int = 768
    mlp_dim: int = 3072
    num_blocks: int = 12
    num_heads: int = 12
    window: int = 14
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    neck_dim: int = 256

    @property
    def grid(self) -> int:
        """Tokens along one side of the picture."""
        return self.image_size // self.patch_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Sam1Config:
    """Network of one size; ``mask_decoder.dim`` has to be ``vision.neck_dim``."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    mask_decoder: MaskDecoderConfig = field(default_factory=MaskDecoderConfig)

    def __post_init__(self) -> None:
        vision = self.vision
        if self.mask_decoder.dim != vision.neck_dim:
            raise ValueError(
                f"mask_decoder.dim {self.mask_decoder.dim!r} differs from neck_dim; "
                f"accepted: {vision.neck_dim}"
            )
        if vision.image_size % vision.patch_size:
            raise ValueError(
                f"image_size {vision.image_size!r} is not a multiple of "
                f"patch_size {vision.patch_size!r}"
            )

    @property
    def prompt_encoder(self) -> PromptEncoderConfig:
        """Sizes of its prompt encoder."""
        return PromptEncoderConfig(dim=self.vision.neck_dim, patch_size=self.vision.patch_size)

    @property
    def image_size(self) -> int:
        """Side of the square picture in px."""
        return self.vision.image_size

    @property
    def backbone(self) -> BackboneShape:
        """What tells its checkpoints from those of other sizes."""
        return BackboneShape(width=self.vision.dim, num_blocks=self.vision.num_blocks)
