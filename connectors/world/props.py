"""Opaque things that stand still and that objects walk behind: trunks, bushes, walls."""

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from connectors.world.background import Floats, as_colour, value_noise


class PropKind(StrEnum):
    """What a prop looks like."""

    TRUNK = "trunk"
    BUSH = "bush"
    WALL = "wall"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prop:
    """One prop of a scene.

    Attributes:
        kind: What it looks like.
        x: Its middle as a share of the frame's width.
        nearness: 0 stands at the horizon, 1 at the camera; hides what is farther.
        width: Width as a share of the frame's shorter side.
        height: Height as a share of the frame's shorter side.
    """

    kind: PropKind
    x: float
    nearness: float
    width: float
    height: float


def random_prop(rng: np.random.Generator) -> Prop:
    """Draw a prop that may hide an object whole."""
    kind = (PropKind.TRUNK, PropKind.BUSH, PropKind.WALL)[rng.choice(3, p=(0.5, 0.3, 0.2))]
    low, high = {
        PropKind.TRUNK: ((0.08, 1.0), (0.24, 1.4)),
        PropKind.BUSH: ((0.2, 0.15), (0.45, 0.35)),
        PropKind.WALL: ((0.18, 0.2), (0.4, 0.4)),
    }[kind]
    return Prop(
        kind=kind,
        x=rng.uniform(0.05, 0.95),
        nearness=rng.uniform(0.35, 0.95),
        width=rng.uniform(low[0], high[0]),
        height=rng.uniform(low[1], high[1]),
    )


def _round_foot(rgba: Floats, depth_px: float) -> None:
    """Let the foot curve up to the sides, as a round thing's does when seen from above."""
    height, width = int(rgba.shape[0]), int(rgba.shape[1])
    across = np.linspace(-1, 1, width, dtype=np.float32)[None]
    rows = np.arange(height, dtype=np.float32)[:, None]
    rgba[rows > height - 1 - depth_px * across**2, 3] = 0


def _trunk(rng: np.random.Generator, height: int, width: int) -> Floats:
    bark = value_noise(rng, height, width, cells=(height / 22, width / 2.5))
    bark = 0.6 * bark + 0.4 * value_noise(rng, height, width, cells=(height / 7, width / 4))
    across = np.linspace(-1, 1, width, dtype=np.float32)
    base = as_colour(((112, 86, 62), (96, 88, 80), (134, 116, 92))[rng.integers(3)])
    shade = (0.55 + 0.6 * bark) * (1.08 - 0.5 * (across - 0.25) ** 2)
    rgba = np.empty((height, width, 4), dtype=np.float32)
    rgba[..., :3] = base * shade[..., None]
    # The sides wander and the foot flares out.
    wander = (value_noise(rng, height, 2, cells=(max(height / 30, 2), 0)) - 0.5) * 0.16
    flare = 0.8 + 0.18 * np.exp(-np.linspace(8, 0, height, dtype=np.float32))
    inside = (across[None] > -flare[:, None] + wander[:, :1]) & (
        across[None] < flare[:, None] + wander[:, 1:]
    )
    rgba[..., 3] = np.where(inside, 255, 0)
    _round_foot(rgba, 0.16 * width)
    return rgba


def _bush(rng: np.random.Generator, height: int, width: int) -> Floats:
    leaves = 0.5 * value_noise(rng, height, width, cells=(height / 3, width / 3))
    leaves += 0.5 * value_noise(rng, height, width, cells=(height / 9, width / 9))
    base = as_colour(((62, 104, 46), (84, 110, 52), (96, 92, 50))[rng.integers(3)])
    light = np.linspace(1.25, 0.65, height, dtype=np.float32)[:, None]
    rgba = np.empty((height, width, 4), dtype=np.float32)
    rgba[..., :3] = base * ((0.5 + leaves) * light)[..., None]
    down = np.linspace(-1, 0.25, height, dtype=np.float32)[:, None]
    across = np.linspace(-1, 1, width, dtype=np.float32)[None]
    ragged = (leaves - 0.5) * 0.5
    rgba[..., 3] = np.where(across**2 + down**2 + ragged < 0.9, 255, 0)
    _round_foot(rgba, 0.12 * width)
    return rgba


def _wall(rng: np.random.Generator, height: int, width: int) -> Floats:
    course = max(height // 9, 3)
    rows, columns = np.mgrid[:height, :width]
    shifted = columns + (rows // course % 2) * course
    brick = rng.random((height // course + 2, width // (2 * course) + 3), dtype=np.float32)
    tone = brick[rows // course, shifted // (2 * course)]
    mortar = (rows % course == 0) | (shifted % (2 * course) == 0)
    base = as_colour(((150, 92, 74), (140, 134, 126), (168, 150, 120))[rng.integers(3)])
    grain = value_noise(rng, height, width, cells=(height / 3, width / 3))
    rgba = np.empty((height, width, 4), dtype=np.float32)
    rgba[..., :3] = base * (0.75 + 0.25 * tone + 0.2 * grain)[..., None]
    rgba[mortar, :3] = as_colour((172, 166, 156)) * 0.9
    rgba[..., 3] = 255
    return rgba


_PAINTERS = {PropKind.TRUNK: _trunk, PropKind.BUSH: _bush, PropKind.WALL: _wall}


def paint_prop(
    rng: np.random.Generator, kind: PropKind, *, height_px: int, width_px: int
) -> NDArray[np.uint8]:
    """Paint a prop as premultiplied RGBA, shape (height_px, width_px, 4), uint8."""
    rgba = _PAINTERS[kind](rng, max(height_px, 8), max(width_px, 6))
    rgba[rgba[..., 3] == 0] = 0
    soft = cv2.GaussianBlur(np.clip(rgba, 0, 255), (3, 3), 0.6)
    return np.asarray(soft).astype(np.uint8)
