"""Draws outlines anew at the picture's own resolution, within a window round each object.

A model's masks lie on a grid of its input square, some px of the picture apart, and what is no
larger than a few cells comes out as a blob. The refiner looks at the picture itself again, as
boundary refinement does (Tang et al. 2021, "Look Closer to Segment Better", section 3): a window
round each mask is brought to a small square, and a U-shaped network draws the mask on that. It is
told of each pixel whether its colour is rather that of what the mask covers or of what lies round
it, as GrabCut tells them apart (Rother et al. 2004, section 3; here with one Gaussian for each):
layers of 3 x 3 see too little at once to learn that. What the network costs depends on the number
of objects, not on the picture. A mask that spans more cells than the square has is left as it is.

Shape legend:
    K masks, g_h g_w the mask grid, M windows, R side of the square, H W the picture in px.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from models.common.elementwise import elementwise
from models.common.masks import Corners
from models.common.resize import resize
from models.sam3.network.config import RefinerConfig

# A window is so much larger than its mask on each side: a share of the mask, and grid cells.
MARGIN_SHARE, MARGIN_CELLS = 0.25, 1.5
# Logits are squashed to within this: how sure of a mask detector and tracker are, differs.
LOGIT_SCALE = 4.0
# The least contrast, of 0 to 1, that a window is thought to have: noise on a plain ground is none.
LEAST_CONTRAST = 0.02
# Variance added to colours, as a share of the window's: a thing of one colour has some, too.
LEAST_VARIANCE = 0.02
MOST_ODDS = 4.0
# Where a mask's logit is below minus this, nothing is drawn, whatever the colours say.
SURE = 20.0
# A larger window is thinned out to so many times the square before it is brought to it.
MOST_SIDES = 4
# Red, green, blue, the mask so far, and what the colours say.
CHANNELS = 5


class MaskRefiner(nn.Module):
    """Draws masks on windows; what it adds to their logits is nothing before it was trained."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.side = config.side
        fine, coarse, full = config.fine_dim, config.coarse_dim, config.full_dim
        self.stem = nn.Conv2d(4 * CHANNELS, fine, 3, padding=1)
        self.fine = nn.Conv2d(fine, fine, 3, padding=1)
        self.down = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.coarse = nn.ModuleList(nn.Conv2d(coarse, coarse, 3, padding=1) for _ in range(2))
        self.up = nn.Conv2d(coarse, fine, 1)
        self.joined = nn.Conv2d(fine, fine, 3, padding=1)
        self.spread = nn.Conv2d(fine, 4 * full, 3, padding=1)
        self.full = nn.Conv2d(CHANNELS + full, full, 3, padding=1)
        self.outline = nn.Conv2d(full, 1, 3, padding=1)
        for parameter in self.outline.parameters():
            nn.init.zeros_(parameter)

    @override
    def forward(self, pixels: Tensor, logits: Tensor) -> Tensor:
        """Map RGB windows (M, 3, R, R), 0 to 1, and logits (M, R, R) to logits (M, R, R), fp32."""
        middle = pixels.mean((2, 3), keepdim=True)
        contrast = pixels.std((1, 2, 3), keepdim=True).clamp(min=LEAST_CONTRAST)
        colours = (pixels - middle) / contrast
        drawn = torch.tanh(logits[:, None] / LOGIT_SCALE)
        odds = colour_odds(colours, logits.sigmoid())[:, None] / 2
        seen = torch.cat((colours, 2 * drawn, odds), dim=1).to(self.stem.weight.dtype)
        fine = F.relu(self.stem(F.pixel_unshuffle(seen, 2)))
        fine = fine + F.relu(self.fine(fine))
        coarse = F.relu(self.down(fine))
        for layer in self.coarse:
            coarse = coarse + F.relu(layer(coarse))
        fine = fine + F.interpolate(self.up(coarse), scale_factor=2, mode="nearest")
        fine = fine + F.relu(self.joined(fine))
        spread = F.relu(F.pixel_shuffle(self.spread(fine), 2))
        full = F.relu(self.full(torch.cat((seen, spread), dim=1)))
        return LOGIT_SCALE * drawn[:, 0] + self.outline(full)[:, 0].float()


def colour_odds(colours: Tensor, inside: Tensor) -> Tensor:
    """Tell how much likelier each pixel's colour is inside a mask than outside it.

    Args:
        colours: Shape (M, C, R, R), of about unit variance.
        inside: Probability that the mask covers a pixel, shape (M, R, R).

    Returns:
        Logarithm of the ratio, shape (M, R, R), within plus or minus :data:`MOST_ODDS`.
    """
    # A covariance of rounded products need not be one.
    with torch.autocast(colours.device.type, enabled=False):
        values, share = colours.float().flatten(2), inside.float().flatten(1)
        # Squared, so that where the mask is unsure counts for little on either side.
        odds = _log_density(values, share.square()) - _log_density(values, (1 - share).square())
    return odds.clamp(-MOST_ODDS, MOST_ODDS).view_as(inside)


