"""A camera in the synthetic world: a seed gives a scene, an index gives a frame and its truth."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from connectors.world.background import paint_backdrop
from connectors.world.casting import cast_stretch
from connectors.world.compose import Scene, WorldFrame, WorldObject, draw_frame, stand
from connectors.world.concepts import CONCEPT_NAMES, concept_named
from connectors.world.light import random_light
from connectors.world.motion import Actor, Path
from connectors.world.props import Prop, PropKind, random_prop

__all__ = ["DEMO", "World", "WorldConfig", "WorldFrame", "WorldObject"]

_STRETCH_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldConfig:
    """One camera's world; equal configs give equal pictures.

    Attributes:
        seed: Seeds everything that is not given.
        width: Frame width in pixels, at least 32.
        height: Frame height in pixels, at least 32.
        fps: Frames per second.
        duration_s: Length of the scene.
        min_objects: Fewest objects of a stretch of time that has any.
        max_objects: Most objects that are ever on stage together.
        concepts: Names of the concepts to draw from.
        night_probability: Chance that the scene is an infrared night; 0 and 1 decide it.
        empty_probability: Chance that nothing comes by for a stretch of about 10 s.
        prop_probability: Chance of standing things to hide behind.
        cast: The very objects to show, instead of random ones.
        props: The very props to stand there, instead of random ones.
    """

    seed: int
    width: int = 320
    height: int = 320
    fps: float = 10.0
    duration_s: float = 30.0
    min_objects: int = 1
    max_objects: int = 5
    concepts: tuple[str, ...] = CONCEPT_NAMES
    night_probability: float = 0.15
    empty_probability: float = 0.15
    prop_probability: float = 0.6
    cast: tuple[Actor, ...] | None = None
    props: tuple[Prop, ...] | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed!r}")
        if min(self.width, self.height) < 32:
            raise ValueError(f"a frame of at least 32x32 expected, got {self.width}x{self.height}")
        if self.fps <= 0 or self.duration_s <= 0:
            raise ValueError(
                f"fps and duration_s must be positive, got {self.fps}, {self.duration_s}"
            )
        if not 0 <= self.min_objects <= self.max_objects:
            raise ValueError(
                f"0 <= min_objects <= max_objects expected, got {self.min_objects!r} and "
                f"{self.max_objects!r}"
            )
        if not self.concepts:
            raise ValueError("at least one concept expected, got none")
        for name in self.concepts:
            concept_named(name)


def _random_cast(config: WorldConfig, horizon: float, time_s: float) -> dict[int, Actor]:
    """Return who may be on stage at a moment, by object id.

    Time is cut into stretches and nobody outstays theirs, so that the cast of a moment is known
    without the casts before it, however long the scene.
    """
    # The first stretch began before the scene, so that the first frames need not be empty.
    lead_s = (0.2 + 0.4 * np.random.default_rng(config.seed).random()) * _STRETCH_S
    stretch = int((time_s + lead_s) // _STRETCH_S)
    rng = np.random.default_rng((config.seed, stretch))
    if rng.random() < config.empty_probability:
        return {}
    start_s = stretch * _STRETCH_S - lead_s
    actors = cast_stretch(
        rng,
        concepts=config.concepts,
        number=int(rng.integers(config.min_objects, config.max_objects + 1)),
        window_s=(start_s, start_s + _STRETCH_S),
        horizon=horizon,
        side_per_width=min(config.width, config.height) / config.width,
    )
    return {stretch * config.max_objects + place: actor for place, actor in enumerate(actors)}


def _build_scene(config: WorldConfig) -> Scene:
    # One generator per concern: a change to the props must not reshuffle the cast.
    backdrop_rng, prop_rng, light_rng = (
        np.random.default_rng(seed) for seed in np.random.SeedSequence(config.seed).spawn(3)
    )
    backdrop = paint_backdrop(backdrop_rng, height=config.height, width=config.width)
    props = config.props
    if props is None:
        number = prop_rng.integers(1, 4) if prop_rng.random() < config.prop_probability else 0
        props = tuple(random_prop(prop_rng) for _ in range(number))
    return Scene(
        backdrop=backdrop,
        props=tuple(stand(prop, prop_rng, backdrop) for prop in props),
        actors=dict(enumerate(config.cast or ())),
        light=random_light(light_rng, night_probability=config.night_probability),
        noise_seed=config.seed,
    )


class World:
    """One camera's scene with random access to its frames."""

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self._scene = _build_scene(config)

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
        scene, time_s = self._scene, index / self.config.fps
        if self.config.cast is None:
            actors = _random_cast(self.config, scene.backdrop.horizon, time_s)
            scene = replace(scene, actors=actors)
        return draw_frame(scene, index=index, time_s=time_s)


# Two deer meet in the open; the far one then passes behind the trunk and comes out of it; a car
# passes in front of the near one; a turkey comes for a look and leaves again.
DEMO: Final = WorldConfig(
    seed=11,
    width=640,
    height=360,
    fps=10.0,
    duration_s=12.0,
    night_probability=0.0,
    props=(
        Prop(kind=PropKind.TRUNK, x=0.36, nearness=0.39, width=0.42, height=1.6),
        Prop(kind=PropKind.BUSH, x=0.89, nearness=0.98, width=0.5, height=0.24),
    ),
    cast=(
        Actor(
            concept="deer",
            start_x=1.02,
            start_s=0.0,
            velocity=-0.085,
            nearness=0.24,
            height=0.34,
            phase=0.4,
            steps_per_s=1.4,
        ),
        Actor(
            concept="deer",
            start_x=0.16,
            start_s=-0.5,
            velocity=0.085,
            nearness=0.62,
            height=0.42,
            phase=2.1,
            steps_per_s=1.2,
        ),
        Actor(
            concept="car",
            start_x=1.2,
            start_s=5.2,
            velocity=-0.25,
            nearness=0.84,
            height=0.27,
            steps_per_s=0.0,
        ),
        Actor(
            concept="turkey",
            path=Path.VISIT,
            start_x=-0.1,
            start_s=1.0,
            velocity=0.09,
            span_s=6.5,
            nearness=0.95,
            height=0.25,
            phase=1.0,
            steps_per_s=2.0,
        ),
    ),
)
