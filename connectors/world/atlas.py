"""Sprites and how they are drawn: one affine warp inside the sprite's own bounding rectangle.

Colours are RGB; RGBA patches hold premultiplied colour, so that edges stay clean when scaled.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from connectors.world.concepts import SPRITES

ATLAS_PATH = Path(__file__).with_name("atlas.png")
CELL_PX = 128
COLUMNS = 4
_SMALLEST_LEVEL_PX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Sprite:
    """One artwork, facing left, in halving sizes.

    Attributes:
        levels: Premultiplied RGBA, uint8, cropped to what is drawn, largest first.
    """

    levels: tuple[NDArray[np.uint8], ...]

    @property
    def aspect(self) -> float:
        """Width over height."""
        height, width = self.levels[0].shape[:2]
        return width / height

    def level_for(self, height_px: float) -> NDArray[np.uint8]:
        """Return the smallest level that need not be enlarged much to be ``height_px`` tall."""
        chosen = self.levels[0]
        for level in self.levels[1:]:
            if level.shape[0] < 0.9 * height_px:
                break
            chosen = level
        return chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A picture with transparency at a place of the frame; may reach beyond the frame.

    Attributes:
        rgba: Premultiplied RGBA, shape (h, w, 4), uint8.
        left_px: Column of the patch's first column in the frame.
        top_px: Row of the patch's first row in the frame.
    """

    rgba: NDArray[np.uint8]
    left_px: int
    top_px: int

    @property
    def solid(self) -> NDArray[np.bool_]:
        """Where the patch hides what is behind it, shape (h, w): at least half opaque."""
        return self.rgba[..., 3] >= 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Where and how one sprite stands in a frame.

    Attributes:
        x_px: Column of the middle of its feet.
        foot_px: Row of its feet.
        height_px: Height of the upright sprite.
        angle_deg: Turn about the feet, counterclockwise.
        faces_right: Mirrored, as the artwork faces left.
    """

    x_px: float
    foot_px: float
    height_px: float
    angle_deg: float = 0.0
    faces_right: bool = False


def _premultiplied(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = rgba[..., 3:].astype(np.uint16)
    colour = (rgba[..., :3] * alpha + 127) // 255
    return np.concatenate([colour, alpha], axis=2).astype(np.uint8)


def _halvings(rgba: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
    levels = [rgba]
    while min(levels[-1].shape[:2]) >= 2 * _SMALLEST_LEVEL_PX:
        height, width = levels[-1].shape[:2]
        half = cv2.resize(
            levels[-1], ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA
        )
        levels.append(cast("NDArray[np.uint8]", half))
    return tuple(levels)


def sprite_from(rgba: NDArray[np.uint8]) -> Sprite:
    """Return a sprite of straight (not premultiplied) RGBA, uint8, cropped to what is drawn."""
    return Sprite(levels=_halvings(_premultiplied(rgba)))


@lru_cache(maxsize=1)
def load_sprites() -> dict[str, Sprite]:
    """Read the atlas once and return its sprites by name."""
    encoded = np.frombuffer(ATLAS_PATH.read_bytes(), dtype=np.uint8)
    bgra = cast("NDArray[np.uint8]", cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED))
    sprites: dict[str, Sprite] = {}
    for cell, name in enumerate(SPRITES):
        top, left = cell // COLUMNS * CELL_PX, cell % COLUMNS * CELL_PX
        rgba = bgra[top : top + CELL_PX, left : left + CELL_PX][..., [2, 1, 0, 3]]
        rows, columns = np.nonzero(rgba[..., 3])
        drawn = rgba[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        sprites[name] = sprite_from(drawn)
    return sprites


def place_sprite(sprite: Sprite, pose: Pose) -> Patch:
    """Warp a sprite into its pose; the patch is just as large as its bounding rectangle."""
    level = sprite.level_for(pose.height_px)
    height, width = level.shape[:2]
    scale = pose.height_px / height
    angle = np.deg2rad(pose.angle_deg)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    mirror = -1.0 if pose.faces_right else 1.0
    linear = np.array([[mirror * cos, sin], [-mirror * sin, cos]])
    # Feet (bottom middle) go to (x_px, foot_px); half a pixel because pixel centres are integers.
    feet = np.array([(width - 1) / 2, height - 0.5])
    offset = np.array([pose.x_px - 0.5, pose.foot_px - 0.5]) - linear @ feet
    corners = np.array([[-1, -1], [width, -1], [-1, height], [width, height]], dtype=np.float64)
    reach = corners @ linear.T + offset
    left, top = np.floor(reach.min(axis=0)).astype(int)
    right, bottom = np.ceil(reach.max(axis=0)).astype(int) + 1
    matrix = np.column_stack([linear, offset - np.array([left, top])])
    rgba = cv2.warpAffine(
        level, matrix, (int(right - left), int(bottom - top)), flags=cv2.INTER_LINEAR
    )
    return Patch(rgba=cast("NDArray[np.uint8]", rgba), left_px=int(left), top_px=int(top))


def clip_to_frame(
    patch: Patch, height: int, width: int
) -> tuple[slice, slice, slice, slice] | None:
    """Return the overlap as (frame rows, frame columns, patch rows, patch columns), if any."""
    patch_height, patch_width = patch.rgba.shape[:2]
    top, left = max(patch.top_px, 0), max(patch.left_px, 0)
    bottom = min(patch.top_px + patch_height, height)
    right = min(patch.left_px + patch_width, width)
    if bottom <= top or right <= left:
        return None
    return (
        slice(top, bottom),
        slice(left, right),
        slice(top - patch.top_px, bottom - patch.top_px),
        slice(left - patch.left_px, right - patch.left_px),
    )


def blend(pixels: NDArray[np.uint8], rgba: NDArray[np.uint8]) -> None:
    """Draw premultiplied RGBA over ``pixels`` of the same height and width, in place."""
    through = cv2.cvtColor(255 - rgba[..., 3], cv2.COLOR_GRAY2RGB)
    behind = cv2.multiply(pixels, through, scale=1 / 255)
    pixels[...] = cv2.add(behind, cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB))
