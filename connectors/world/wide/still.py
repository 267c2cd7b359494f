"""Training pictures and short clips of the wide world.

Places and obstacles come from a pool, painted once per size when first needed, so that a picture
costs little more than its own sprites.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from connectors.world.compose import WorldFrame
from connectors.world.wide.camera import random_conditions
from connectors.world.wide.casting import Stage, WideContent, cast_moment
from connectors.world.wide.compose import WideScene, add_fog, draw_wide_frame, set_in_place
from connectors.world.wide.obstacles import Obstacle, paint_obstacle, random_obstacle
from connectors.world.wide.scenery import Scenery, paint_scenery, random_place

_PLACES, _OBSTACLES, _POOL_SEED, _MARGIN = 256, 96, 20_260_201, 1.25
DEFAULT_CONTENT = WideContent()


# A stage may draw scenes of three sizes: sharp, soft, and to look at closely.
@lru_cache(maxsize=3 * _PLACES)
def _pooled_scenery(size: int, number: int) -> Scenery:
    rng = np.random.default_rng((_POOL_SEED, number))
    side = round(size * _MARGIN)
    return paint_scenery(rng, random_place(rng), height=side, width=side)


@lru_cache(maxsize=6 * _OBSTACLES)
def _pooled_obstacle(
    size: int, number: int, *, is_indoor: bool
) -> tuple[Obstacle, NDArray[np.uint8]]:
    rng = np.random.default_rng((_POOL_SEED, _PLACES + number))
    made = random_obstacle(rng, ground=(0.0, 1.0), is_indoor=is_indoor)
    rgba = paint_obstacle(
        rng, made.kind, height_px=round(made.height * size), width_px=round(made.width * size)
    )
    return made, rgba


def _crop(rng: np.random.Generator, whole: Scenery, side: int) -> Scenery:
    """Cut a square out of a place, with its horizon inside where it has one."""
    rows = int(whole.pixels.shape[0])
    spare = rows - side
    left = int(rng.integers(spare + 1))
    horizon_px = round(whole.horizon * rows)
    shore_px = None if whole.shore is None else round(whole.shore * rows)
    lowest = min(spare, horizon_px) if horizon_px else spare
    # A shore must stay in view, or things on land would stand in the water.
    least = 0 if shore_px is None else max(shore_px - round(0.93 * side), 0)
    top = int(rng.integers(min(least, lowest), lowest + 1))
    pixels = whole.pixels[top : top + side, left : left + side]
    return replace(
        whole,
        pixels=pixels[:, ::-1] if rng.random() < 0.5 else pixels,
        horizon=max(horizon_px - top, 0) / side,
        shore=None if shore_px is None else (shore_px - top) / side,
    )


def stage_for(
    scenery: Scenery, *, height: int, width: int, hideouts: tuple[Obstacle, ...] = ()
) -> Stage:
    """Return where a cast may stand in a place."""
    first = scenery.horizon + 0.03
    if scenery.shore is None:
        land, water = (max(first, 0.1), 0.98), None
    else:
        land, water = (scenery.shore + 0.03, 1.0), (first, scenery.shore - 0.02)
    return Stage(
        horizon=scenery.horizon,
        land=land,
        water=water,
        is_indoor=scenery.is_indoor,
        width=width,
        height=height,
        hideouts=hideouts,
    )


def _random_scene(
    rng: np.random.Generator, size: int, middle_s: float, content: WideContent
) -> WideScene:
    whole = _pooled_scenery(size, int(rng.integers(_PLACES)))
    conditions = random_conditions(
        rng,
        night_probability=content.night_probability,
        is_indoor=whole.is_indoor,
        size_px=size,
    )
    margin = min(conditions.margin_px(size), (int(whole.pixels.shape[0]) - size) // 2)
    scenery = _crop(rng, whole, size + 2 * margin)
    bare = stage_for(scenery, height=size, width=size)
    number = int(rng.integers(1, 5)) if rng.random() < content.obstacle_probability else 0
    chosen = [
        _pooled_obstacle(size, int(rng.integers(_OBSTACLES)), is_indoor=scenery.is_indoor)
        for _ in range(number)
    ]
    top, bottom = bare.land
    placed = [
        (replace(made, x=rng.uniform(0.02, 0.98), foot=top + (bottom - top) * made.foot), rgba)
        for made, rgba in chosen
    ]
    stage = replace(bare, hideouts=tuple(made for made, _ in placed))
    return WideScene(
        backdrop=add_fog(scenery, conditions),
        margin_px=margin,
        horizon=scenery.horizon,
        obstacles=tuple(set_in_place(rgba, made, height=size, width=size) for made, rgba in placed),
        actors=dict(enumerate(cast_moment(rng, content, stage, middle_s=middle_s))),
        conditions=conditions,
        noise_seed=int(rng.integers(2**32)),
    )


def render_wide_clip(
    rng: np.random.Generator,
    *,
    size: int,
    num_frames: int,
    fps: float = 10.0,
    content: WideContent = DEFAULT_CONTENT,
) -> list[WorldFrame]:
    """Draw consecutive frames of a random scene whose objects are on stage halfway through.

    Args:
        rng: Source of all choices; the same state gives the same clip.
        size: Height and width in pixels.
        num_frames: Number of frames, at least 1.
        fps: Frames per second; a low value makes objects move farther between frames.
        content: What may appear.

    Raises:
        ValueError: If ``num_frames`` is below 1 or ``fps`` is not positive.
    """
    if num_frames < 1 or fps <= 0:
        raise ValueError(f"num_frames >= 1 and fps > 0 expected, got {num_frames!r} and {fps!r}")
    scene = _random_scene(rng, size, (num_frames - 1) / fps / 2, content)
    return [draw_wide_frame(scene, index=i, time_s=i / fps) for i in range(num_frames)]


def render_wide_still(
    rng: np.random.Generator, *, size: int, content: WideContent = DEFAULT_CONTENT
) -> WorldFrame:
    """Draw one random scene of ``size`` x ``size`` pixels; see :func:`render_wide_clip`."""
    return render_wide_clip(rng, size=size, num_frames=1, content=content)[0]
