"""Painted places with depth: skies, far ridges, towns, and ground that recedes to the horizon.

All is drawn from one random generator. Textures are cut from one periodic noise tile, so that a
place costs a few milliseconds at small sizes.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from connectors.world.background import Floats, as_colour, colour_ramp

_TILE_PX = 512
_Colour = tuple[int, int, int]


class Surface(StrEnum):
    """What the ground is made of, or what runs across it."""

    BARE = "bare"
    ROAD = "road"
    PATH = "path"
    FURROWS = "furrows"
    TILES = "tiles"
    BOARDS = "boards"
    BAYS = "bays"
    WATER = "water"


class Ridge(StrEnum):
    """What stands along the horizon."""

    MOUNTAINS = "mountains"
    HILLS = "hills"
    TREES = "trees"
    PINES = "pines"
    TOWN = "town"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The colours and the make of one kind of place, RGB 0..255.

    Attributes:
        ground: From dark to light.
        sky: From the top to the horizon; for a room, its wall.
        ridges: From far to near.
        ridge_colour: Of the nearest ridge.
        surface: What the ground is made of.
        grain: Size of the ground's lumps; larger is coarser.
        contrast: How far the ground's lumps differ.
        is_indoor: A room has a wall for its sky, and no weather.
    """

    ground: tuple[_Colour, _Colour]
    sky: tuple[_Colour, _Colour]
    ridges: tuple[Ridge, ...] = ()
    ridge_colour: _Colour = (56, 76, 50)
    surface: Surface = Surface.BARE
    grain: float = 1.0
    contrast: float = 1.0
    is_indoor: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenery:
    """What lies behind every object.

    Attributes:
        pixels: RGB, shape (H, W, 3), uint8. Read only.
        horizon: Row of the horizon as a share of the height, in [0, 1).
        shore: Row where water ends and land begins, as a share of the height; ``None``: no water.
        is_indoor: Whether it is a room.
    """

    pixels: NDArray[np.uint8]
    horizon: float
    shore: float | None = None
    is_indoor: bool = False


_CLEAR, _HAZE = ((82, 140, 208), (206, 224, 234)), ((164, 176, 186), (216, 214, 206))
_EVENING, _GREY = ((104, 112, 158), (240, 190, 144)), ((138, 144, 150), (186, 188, 188))
_TREES, _PINES, _HILLS = (Ridge.TREES,), (Ridge.MOUNTAINS, Ridge.PINES), (Ridge.HILLS, Ridge.TREES)
_TOWN = (Ridge.TOWN,)
_GRASS, _DRY = ((62, 92, 38), (142, 164, 80)), ((146, 122, 70), (208, 186, 124))
_ASPHALT, _PAVING = ((74, 75, 78), (112, 112, 114)), ((132, 128, 122), (176, 172, 164))

