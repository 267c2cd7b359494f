"""Neck of SAM 2.1: brings Hiera's stages to one width (SAM 2, section 4, "Image encoder")."""

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from models.sam2.config import Sam2Config
from models.sam2.hiera import Hiera

# Of the four stages only the third takes from a coarser one, the fourth; the finer two stay as they
# are, for they serve the mask decoder as skips.
TOP_DOWN_STAGES = (2,)
NUM_OUTPUTS = 3


class Neck(nn.Module):
    """Feature pyramid; ``convs`` go from the coarsest stage to the finest, as published."""

    def __init__(self, stage_dims: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width, dim, 1) for width in reversed(stage_dims))

    @override
    def forward(self, stages: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Map stages (N, H, W, C), finest first, to all levels but the coarsest.

        Returns:
            Finest first, shapes (N, D, H, W).
        """
        levels: list[Tensor] = []
        for index, (conv, stage) in enumerate(zip(reversed(self.convs), stages, strict=True)):
            level = conv(stage.permute(0, 3, 1, 2))
            levels.append(level)
            if index - 1 in TOP_DOWN_STAGES:
                levels[index - 1] = levels[index - 1] + F.interpolate(level, scale_factor=2.0)
        return tuple(levels[:NUM_OUTPUTS])


class VisionEncoder(nn.Module):
    """Hiera with its neck."""

    def __init__(self, config: Sam2Config) -> None:
        super().__init__()
        self.backbone = Hiera(config.hiera)
        self.neck = Neck(config.hiera.stage_dims, config.tracker.hidden_dim)

    @override
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode (N, 3, S, S) as levels of (N, D, S / 4, S / 4), S / 8 and S / 16."""
        return self.neck(self.backbone(images))
