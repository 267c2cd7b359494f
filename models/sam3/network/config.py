"""Sizes of SAM 3, rows of a table: ``sam3`` is the published model, ``sam3-nano`` is ours."""

from dataclasses import dataclass

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
        for name in ("window", "pretrain_grid"):
            if self.grid % getattr(self, name):
                raise ValueError(
                    f"{name} {getattr(self, name)!r} does not divide the {self.grid} tokens along "
                    "a side of the picture"
                )

    @property
    def grid(self) -> int:
        """Tokens along one side of the picture."""
        return self.image_size // self.patch_size


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
    """One row of the size table; the published model refines no outlines.

    ``size`` is its name in the table, by which :mod:`models.sam3.sizes` decides.
    """

    size: str = "sam3"
    vision: VisionConfig = VisionConfig()
    text: TextConfig = TextConfig()
    detector: DetectorConfig = DetectorConfig()
    tracker: TrackerConfig = TrackerConfig()
    refiner: RefinerConfig | None = None


SAM3_SIZES: dict[str, Sam3Config] = {
    "sam3": Sam3Config(),
    # The same graph: 20 x 20 tokens in windows of 4, where the published one has 72 x 72 in 24.
    "sam3-nano": Sam3Config(
        size="sam3-nano",
        vision=VisionConfig(
            image_size=280,
            dim=128,
            mlp_dim=512,
            num_blocks=8,
            num_heads=4,
            window=4,
            global_blocks=(1, 3, 5, 7),
            pretrain_grid=4,
            neck_dim=64,
        ),
        text=TextConfig(
            vocab_size=1024,
            dim=64,
            mlp_dim=256,
            num_blocks=2,
            num_heads=4,
            context_length=16,
            projection_dim=64,
        ),
        detector=DetectorConfig(
            dim=64,
            num_heads=4,
            mlp_dim=256,
            exemplar_layers=1,
            fusion_layers=3,
            decoder_layers=3,
            num_queries=36,
        ),
        tracker=TrackerConfig(
            image_size=280,
            hidden_dim=64,
            # As in every published size: ports of the model fix this width.
            memory_dim=64,
            num_heads=4,
            mask_decoder_mlp_dim=256,
            iou_head_dim=64,
            memory_attention_layers=2,
            memory_attention_mlp_dim=256,
            memory_fuser_dim=128,
        ),
        refiner=RefinerConfig(),
    ),
}