LAND_PLACES: tuple[Place, ...] = (
    Place(ground=_GRASS, sky=_CLEAR, ridges=_TREES),
    Place(ground=_GRASS, sky=_HAZE, ridges=_HILLS, surface=Surface.PATH),
    Place(ground=((50, 72, 36), (108, 126, 64)), sky=_GREY, ridges=_PINES, grain=1.6),
    Place(ground=((66, 58, 38), (116, 98, 66)), sky=_EVENING, ridges=_TREES, grain=0.7),
    Place(ground=_DRY, sky=_CLEAR, ridges=(Ridge.HILLS,), ridge_colour=(122, 112, 72)),
    Place(ground=((196, 158, 104), (232, 200, 148)), sky=_CLEAR, grain=3.0, contrast=0.8),
    Place(
        ground=((200, 208, 218), (244, 246, 248)),
        sky=_GREY,
        ridges=_PINES,
        ridge_colour=(70, 88, 90),
        contrast=0.6,
    ),
    Place(ground=_GRASS, sky=_CLEAR, ridges=_HILLS, surface=Surface.ROAD),
    Place(ground=_PAVING, sky=_HAZE, ridges=_TOWN, surface=Surface.ROAD),
    Place(ground=_PAVING, sky=_EVENING, ridges=_TOWN, surface=Surface.TILES, contrast=0.5),
    Place(ground=_ASPHALT, sky=_GREY, ridges=_TOWN, surface=Surface.BAYS, contrast=0.6),
    Place(ground=((92, 68, 46), (150, 118, 82)), sky=_CLEAR, ridges=_TREES, surface=Surface.PATH),
    Place(ground=((98, 76, 50), (142, 118, 80)), sky=_HAZE, ridges=_HILLS, surface=Surface.FURROWS),
    Place(ground=((118, 112, 104), (172, 166, 156)), sky=_CLEAR, ridges=(Ridge.MOUNTAINS,)),
)
WATER_PLACES: tuple[Place, ...] = (
    Place(ground=((40, 82, 112), (96, 146, 168)), sky=_CLEAR, surface=Surface.WATER),
    Place(ground=((48, 84, 88), (110, 142, 138)), sky=_HAZE, ridges=_HILLS, surface=Surface.WATER),
    Place(ground=((54, 76, 92), (128, 148, 158)), sky=_GREY, ridges=_PINES, surface=Surface.WATER),
    Place(
        ground=((62, 74, 96), (170, 140, 128)), sky=_EVENING, ridges=_TOWN, surface=Surface.WATER
    ),
)
ROOM_PLACES: tuple[Place, ...] = (
    Place(
        ground=((128, 88, 54), (172, 128, 84)),
        sky=((226, 218, 202), (206, 196, 178)),
        surface=Surface.BOARDS,
        contrast=0.7,
        is_indoor=True,
    ),
    Place(
        ground=((186, 184, 180), (214, 212, 208)),
        sky=((186, 200, 208), (166, 180, 188)),
        surface=Surface.TILES,
        contrast=0.3,
        is_indoor=True,
    ),
    Place(
        ground=((98, 84, 92), (128, 112, 118)),
        sky=((196, 178, 160), (178, 160, 140)),
        grain=0.4,
        contrast=0.5,
        is_indoor=True,
    ),
)
_SANDS: tuple[tuple[_Colour, _Colour], ...] = (
    ((190, 164, 118), (226, 206, 164)),
    ((70, 90, 46), (134, 150, 80)),
    ((118, 112, 104), (160, 152, 142)),
)


@lru_cache(maxsize=1)
def _noise_tile() -> NDArray[np.float32]:
    """Periodic fractal noise in [0, 1] with a mean of about one half."""
    rng = np.random.default_rng(41)
    total = np.zeros((_TILE_PX, _TILE_PX), dtype=np.float32)
    for cells, weight in ((8, 0.3), (24, 0.26), (64, 0.24), (160, 0.2)):
        coarse = np.pad(rng.random((cells, cells), dtype=np.float32), 2, mode="wrap")
        scale = _TILE_PX / cells
        side = round((cells + 4) * scale)
        smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        begin = round(2 * scale)
        total += weight * smooth[begin : begin + _TILE_PX, begin : begin + _TILE_PX]
    spread = (total - total.mean()) / (4 * total.std())
    return np.clip(0.5 + spread, 0, 1).astype(np.float32)


def _sampled(u: Floats, v: Floats) -> Floats:
    """Noise at real coordinates in tile pixels, which may lie outside: the tile repeats."""
    across = np.mod(u, _TILE_PX).astype(np.float32)
    down = np.mod(v, _TILE_PX).astype(np.float32)
    return cast(
        "Floats",
        cv2.remap(_noise_tile(), across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP),
    )


def flat_noise(rng: np.random.Generator, height: int, width: int, *, zoom: float = 1.0) -> Floats:
    """Return noise in [0, 1], shape (height, width); a larger ``zoom`` gives finer lumps."""
    top, left = rng.uniform(0, _TILE_PX, 2)
    v, u = np.mgrid[:height, :width].astype(np.float32)
    return _sampled(left + u * zoom, top + v * zoom)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """The floor seen in perspective: ``across`` and ``away`` in widths of its nearest row."""

    across: Floats
    away: Floats
    nearness: Floats


