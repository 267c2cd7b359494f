"""What there is to a size of SAM 3; the sizes are in :mod:`models.catalogue`. Imports no torch."""

import math
from dataclasses import dataclass

from models.common.config import BackboneShape
from models.sam2.config import TrackerConfig

# Of every norm, as the published weights were trained; transformers' own default for the backbone
# is 1e-6.
NORM_EPS = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionConfig:
    """Vision backbone and its two necks (SAM 3, section 3; ViTDet for the neck).

    ``window`` and ``global_blocks`` are in tokens and block indices; ``pretrain_grid`` is the grid,
    in tokens, on which the tiled position embedding and the rotary frequencies of the global blocks
    are defined.
    """

    image_size: int = 1008
    patch_size: int = 14
    dim: int = 1024
    mlp_dim: int = 4736
    num_blocks: int = 32
    num_heads: int = 16
    window: int = 24
    global_blocks: tuple[int, ...] = (7, 15, 23, 31)
    pretrain_grid: int = 24
    neck_dim: int = 256

    def __post_init__(self) -> None:
        if self.image_size % self.side_step:
            raise ValueError(
                f"image_size {self.image_size!r} is not a multiple of {self.side_step}, the side "
                "of a window in px"
            )

    @property
    def grid(self) -> int:
        """Tokens along one side of the picture."""
        return self.image_size // self.patch_size

    @property
    def side_step(self) -> int:
        """What a picture's side has to be a multiple of, in px: windows fill the grid."""
        return self.patch_size * math.lcm(self.window, self.pretrain_grid)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """Causal text transformer with the CLIP vocabulary layout."""

    vocab_size: int = 49408
    dim: int = 1024
    mlp_dim: int = 4096
    num_blocks: int = 24
    num_heads: int = 16
    context_length: int = 32
    projection_dim: int = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorConfig:
    """Exemplar encoder, fusion encoder, DETR decoder, scoring and mask head.

    ``point_exemplars`` tells whether the exemplar encoder takes points beside boxes: checkpoints in
    the official layout do, those in transformers' layout lack the weights.
    """

    dim: int = 256
    num_heads: int = 8
    mlp_dim: int = 2048
    exemplar_layers: int = 3
    fusion_layers: int = 6
    decoder_layers: int = 6
    num_queries: int = 200
    point_exemplars: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinerConfig:
    """Refiner of outlines; see :mod:`models.sam3.network.refiner`.

    ``side`` is that of the square that a window is brought to, in px; the widths are those at a
    half, at a quarter and at the whole of it.
    """

    side: int = 64
    fine_dim: int = 32
    coarse_dim: int = 48
    full_dim: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Sam3Config:
    """Network of one size; the published model refines no outlines."""

    vision: VisionConfig = VisionConfig()
    text: TextConfig = TextConfig()
    detector: DetectorConfig = DetectorConfig()
    tracker: TrackerConfig = TrackerConfig()
    refiner: RefinerConfig | None = None

    @property
    def image_size(self) -> int:
        """Side of the square picture in px."""
        return self.vision.image_size

    @property
    def backbone(self) -> BackboneShape:
        """What tells its checkpoints from those of other sizes."""
        return BackboneShape(width=self.vision.dim, num_blocks=self.vision.num_blocks)