def _log_density(values: Tensor, weight: Tensor) -> Tensor:
    """Logarithm of the density at values (M, C, P) of the Gaussian fitted to them by weights."""
    share = weight / weight.sum(1, keepdim=True).clamp(min=1e-3)
    away = values - (values * share[:, None]).sum(2, keepdim=True)
    floor = LEAST_VARIANCE * torch.eye(values.shape[1], device=values.device)
    # Unchecked: that would make a GPU wait, and a mask that is not a number end all of a step.
    root, _ = torch.linalg.cholesky_ex((away * share[:, None]) @ away.transpose(1, 2) + floor)
    scaled = torch.linalg.solve_triangular(root, away, upper=False)
    volume = elementwise(torch.log, root.diagonal(dim1=1, dim2=2)).sum(1, keepdim=True)
    return -scaled.square().sum(1) / 2 - volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Where outlines of a picture are looked at again, in the order of the masks.

    Attributes:
        corners: x0, y0, x1, y1 of a window for some of the masks, in whole px, within the picture
            and not empty.
        picture_hw: Height and width of the picture in px.
    """

    corners: Mapping[int, Corners]
    picture_hw: tuple[int, int]

    @classmethod
    def of(cls, logits: Tensor, picture_hw: tuple[int, int], *, most_cells: int) -> "Windows":
        """Choose a window round each mask (K, g_h, g_w) that covers something.

        A window of more than ``most_cells`` cells along a side would show less than the grid does.
        """
        height, width = picture_hw
        rows, columns = logits.shape[-2:]
        is_in = logits > 0
        in_rows, in_columns = is_in.any(2).tolist(), is_in.any(1).tolist()
        corners: dict[int, Corners] = {}
        for k, (down, along) in enumerate(zip(in_rows, in_columns, strict=True)):
            if not any(down):
                continue
            y0, y1 = _reach(down, height / rows, height)
            x0, x1 = _reach(along, width / columns, width)
            if max((y1 - y0) * rows / height, (x1 - x0) * columns / width) <= most_cells:
                corners[k] = (x0, y0, x1, y1)
        return cls(corners=corners, picture_hw=picture_hw)

    def cut(self, pixels: Tensor, side: int) -> Tensor:
        """Cut the windows out of a picture (H, W, 3), uint8, to (M, 3, R, R), 0 to 1."""
        channels = pixels.permute(2, 0, 1)
        cut = [_cut(channels, corners, side) for corners in self.corners.values()]
        return torch.stack(cut) / 255

    def cut_masks(self, masks: Tensor, side: int) -> Tensor:
        """Cut the windows out of their masks (K, H, W) to shares of cells (M, R, R), 0 to 1."""
        cut = [_cut(masks[k][None], corners, side) for k, corners in self.corners.items()]
        return torch.cat(cut)

    def cut_logits(self, logits: Tensor, side: int) -> Tensor:
        """Cut the windows out of their masks on the grid (K, g_h, g_w) to (M, R, R)."""
        height, width = self.picture_hw
        corners = logits.new_tensor(list(self.corners.values())).view(-1, 4)
        corners = 2 * corners / logits.new_tensor([width, height] * 2) - 1
        share = (torch.arange(side, device=logits.device) + 0.5) / side
        x0, y0, x1, y1 = corners[:, :, None].unbind(1)
        x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
        grid = torch.stack(
            (x[:, None].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)), dim=-1
        )
        # Half a cell beyond the middle of the last one there is nothing to interpolate with.
        cut = F.grid_sample(
            logits[list(self.corners), None], grid, padding_mode="border", align_corners=False
        )
        return cut[:, 0]


def _reach(is_covered: list[bool], cell_px: float, most_px: int) -> tuple[int, int]:
    """Return where a window begins and ends, in px, along one side of the grid."""
    first = is_covered.index(True)
    last = len(is_covered) - is_covered[::-1].index(True)
    margin = MARGIN_SHARE * (last - first) + MARGIN_CELLS
    low = min(max(int((first - margin) * cell_px), 0), most_px - 1)
    return low, max(min(int((last + margin) * cell_px) + 1, most_px), low + 1)


def _cut(planes: Tensor, corners: Corners, side: int) -> Tensor:
    """Cut a window out of (C, H, W) to (C, R, R), fp32."""
    x0, y0, x1, y1 = corners
    thin_y, thin_x = (max(length // (MOST_SIDES * side), 1) for length in (y1 - y0, x1 - x0))
    return resize(planes[None, :, y0:y1:thin_y, x0:x1:thin_x].float(), side)[0]