def _lay_ground(height: int, width: int, *, tilt: float) -> _Ground:
    """Map the rows below the horizon to the floor; ``tilt`` 0 looks straight down."""
    rows = (np.arange(height, dtype=np.float32)[:, None] + 1) / height
    depth = 1 / (tilt * rows + 1 - tilt + 0.02)
    columns = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None] * width / height
    nearness = np.broadcast_to(1 / depth, (height, width))
    away = np.broadcast_to((depth - 1) * (1 if tilt > 0.5 else 0) + (1 - rows), (height, width))
    return _Ground(across=columns * depth, away=away, nearness=np.clip(nearness, 0, 1))


def _ground_colour(rng: np.random.Generator, place: Place, ground: _Ground) -> Floats:
    left, top = rng.uniform(0, _TILE_PX, 2)
    scale = 110 / place.grain
    lumps = _sampled(left + ground.across * scale, top + ground.away * scale * 1.6)
    fine = _sampled(top + ground.across * scale * 4, left + ground.away * scale * 6)
    share = 0.5 + (0.65 * (lumps - 0.5) + 0.5 * (fine - 0.5)) * place.contrast * (
        0.35 + 0.65 * ground.nearness
    )
    return colour_ramp(*place.ground, np.clip(share, 0, 1))


def _draw_surface(
    rng: np.random.Generator, colour: Floats, surface: Surface, ground: _Ground
) -> None:
    """Draw what runs over the ground, in place."""
    if surface in {Surface.TILES, Surface.BOARDS}:
        pitch = rng.uniform(0.16, 0.34)
        joints = _lines(ground.across, pitch, 0.03 * pitch + 0.004 / ground.nearness)
        if surface is Surface.TILES:
            joints = np.maximum(joints, _lines(ground.away, pitch, 0.05 * pitch))
        colour *= 1 - 0.28 * (joints * np.clip(ground.nearness * 3, 0, 1))[..., None]
        plank = np.floor(ground.across / pitch) * 37.0
        colour *= 0.92 + 0.16 * _sampled(plank, plank * 0.5)[..., None]
    elif surface is Surface.FURROWS:
        waves = np.sin(ground.across * rng.uniform(24, 44) + rng.uniform(0, 6))
        colour *= 1 + 0.2 * (waves * np.clip(ground.nearness * 1.6 - 0.1, 0, 1))[..., None]
    elif surface is Surface.BAYS:
        stripes = _lines(ground.across + rng.uniform(0, 1), 0.42, 0.016)
        inside = (ground.away % 1.3) < 0.75
        paint = (stripes * inside * 0.75)[..., None]
        colour += paint * (as_colour((206, 204, 196)) - colour)
    elif surface in {Surface.ROAD, Surface.PATH}:
        _draw_way(rng, colour, ground, is_road=surface is Surface.ROAD)


def _lines(position: Floats, pitch: float, width: Floats | float) -> Floats:
    away = np.abs(np.mod(position, pitch) - pitch / 2)
    return (away > pitch / 2 - width).astype(np.float32)


def _draw_way(rng: np.random.Generator, colour: Floats, ground: _Ground, *, is_road: bool) -> None:
    """Draw a road or a path: along the view or across it."""
    runs_across = rng.random() < 0.5
    side = ground.away if runs_across else ground.across
    along = ground.across if runs_across else ground.away
    farthest = float(np.quantile(ground.away, 0.7))
    middle = rng.uniform(0.2, 0.8) * farthest if runs_across else rng.uniform(-0.4, 0.4)
    half = rng.uniform(0.14, 0.3) if is_road else rng.uniform(0.05, 0.12)
    bend = 0 if is_road else 0.06 * np.sin(along * 3 + rng.uniform(0, 6))
    offset = side - middle + bend
    inside = np.clip((half - np.abs(offset)) * 40, 0, 1)
    grain = _sampled(along * 300, side * 300)
    tone = as_colour((84, 85, 90) if is_road else (150, 126, 92)) * (0.85 + 0.3 * grain[..., None])
    colour += inside[..., None] * (tone - colour)
    if is_road:
        dashes = (np.abs(offset) < 0.008) * ((along * 4) % 1 < 0.55)
        edges = np.abs(np.abs(offset) - half * 0.93) < 0.006
        paint = (0.8 * np.maximum(dashes, edges))[..., None]
        colour += paint * (as_colour((216, 212, 200)) - colour)


