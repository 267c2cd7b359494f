"""A camera in the wide world: a seed gives a scene, an index gives a frame and its truth."""

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from connectors.world.compose import WorldFrame
from connectors.world.wide.actors import WideActor
from connectors.world.wide.camera import random_conditions
from connectors.world.wide.casting import WideContent, cast_standing, cast_stretch
from connectors.world.wide.compose import (
    WideScene,
    add_fog,
    draw_wide_frame,
    paint_in_place,
)
from connectors.world.wide.obstacles import random_obstacle
from connectors.world.wide.scenery import Scenery, paint_scenery, random_place
from connectors.world.wide.still import stage_for

_STRETCH_S: Final = 10.0
_STANDING_IDS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class WideConfig:
    """One camera's wide world; equal configs give equal pictures.

    Attributes:
        seed: Seeds everything.
        width: Frame width in pixels, at least 32.
        height: Frame height in pixels, at least 32.
        fps: Frames per second.
        duration_s: Length of the scene.
        content: What it holds.
    """

    seed: int
    width: int = 320
    height: int = 320
    fps: float = 10.0
    duration_s: float = 30.0
    content: WideContent = field(default_factory=WideContent)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed!r}")
        if min(self.width, self.height) < 32:
            raise ValueError(f"a frame of at least 32x32 expected, got {self.width}x{self.height}")
        if self.fps <= 0 or self.duration_s <= 0:
            raise ValueError(
                f"fps and duration_s must be positive, got {self.fps}, {self.duration_s}"
            )


class WideWorld:
    """One camera's scene with random access to its frames."""

    def __init__(self, config: WideConfig) -> None:
        self.config = config
        # One generator per concern: a change to the weather must not reshuffle the cast.
        place_rng, camera_rng, obstacle_rng, standing_rng = (
            np.random.default_rng(seed) for seed in np.random.SeedSequence(config.seed).spawn(4)
        )
        place = random_place(place_rng)
        side = min(config.width, config.height)
        conditions = random_conditions(
            camera_rng,
            night_probability=config.content.night_probability,
            is_indoor=place.is_indoor,
            size_px=side,
        )
        margin = conditions.margin_px(side)
        padded = paint_scenery(
            place_rng, place, height=config.height + 2 * margin, width=config.width + 2 * margin
        )
        seen = _without_margin(padded, margin)
        stage = stage_for(seen, height=config.height, width=config.width)
        wants_any = obstacle_rng.random() < config.content.obstacle_probability
        obstacles = tuple(
            random_obstacle(obstacle_rng, ground=stage.land, is_indoor=place.is_indoor)
            for _ in range(int(obstacle_rng.integers(1, 5)) if wants_any else 0)
        )
        self._stage = replace(stage, hideouts=obstacles)
        self._standing = cast_standing(standing_rng, config.content, self._stage)
        # The cast of the stretch drawn last: frames are mostly asked for in order.
        self._drawn: tuple[int, dict[int, WideActor]] | None = None
        self._scene = WideScene(
            backdrop=add_fog(padded, conditions),
            margin_px=margin,
            horizon=seen.horizon,
            obstacles=tuple(
                paint_in_place(obstacle_rng, made, height=config.height, width=config.width)
                for made in obstacles
            ),
            actors={},
            conditions=conditions,
            noise_seed=config.seed,
        )

    @property
    def num_frames(self) -> int:
        """How many frames the scene lasts, at least 1."""
        return max(round(self.config.duration_s * self.config.fps), 1)

    def render(self, index: int) -> WorldFrame:
        """Draw frame ``index``; the result depends on the config and the index only.

        Raises:
            IndexError: If ``index`` is not in [0, num_frames).
        """
        if not 0 <= index < self.num_frames:
            raise IndexError(f"frame index {index!r} is not in [0, {self.num_frames})")
        time_s = index / self.config.fps
        scene = replace(self._scene, actors=self._cast_at(time_s))
        return draw_wide_frame(scene, index=index, time_s=time_s)

    def _cast_at(self, time_s: float) -> dict[int, WideActor]:
        """Return who may be on stage at a moment, by object id.

        Time is cut into stretches and nobody who moves outstays theirs, so that the cast of a
        moment is known without the casts before it, however long the scene.
        """
        config = self.config
        # The first stretch began before the scene, so that the first frames need not be empty.
        lead_s = (0.2 + 0.4 * np.random.default_rng(config.seed).random()) * _STRETCH_S
        stretch = int((time_s + lead_s) // _STRETCH_S)
        if self._drawn is not None and self._drawn[0] == stretch:
            return self._drawn[1]
        start_s = stretch * _STRETCH_S - lead_s
        moving = cast_stretch(
            np.random.default_rng((config.seed, stretch)),
            config.content,
            self._stage,
            window_s=(start_s, start_s + _STRETCH_S),
        )
        first = _STANDING_IDS + stretch * config.content.most_objects
        cast = dict(enumerate(self._standing)) | dict(enumerate(moving, start=first))
        self._drawn = (stretch, cast)
        return cast


def _without_margin(padded: Scenery, margin_px: int) -> Scenery:
    """Return where the horizon and the shore are in the part that a resting camera shows."""
    rows = int(padded.pixels.shape[0])
    shown = rows - 2 * margin_px

    def share(of_padded: float) -> float:
        return (of_padded * rows - margin_px) / shown

    return replace(
        padded,
        horizon=max(share(padded.horizon), 0.0),
        shore=None if padded.shore is None else share(padded.shore),
    )
