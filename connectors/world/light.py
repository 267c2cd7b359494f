"""What a camera does to a scene: exposure, tint, infrared night and sensor noise."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

_TILE_PX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """The light of one scene.

    Attributes:
        is_night: Infrared: grey, dim towards the edges, noisier.
        gain: Exposure factor.
        gamma: Tone curve; above 1 darkens the middle tones.
        tint: Factor of each of R, G and B; not used at night.
        noise: Standard deviation of the sensor noise in grey levels.
    """

    is_night: bool
    gain: float
    gamma: float
    tint: tuple[float, float, float]
    noise: float


def random_light(rng: np.random.Generator, *, night_probability: float) -> Light:
    """Draw the light of a scene."""
    is_night = bool(rng.random() < night_probability)
    red, green, blue = rng.uniform(0.92, 1.08, 3)
    return Light(
        is_night=is_night,
        gain=rng.uniform(0.85, 1.15) if is_night else rng.uniform(0.78, 1.15),
        gamma=rng.uniform(0.9, 1.25) if is_night else rng.uniform(0.85, 1.2),
        tint=(float(red), float(green), float(blue)),
        noise=rng.uniform(3, 7) if is_night else rng.uniform(0.5, 3.5),
    )


@lru_cache(maxsize=1)
def _noise_tile() -> NDArray[np.float32]:
    return np.random.default_rng(7).standard_normal((2 * _TILE_PX, 2 * _TILE_PX), dtype=np.float32)


@lru_cache(maxsize=16)
def _noise_at(level: int) -> NDArray[np.int8]:
    return np.clip(np.rint(_noise_tile() * level / 2), -127, 127).astype(np.int8)


@lru_cache(maxsize=8)
def _lamp(height: int, width: int) -> NDArray[np.uint8]:
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    across = np.linspace(-1, 1, width, dtype=np.float32)[None]
    return (255 * np.clip(1.05 - 0.34 * (down**2 + across**2), 0.3, 1)).astype(np.uint8)


def _tone_curve(light: Light, flicker: float) -> NDArray[np.uint8]:
    tones = 255 * (np.arange(256) / 255) ** light.gamma * light.gain * flicker
    tint = (1.0, 1.0, 1.0) if light.is_night else light.tint
    curve = np.clip(np.outer(tones, tint), 0, 255)
    return curve.astype(np.uint8)[:, None]


def _noisy(pixels: NDArray[np.uint8], light: Light, rng: np.random.Generator) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    tile = _noise_at(round(light.noise * 2))
    top, left = rng.integers(0, _TILE_PX, 2)
    tile = (
        np.tile(tile, (1 + height // _TILE_PX, 1 + width // _TILE_PX))
        if (max(height, width) > _TILE_PX)
        else tile
    )
    grain = tile[top : top + height, left : left + width]
    layers = cv2.merge([grain, grain, grain]) if pixels.ndim == 3 else grain
    return np.asarray(cv2.add(pixels, layers, dtype=cv2.CV_8U), dtype=np.uint8)


def expose(pixels: NDArray[np.uint8], light: Light, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the picture as the camera gives it, shape (H, W, 3), uint8."""
    height, width = pixels.shape[:2]
    flicker = float(rng.uniform(0.985, 1.015))
    if not light.is_night:
        return _noisy(
            np.asarray(cv2.LUT(pixels, _tone_curve(light, flicker)), np.uint8), light, rng
        )
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    grey = cv2.multiply(grey, _lamp(height, width), scale=1 / 255)
    grey = cv2.LUT(grey, np.ascontiguousarray(_tone_curve(light, flicker)[..., 0]))
    noisy = _noisy(np.asarray(grey, np.uint8), light, rng)
    return np.asarray(cv2.cvtColor(noisy, cv2.COLOR_GRAY2RGB), np.uint8)