def _sky(rng: np.random.Generator, height: int, width: int, place: Place) -> Floats:
    fall = np.linspace(0, 1, height, dtype=np.float32)[:, None].repeat(width, axis=1)
    sky = colour_ramp(*place.sky, fall)
    if place.is_indoor:
        _furnish_wall(rng, sky)
        return sky
    clouds = flat_noise(rng, height, width, zoom=rng.uniform(0.5, 1.2) * 200 / width)
    cover = np.clip((clouds - rng.uniform(0.4, 0.75)) * 3.5, 0, 0.85)[..., None]
    return sky * (1 - cover) + as_colour((243, 243, 245)) * cover


def _furnish_wall(rng: np.random.Generator, wall: Floats) -> None:
    height, width = int(wall.shape[0]), int(wall.shape[1])
    wall *= 0.96 + 0.08 * flat_noise(rng, height, width, zoom=3.0)[..., None]
    if rng.random() < 0.6 and height > 24:
        w, h = int(width * rng.uniform(0.15, 0.3)), int(height * rng.uniform(0.45, 0.65))
        x, y = int(rng.integers(max(width - w, 1))), int(height * 0.12)
        cv2.rectangle(wall, (x - 2, y - 2), (x + w + 2, y + h + 2), (232, 230, 226), -1)
        cv2.rectangle(wall, (x, y), (x + w, y + h), (188, 212, 230), -1)
        cv2.line(wall, (x + w // 2, y), (x + w // 2, y + h), (232, 230, 226), 2)
    skirting = max(height // 24, 2)
    wall[-skirting:] = wall[-skirting:] * 0.35 + as_colour((240, 238, 232)) * 0.6


def _outline(rng: np.random.Generator, ridge: Ridge, width: int) -> tuple[Floats, float]:
    """Return the ridge's height along the frame in [0, 1], and its tallest as a share of it."""
    if ridge is Ridge.TOWN:
        edges = np.cumsum(rng.uniform(0.04, 0.14, 40))
        levels = rng.uniform(0.25, 1.0, 41).astype(np.float32)
        return levels[np.searchsorted(edges, np.linspace(0, 1, width))], rng.uniform(0.12, 0.3)
    zoom = {Ridge.MOUNTAINS: 90, Ridge.HILLS: 40, Ridge.TREES: 260, Ridge.PINES: 300}[ridge]
    outline = flat_noise(rng, 1, width, zoom=zoom / width)[0]
    if ridge is Ridge.PINES:
        teeth = np.abs((np.linspace(0, rng.uniform(30, 60), width) % 1) - 0.5)
        outline = 0.6 * outline + 0.6 * teeth
    tallest = rng.uniform(0.14, 0.3) if ridge is Ridge.MOUNTAINS else rng.uniform(0.08, 0.2)
    return np.clip(0.5 + 0.8 * (outline - 0.5), 0.05, 1), tallest


def _draw_ridge(
    rng: np.random.Generator, canvas: Floats, horizon_px: int, *, place: Place, distance: float
) -> None:
    height, width = int(canvas.shape[0]), int(canvas.shape[1])
    ridge = place.ridges[len(place.ridges) - 1 - round(2 * distance)]
    outline, tallest = _outline(rng, ridge, width)
    top_px = horizon_px - outline * tallest * height
    rows = np.arange(horizon_px, dtype=np.float32)[:, None]
    inside = rows >= top_px
    texture = flat_noise(rng, horizon_px, width, zoom=500 / width)
    base = as_colour(place.ridge_colour)
    if ridge is Ridge.TOWN:
        colour = _town(rng, outline, horizon_px, width)
    else:
        colour = base * (0.55 + 0.9 * texture[..., None])
    haze = 0.22 + 0.6 * distance
    colour = colour * (1 - haze) + as_colour(place.sky[1]) * haze
    canvas[:horizon_px][inside] = colour[inside]


def _town(rng: np.random.Generator, outline: Floats, height: int, width: int) -> Floats:
    """Facades with rows of windows, one tone for each building."""
    tones = as_colour((176, 160, 146)) * (0.6 + 0.5 * outline[None, :, None])
    facade = np.broadcast_to(tones, (height, width, 3)).copy()
    pitch = max(width // int(rng.integers(36, 60)), 3)
    rows, columns = np.mgrid[:height, :width]
    is_window = (rows % pitch > pitch * 0.45) & (columns % pitch > pitch * 0.4)
    lit = _sampled(columns // pitch * 71.0, rows // pitch * 53.0) > 0.62
    facade[is_window] = facade[is_window] * 0.5
    facade[is_window & lit] = (228, 208, 150)
    return facade


def _draw_shore(rng: np.random.Generator, canvas: Floats, horizon_px: int, water: Floats) -> float:
    """Draw rippled water from the horizon to a shore; return the shore's row as a share."""
    height, width = int(canvas.shape[0]), int(canvas.shape[1])
    shore = rng.uniform(0.62, 0.92)
    wander = (flat_noise(rng, 1, width, zoom=60 / width)[0] - 0.5) * 0.05
    rows = np.arange(horizon_px, height, dtype=np.float32)[:, None] / height
    offset = rows - shore - wander[None]
    low, high = _SANDS[rng.integers(len(_SANDS))]
    sand = colour_ramp(low, high, flat_noise(rng, height - horizon_px, width, zoom=2.0))
    is_land = np.clip(offset * height / 2, 0, 1)[..., None]
    foam = np.clip(1 - np.abs(offset) * height / 2.5, 0, 1)[..., None]
    ripples = flat_noise(rng, height - horizon_px, width, zoom=1.0)
    water += 0.7 * foam * (235 - water) + ((ripples - 0.5) * 14)[..., None]
    canvas[horizon_px:] = water * (1 - is_land) + sand * is_land
    return shore


def paint_scenery(rng: np.random.Generator, place: Place, *, height: int, width: int) -> Scenery:
    """Paint one place as one camera sees it.

    Args:
        rng: Source of all choices.
        place: What kind of place it is.
        height: Rows.
        width: Columns.
    """
    has_water = place.surface is Surface.WATER
    # One outdoor scene in six is looked down upon: ground to the top of the frame.
    looks_down = not has_water and not place.is_indoor and rng.random() < 0.16
    horizon_px = 0 if looks_down else int(rng.uniform(0.2, 0.5) * height)
    canvas = np.empty((height, width, 3), dtype=np.float32)
    if horizon_px:
        canvas[:horizon_px] = _sky(rng, horizon_px, width, place)
        for number in range(len(place.ridges)):
            distance = (len(place.ridges) - 1 - number) / 2
            _draw_ridge(rng, canvas, horizon_px, place=place, distance=distance)
    tilt = 0.0 if looks_down else rng.uniform(0.82, 0.96)
    ground = _lay_ground(height - horizon_px, width, tilt=tilt)
    colour = _ground_colour(rng, place, ground)
    shore = None
    if has_water:
        shore = _draw_shore(rng, canvas, horizon_px, colour)
    else:
        _draw_surface(rng, colour, place.surface, ground)
        canvas[horizon_px:] = colour
    # Clouds and leaves throw soft shadows.
    shade = flat_noise(rng, height - horizon_px, width, zoom=rng.uniform(60, 160) / width)
    canvas[horizon_px:] *= 0.84 + 0.3 * shade[..., None]
    canvas += rng.normal(0, 2.5, (height, width, 1)).astype(np.float32)
    pixels = np.clip(canvas, 0, 255).astype(np.uint8)
    pixels.flags.writeable = False
    return Scenery(
        pixels=pixels, horizon=horizon_px / height, shore=shore, is_indoor=place.is_indoor
    )


def random_place(rng: np.random.Generator) -> Place:
    """Draw a kind of place: mostly land, now and then water or a room."""
    draw = rng.random()
    places = LAND_PLACES
    if draw < 0.18:
        places = WATER_PLACES
    elif draw < 0.3:
        places = ROOM_PLACES
    return places[rng.integers(len(places))]
