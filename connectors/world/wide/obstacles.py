"""What stands in the way in the wide world: the meadow's trunks, bushes and walls, and more."""

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from connectors.world.background import Floats, as_colour
from connectors.world.props import PropKind, paint_prop
from connectors.world.wide.scenery import flat_noise


class ObstacleKind(StrEnum):
    """What an obstacle looks like."""

    TRUNK = "trunk"
    BUSH = "bush"
    WALL = "wall"
    POLE = "pole"
    FENCE = "fence"
    ROCK = "rock"
    PANEL = "panel"


# Least and greatest width and height, shares of the frame's shorter side; how often it stands
# outdoors and indoors.
_MAKES: dict[ObstacleKind, tuple[tuple[float, float], tuple[float, float], float, float]] = {
    ObstacleKind.TRUNK: ((0.07, 0.22), (1.05, 1.4), 0.2, 0.0),
    ObstacleKind.BUSH: ((0.2, 0.45), (0.15, 0.34), 0.2, 0.0),
    ObstacleKind.WALL: ((0.2, 0.45), (0.2, 0.42), 0.12, 0.0),
    ObstacleKind.POLE: ((0.02, 0.05), (0.7, 1.2), 0.12, 0.0),
    ObstacleKind.FENCE: ((0.4, 0.9), (0.12, 0.28), 0.14, 0.0),
    ObstacleKind.ROCK: ((0.15, 0.35), (0.1, 0.28), 0.12, 0.0),
    ObstacleKind.PANEL: ((0.16, 0.36), (0.2, 0.6), 0.1, 1.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """One obstacle of a scene.

    Attributes:
        kind: What it looks like.
        x: Its middle as a share of the frame's width.
        foot: Row of its foot as a share of the frame's height; hides what stands farther up.
        width: Width as a share of the frame's shorter side.
        height: Height as a share of the frame's shorter side.
    """

    kind: ObstacleKind
    x: float
    foot: float
    width: float
    height: float


def random_obstacle(
    rng: np.random.Generator, *, ground: tuple[float, float], is_indoor: bool
) -> Obstacle:
    """Draw an obstacle that stands on the ground between two rows, given as shares."""
    kinds = tuple(_MAKES)
    weights = np.array([_MAKES[kind][3 if is_indoor else 2] for kind in kinds])
    kind = kinds[rng.choice(len(kinds), p=weights / weights.sum())]
    widths, heights, *_ = _MAKES[kind]
    top, bottom = ground
    nearness = rng.uniform(0.3, 1.0)
    # Far things are smaller, but what reaches out of the frame must go on doing so.
    scale = 0.45 + 0.55 * nearness
    tall = 1.0 if heights[1] > 1 else scale
    return Obstacle(
        kind=kind,
        x=rng.uniform(0.05, 0.95),
        foot=top + (bottom - top) * nearness,
        width=scale * rng.uniform(*widths),
        height=tall * rng.uniform(*heights),
    )


def paint_obstacle(
    rng: np.random.Generator, kind: ObstacleKind, *, height_px: int, width_px: int
) -> NDArray[np.uint8]:
    """Paint an obstacle as premultiplied RGBA, shape about (height_px, width_px, 4), uint8."""
    if kind in {ObstacleKind.TRUNK, ObstacleKind.BUSH, ObstacleKind.WALL}:
        return paint_prop(rng, PropKind(kind.value), height_px=height_px, width_px=width_px)
    painter = {
        ObstacleKind.POLE: _pole,
        ObstacleKind.FENCE: _fence,
        ObstacleKind.ROCK: _rock,
        ObstacleKind.PANEL: _panel,
    }[kind]
    rgba = painter(rng, max(height_px, 8), max(width_px, 3))
    rgba[rgba[..., 3] == 0] = 0
    soft = cv2.GaussianBlur(np.clip(rgba, 0, 255), (3, 3), 0.5)
    return np.asarray(soft).astype(np.uint8)


def _filled(height: int, width: int, colour: Floats) -> Floats:
    rgba = np.empty((height, width, 4), dtype=np.float32)
    rgba[..., :3] = colour
    rgba[..., 3] = 255
    return rgba


def _pole(rng: np.random.Generator, height: int, width: int) -> Floats:
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    base = as_colour(((126, 128, 132), (98, 78, 58), (70, 74, 78))[rng.integers(3)])
    rgba = _filled(height, width, base)
    rgba[..., :3] *= 1.1 - 0.45 * (across - 0.3) ** 2
    return rgba


def _fence(rng: np.random.Generator, height: int, width: int) -> Floats:
    base = as_colour(((142, 112, 78), (214, 210, 200), (96, 98, 102))[rng.integers(3)])
    grain = flat_noise(rng, height, width, zoom=2.5)
    rgba = _filled(height, width, base * (0.75 + 0.4 * grain[..., None]))
    rows, columns = np.mgrid[:height, :width]
    pitch = max(height * rng.uniform(0.16, 0.34), 3)
    slat = rng.uniform(0.35, 0.75)
    upright = columns % pitch < pitch * slat
    beam = (np.abs(rows / height - 0.28) < 0.05) | (np.abs(rows / height - 0.72) < 0.05)
    rgba[..., 3] = np.where(upright | beam, 255, 0)
    return rgba


def _rock(rng: np.random.Generator, height: int, width: int) -> Floats:
    lumps = flat_noise(rng, height, width, zoom=120 / width)
    base = as_colour(((128, 124, 118), (112, 104, 98), (150, 138, 122))[rng.integers(3)])
    down = np.linspace(-1, 0.4, height, dtype=np.float32)[:, None]
    across = np.linspace(-1, 1, width, dtype=np.float32)[None]
    light = 1.1 - 0.4 * (down + 0.4) + 0.2 * across
    rgba = _filled(height, width, base * ((0.5 + 0.8 * lumps) * light)[..., None])
    rgba[..., 3] = np.where(across**2 + down**2 + (lumps - 0.5) * 0.6 < 0.92, 255, 0)
    return rgba


def _panel(rng: np.random.Generator, height: int, width: int) -> Floats:
    base = as_colour(rng.integers(70, 210, 3).tolist())
    grain = flat_noise(rng, height, width, zoom=1.5)
    rgba = _filled(height, width, base * (0.9 + 0.2 * grain[..., None]))
    rim = max(min(height, width) // 18, 1)
    rgba[:rim, :, :3] *= 0.7
    rgba[:, :rim, :3] *= 0.75
    rgba[:, -rim:, :3] *= 0.75
    return rgba
