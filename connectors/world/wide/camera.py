"""What weather and a camera do to a picture of the wide world, frame by frame."""

from dataclasses import dataclass
from functools import lru_cache
from math import sin
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from connectors.world.light import Light, expose, random_light

_RAIN_TILE_PX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The weather of a scene and the camera that looks at it.

    Attributes:
        light: Day or infrared night, exposure, tint and sensor noise.
        fog: Share of haze in what is at the horizon, in [0, 1).
        rain: Density of the streaks, in [0, 1]; 0 is dry.
        slant: Columns that rain drifts while it falls one row.
        snows: Whether flakes fall instead of drops.
        blur_px: Standard deviation of the lens blur, pixels; 0 is sharp.
        jpeg_quality: Quality of the camera's compression, 1 to 100; 0 is uncompressed.
        shake: Amplitude of the camera's movement as a share of the frame's shorter side.
        phase: Offset of that movement's rhythms, radians.
    """

    light: Light
    fog: float = 0.0
    rain: float = 0.0
    slant: float = 0.0
    snows: bool = False
    blur_px: float = 0.0
    jpeg_quality: int = 0
    shake: float = 0.0
    phase: float = 0.0

    def offset_px(self, time_s: float, side_px: int) -> tuple[float, float]:
        """Return how far the picture is shifted right and down at a moment."""
        if not self.shake:
            return 0.0, 0.0
        reach = self.shake * side_px
        across = 0.6 * sin(5.1 * time_s + self.phase) + 0.4 * sin(13.7 * time_s + 2 * self.phase)
        down = 0.6 * sin(6.3 * time_s + 1.7 * self.phase) + 0.4 * sin(16.1 * time_s + self.phase)
        return reach * across, reach * down

    def margin_px(self, side_px: int) -> int:
        """Return how many pixels of scenery the shake may show beyond each edge."""
        return int(np.ceil(self.shake * side_px)) + 2 if self.shake else 0

    @property
    def haze(self) -> NDArray[np.float32]:
        """Colour of the fog, RGB 0..255."""
        return np.array((196, 200, 204), dtype=np.float32)


def random_conditions(
    rng: np.random.Generator, *, night_probability: float, is_indoor: bool, size_px: int
) -> Conditions:
    """Draw weather and camera of a scene; rooms have no weather."""
    light = random_light(rng, night_probability=night_probability)
    fog, rain, shake, lens, jpeg = rng.random(5)
    is_wet = not is_indoor and rain < 0.14
    is_foggy = not is_indoor and fog < 0.2
    return Conditions(
        light=light,
        fog=float(rng.uniform(0.25, 0.75) if is_foggy or is_wet else rng.uniform(0, 0.15)),
        rain=float(rng.uniform(0.2, 1.0)) if is_wet else 0.0,
        slant=float(rng.uniform(-0.35, 0.35)),
        snows=bool(rng.random() < 0.3),
        blur_px=float(rng.uniform(0.35, 0.75)) * size_px / 168 if lens < 0.25 else 0.0,
        jpeg_quality=int(rng.integers(18, 70)) if jpeg < 0.35 else 0,
        shake=float(rng.uniform(0.003, 0.02)) if shake < 0.2 else 0.0,
        phase=float(rng.uniform(0, 6.28)),
    )


@lru_cache(maxsize=64)
def _streaks(density: int, slant: int, *, snows: bool) -> NDArray[np.uint8]:
    """A periodic tile of rain streaks or snow flakes, brightness to add."""
    rng = np.random.default_rng((density, slant + 100, snows))
    tile = np.zeros((_RAIN_TILE_PX, _RAIN_TILE_PX), dtype=np.uint8)
    for _ in range(60 + 120 * density):
        x, y = (int(v) for v in rng.integers(0, _RAIN_TILE_PX, 2))
        bright = int(rng.integers(20, 75))
        if snows:
            cv2.circle(tile, (x, y), int(rng.integers(0, 3)), 2 * bright, -1, cv2.LINE_AA)
        else:
            length = int(rng.integers(8, 24))
            end = (x + round(length * slant / 10), y + length)
            cv2.line(tile, (x, y), end, bright, 1, cv2.LINE_AA)
    return tile


def _let_fall(pixels: NDArray[np.uint8], conditions: Conditions, time_s: float) -> None:
    """Add streaks of two distances to the picture, in place."""
    density, slant = round(conditions.rain * 4), round(conditions.slant * 10)
    tile = _streaks(density, slant, snows=conditions.snows)
    speed = 90 if conditions.snows else 900
    height, width = (int(side) for side in pixels.shape[:2])
    rows, columns = np.arange(height, dtype=np.int64), np.arange(width, dtype=np.int64)
    for layer, share in enumerate((1.0, 0.6)):
        fallen = speed * share * time_s
        down = (rows - int(fallen)) % _RAIN_TILE_PX
        across = (columns - int(fallen * conditions.slant) + 170 * layer) % _RAIN_TILE_PX
        cut = tile[np.ix_(down, across)]
        pixels[...] = cv2.add(pixels, cv2.cvtColor(cut, cv2.COLOR_GRAY2RGB))


def film(
    pixels: NDArray[np.uint8], conditions: Conditions, rng: np.random.Generator, time_s: float
) -> NDArray[np.uint8]:
    """Return the picture as the camera gives it, shape (H, W, 3), uint8.

    Args:
        pixels: What is drawn, RGB; changed in place.
        conditions: Weather and camera.
        rng: Source of the sensor's noise.
        time_s: Moves the rain.
    """
    if conditions.rain:
        _let_fall(pixels, conditions, time_s)
    if conditions.blur_px:
        cv2.GaussianBlur(pixels, (0, 0), conditions.blur_px, dst=pixels)
    seen = expose(pixels, conditions.light, rng)
    if not conditions.jpeg_quality:
        return seen
    _, encoded = cv2.imencode(".jpg", seen, [cv2.IMWRITE_JPEG_QUALITY, conditions.jpeg_quality])
    return cast("NDArray[np.uint8]", cv2.imdecode(encoded, cv2.IMREAD_COLOR))
