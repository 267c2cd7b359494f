"""Training pictures and short clips: fresh random scenes, drawn by the same hands as the world.

Backdrops and props come from a pool painted once per size (about half a second at 168 px), so that
a picture costs little more than its own sprites.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from connectors.world.atlas import Patch
from connectors.world.background import Backdrop, paint_backdrop
from connectors.world.casting import cast_moment
from connectors.world.compose import Scene, StandingPatch, WorldFrame, draw_frame
from connectors.world.concepts import CONCEPT_NAMES
from connectors.world.light import random_light
from connectors.world.motion import foot_row
from connectors.world.props import Prop, paint_prop, random_prop

_BACKDROPS, _PROPS, _POOL_SEED, _MARGIN = 64, 48, 20_260_101, 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class StillConfig:
    """What random pictures and clips look like.

    Attributes:
        min_objects: Fewest objects of a scene that has any.
        max_objects: Most objects of a scene.
        concepts: Names of the concepts to draw from.
        night_probability: Share of infrared scenes.
        empty_probability: Share of scenes without an object.
        prop_probability: Share of scenes with one to three props to hide behind.
    """

    min_objects: int = 1
    max_objects: int = 5
    concepts: tuple[str, ...] = CONCEPT_NAMES
    night_probability: float = 0.15
    empty_probability: float = 0.05
    prop_probability: float = 0.5


DEFAULT_STILLS = StillConfig()


@lru_cache(maxsize=4)
def _backdrop_pool(size: int) -> tuple[Backdrop, ...]:
    side = round(size * _MARGIN)
    seeds = np.random.SeedSequence(_POOL_SEED).spawn(_BACKDROPS)
    return tuple(
        paint_backdrop(np.random.default_rng(seed), height=side, width=side) for seed in seeds
    )


@lru_cache(maxsize=4)
def _prop_pool(size: int) -> tuple[tuple[Prop, NDArray[np.uint8]], ...]:
    rng = np.random.default_rng(_POOL_SEED)
    props = [random_prop(rng) for _ in range(_PROPS)]
    return tuple(
        (
            prop,
            paint_prop(
                rng,
                prop.kind,
                height_px=round(prop.height * size),
                width_px=round(prop.width * size),
            ),
        )
        for prop in props
    )


def _crop_backdrop(rng: np.random.Generator, size: int) -> Backdrop:
    pool = _backdrop_pool(size)
    whole = pool[rng.integers(len(pool))]
    spare = int(whole.pixels.shape[0]) - size
    left = int(rng.integers(spare + 1))
    horizon_px = round(whole.horizon * whole.pixels.shape[0])
    top = int(rng.integers((min(spare, horizon_px) if horizon_px else spare) + 1))
    pixels = whole.pixels[top : top + size, left : left + size]
    pixels = pixels[:, ::-1] if rng.random() < 0.5 else pixels
    return Backdrop(pixels=pixels, horizon=max(horizon_px - top, 0) / size)


def _pick_props(rng: np.random.Generator, size: int, horizon: float) -> tuple[StandingPatch, ...]:
    pool = _prop_pool(size)
    standing: list[StandingPatch] = []
    for _ in range(rng.integers(1, 4)):
        prop, rgba = pool[rng.integers(len(pool))]
        placed = replace(prop, x=rng.uniform(0.02, 0.98), nearness=rng.uniform(0.3, 0.95))
        patch = Patch(
            rgba=rgba,
            left_px=round(placed.x * size) - rgba.shape[1] // 2,
            top_px=round(foot_row(placed.nearness, horizon) * size) - rgba.shape[0],
        )
        standing.append(StandingPatch(patch=patch, nearness=placed.nearness))
    return tuple(standing)


def _random_scene(
    rng: np.random.Generator, size: int, middle_s: float, config: StillConfig
) -> Scene:
    backdrop = _crop_backdrop(rng, size)
    is_empty = rng.random() < config.empty_probability
    number = 0 if is_empty else int(rng.integers(config.min_objects, config.max_objects + 1))
    has_props = rng.random() < config.prop_probability
    return Scene(
        backdrop=backdrop,
        props=_pick_props(rng, size, backdrop.horizon) if has_props else (),
        actors=dict(
            enumerate(
                cast_moment(
                    rng,
                    concepts=config.concepts,
                    number=number,
                    middle_s=middle_s,
                    horizon=backdrop.horizon,
                )
            )
        ),
        light=random_light(rng, night_probability=config.night_probability),
        noise_seed=int(rng.integers(2**32)),
    )


def render_clip(
    rng: np.random.Generator,
    *,
    size: int,
    num_frames: int,
    fps: float = 10.0,
    config: StillConfig = DEFAULT_STILLS,
) -> list[WorldFrame]:
    """Draw consecutive frames of a random scene whose objects are on stage halfway through.

    Args:
        rng: Source of all choices; the same state gives the same clip.
        size: Height and width in pixels.
        num_frames: Number of frames, at least 1.
        fps: Frames per second; a low value makes objects move farther between frames.
        config: What may appear.

    Raises:
        ValueError: If ``num_frames`` is below 1 or ``fps`` is not positive.
    """
    if num_frames < 1 or fps <= 0:
        raise ValueError(f"num_frames >= 1 and fps > 0 expected, got {num_frames!r} and {fps!r}")
    scene = _random_scene(rng, size, (num_frames - 1) / fps / 2, config)
    return [draw_frame(scene, index=i, time_s=i / fps) for i in range(num_frames)]


def render_still(
    rng: np.random.Generator, *, size: int, config: StillConfig = DEFAULT_STILLS
) -> WorldFrame:
    """Draw one random scene of ``size`` x ``size`` pixels; see :func:`render_clip`."""
    return render_clip(rng, size=size, num_frames=1, config=config)[0]
