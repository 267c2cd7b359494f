"""Painted scenery: sky, a far treeline and textured ground, all from one random generator."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

# Paintings are float32; numpy's stubs see float64 wherever a Python float joins in.
Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backdrop:
    """What lies behind every object.

    Attributes:
        pixels: RGB, shape (H, W, 3), uint8. Read only.
        horizon: Row of the horizon as a share of the height, in [0, 1).
    """

    pixels: NDArray[np.uint8]
    horizon: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Biome:
    """The colours of one kind of place, RGB 0..255: ground from dark to light, trees, sky."""

    ground: tuple[tuple[int, int, int], tuple[int, int, int]]
    trees: tuple[int, int, int]
    sky: tuple[tuple[int, int, int], tuple[int, int, int]]
    has_road: bool = False


_CLEAR = ((96, 150, 205), (205, 222, 232))
_HAZE = ((168, 178, 186), (214, 212, 204))
_EVENING = ((112, 120, 160), (236, 190, 150))
BIOMES: tuple[Biome, ...] = (
    Biome(ground=((70, 98, 42), (138, 160, 78)), trees=(48, 72, 44), sky=_CLEAR),
    Biome(ground=((52, 74, 38), (104, 120, 62)), trees=(34, 54, 36), sky=_HAZE),
    Biome(ground=((148, 124, 72), (206, 184, 122)), trees=(104, 104, 66), sky=_CLEAR),
    Biome(ground=((92, 72, 50), (150, 122, 88)), trees=(66, 62, 46), sky=_EVENING),
    Biome(ground=((196, 204, 212), (240, 243, 246)), trees=(84, 98, 100), sky=_HAZE),
    Biome(ground=((70, 98, 42), (130, 150, 80)), trees=(50, 74, 48), sky=_CLEAR, has_road=True),
    Biome(ground=((120, 118, 112), (164, 160, 152)), trees=(96, 92, 90), sky=_HAZE, has_road=True),
)


def as_colour(rgb: Sequence[int]) -> Floats:
    """Return a colour as an array that broadcasts over a picture, shape (3,)."""
    return np.array(rgb, dtype=np.float32)


def value_noise(
    rng: np.random.Generator, height: int, width: int, *, cells: tuple[float, float]
) -> Floats:
    """Return smooth noise in [0, 1], (height, width), with ``cells`` lumps down and across."""
    coarse = rng.random((int(cells[0]) + 2, int(cells[1]) + 2), dtype=np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return cast("Floats", np.clip(smooth, 0, 1))


def colour_ramp(low: tuple[int, ...], high: tuple[int, ...], share: Floats) -> Floats:
    """Return colours (…, 3) between two RGB ones, by their ``share`` (…) of the second, 0 to 1."""
    start, end = as_colour(low), as_colour(high)
    return start + share[..., None] * (end - start)


def _ground(rng: np.random.Generator, height: int, width: int, biome: Biome) -> Floats:
    lumps = value_noise(rng, height, width, cells=(5, 4))
    tufts = value_noise(rng, height, width, cells=(height / 5, width / 9))
    blades = value_noise(rng, height, width, cells=(height / 3, width / 1.5))
    share = 0.45 * lumps + 0.3 * tufts + 0.25 * blades
    # Nearer ground shows coarser, stronger texture than ground near the horizon.
    nearness = np.linspace(0.35, 1.0, height, dtype=np.float32)[:, None]
    return colour_ramp(*biome.ground, 0.5 + (share - 0.5) * 1.7 * nearness)


def _sky(rng: np.random.Generator, height: int, width: int, biome: Biome) -> Floats:
    fall = np.linspace(0, 1, height, dtype=np.float32)[:, None].repeat(width, axis=1)
    sky = colour_ramp(*biome.sky, fall)
    clouds = 0.6 * value_noise(rng, height, width, cells=(3, 4))
    clouds += 0.4 * value_noise(rng, height, width, cells=(8, 12))
    cover = np.clip((clouds - rng.uniform(0.45, 0.75)) * 4, 0, 0.85)[..., None]
    return sky * (1 - cover) + as_colour((244, 244, 246)) * cover


def _add_treeline(rng: np.random.Generator, canvas: Floats, horizon_px: int, biome: Biome) -> None:
    height, width = canvas.shape[:2]
    for distance in (1.0, 0.5):
        ridge = 0.7 * value_noise(rng, 1, width, cells=(0, 4))[0]
        ridge += 0.3 * value_noise(rng, 1, width, cells=(0, 40))[0]
        tallest = height * rng.uniform(0.06, 0.16) * (0.6 + 0.8 * distance)
        top_px = horizon_px - ridge * tallest
        rows = np.arange(height, dtype=np.float32)[:, None]
        leaves = 0.7 + 0.6 * value_noise(rng, height, width, cells=(height / 4, width / 4))
        colour = as_colour(biome.trees) * leaves[..., None]
        # Far things fade into the sky's colour.
        colour = colour * (1 - 0.45 * distance) + as_colour(biome.sky[1]) * 0.45 * distance
        inside = (rows >= top_px) & (rows < horizon_px)
        canvas[inside] = colour[inside]


def _add_road(rng: np.random.Generator, canvas: Floats, horizon_px: int) -> None:
    height, width = int(canvas.shape[0]), int(canvas.shape[1])
    depth = height - horizon_px
    top = horizon_px + int(depth * rng.uniform(0.25, 0.5))
    bottom = top + max(int(depth * rng.uniform(0.25, 0.45)), 4)
    asphalt = value_noise(rng, bottom - top, width, cells=((bottom - top) / 2, width / 2))
    tone = as_colour((88, 88, 92)) * (0.8 + 0.3 * asphalt[..., None])
    rows = canvas[top:bottom]
    rows[...] = tone[: rows.shape[0]]
    line = max(height // 110, 1)
    canvas[top : top + line] = canvas[bottom - line : bottom] = (190, 188, 178)
    middle, dash = (top + bottom) // 2, max(width // 16, 4)
    dashed = np.flatnonzero(np.arange(width) // dash % 2 == 0)
    canvas[middle : middle + line, dashed] = (206, 200, 176)


def paint_backdrop(rng: np.random.Generator, *, height: int, width: int) -> Backdrop:
    """Paint one scene of random kind; costs a few ms at 320 px."""
    biome = BIOMES[rng.integers(len(BIOMES))]
    # One scene in five is looked down upon: ground to the top of the frame.
    horizon = 0.0 if rng.random() < 0.2 else rng.uniform(0.18, 0.48)
    horizon_px = int(horizon * height)
    canvas = np.empty((height, width, 3), dtype=np.float32)
    if horizon_px:
        canvas[:horizon_px] = _sky(rng, horizon_px, width, biome)
        _add_treeline(rng, canvas, horizon_px, biome)
    canvas[horizon_px:] = _ground(rng, height - horizon_px, width, biome)
    if biome.has_road:
        _add_road(rng, canvas, horizon_px)
    canvas += rng.normal(0, 3, (height, width, 1)).astype(np.float32)
    pixels = np.clip(canvas, 0, 255).astype(np.uint8)
    pixels.flags.writeable = False
    return Backdrop(pixels=pixels, horizon=horizon_px / height)
