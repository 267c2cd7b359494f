"""Draws one frame of the wide world: painter's order, weather, and the truth of what shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from connectors.world.atlas import Patch, place_sprite
from connectors.world.compose import (
    MIN_VISIBLE_PX,
    Canvas,
    WorldFrame,
    WorldObject,
    cast_shadow,
)
from connectors.world.wide.actors import WideActor
from connectors.world.wide.artwork import wide_sprite
from connectors.world.wide.camera import Conditions, film
from connectors.world.wide.catalogue import Manner, wide_concept_named
from connectors.world.wide.obstacles import Obstacle, paint_obstacle
from connectors.world.wide.scenery import Scenery

_LEAST_FOG = 0.02
_NO_SHADOW = frozenset({Manner.FLOAT, Manner.SWIM, Manner.HOVER, Manner.FLY})


@dataclass(frozen=True, slots=True, kw_only=True)
class PaintedObstacle:
    """An obstacle painted for one frame size, at its place in the resting picture."""

    patch: Patch
    foot: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WideScene:
    """Everything needed to draw any moment of a scene.

    Attributes:
        backdrop: What lies behind, with ``margin_px`` more at each edge than a frame shows; RGB.
        margin_px: Room for the camera's shake.
        horizon: Row of the horizon as a share of the frame's height.
        obstacles: What stands still.
        actors: What moves, by object id.
        conditions: Weather and camera.
        noise_seed: Seeds flicker and sensor noise, together with the frame's index.
    """

    backdrop: NDArray[np.uint8]
    margin_px: int
    horizon: float
    obstacles: tuple[PaintedObstacle, ...]
    actors: Mapping[int, WideActor]
    conditions: Conditions
    noise_seed: int


def paint_in_place(
    rng: np.random.Generator, obstacle: Obstacle, *, height: int, width: int
) -> PaintedObstacle:
    """Paint an obstacle where it stands in a frame of that size."""
    side = min(height, width)
    rgba = paint_obstacle(
        rng,
        obstacle.kind,
        height_px=round(obstacle.height * side),
        width_px=round(obstacle.width * side),
    )
    return set_in_place(rgba, obstacle, height=height, width=width)


def set_in_place(
    rgba: NDArray[np.uint8], obstacle: Obstacle, *, height: int, width: int
) -> PaintedObstacle:
    """Put a painted obstacle where it stands in a frame of that size."""
    patch = Patch(
        rgba=rgba,
        left_px=round(obstacle.x * width) - rgba.shape[1] // 2,
        top_px=round(obstacle.foot * height) - rgba.shape[0],
    )
    return PaintedObstacle(patch=patch, foot=obstacle.foot)


def add_fog(scenery: Scenery, conditions: Conditions) -> NDArray[np.uint8]:
    """Return the scenery's pixels with the weather's haze, thickest at the horizon."""
    pixels = np.ascontiguousarray(scenery.pixels)
    if conditions.fog < _LEAST_FOG:
        return pixels
    height, width = pixels.shape[:2]
    below = np.clip((np.linspace(0, 1, height) - scenery.horizon) / (1 - scenery.horizon), 0, 1)
    share = conditions.fog * (1 - below[:, None]) ** 1.5
    through = np.repeat(np.rint(255 * (1 - share)).astype(np.uint8), width, axis=1)
    haze = np.rint(share[..., None] * conditions.haze).astype(np.uint8)
    dimmed = cv2.multiply(pixels, cv2.merge([through] * 3), scale=1 / 255)
    return np.asarray(cv2.add(dimmed, np.repeat(haze, width, axis=1)), dtype=np.uint8)


def _in_fog(patch: Patch, conditions: Conditions, nearness: float) -> Patch:
    share = conditions.fog * (1 - nearness) ** 1.5
    if share < _LEAST_FOG:
        return patch
    alpha = patch.rgba[..., 3:].astype(np.float32) / 255
    rgba = patch.rgba.copy()
    colour = patch.rgba[..., :3] * (1 - share) + share * alpha * conditions.haze
    rgba[..., :3] = colour.astype(np.uint8)
    return Patch(rgba=rgba, left_px=patch.left_px, top_px=patch.top_px)


class _Painter:
    """Draws the patches of one frame; objects are numbered as they come."""

    def __init__(self, scene: WideScene, time_s: float) -> None:
        height, width = (side - 2 * scene.margin_px for side in scene.backdrop.shape[:2])
        self.scene, self.time_s, self.height, self.width = scene, time_s, height, width
        self.shift = scene.conditions.offset_px(time_s, min(height, width))
        self.canvas = Canvas(self._seen_backdrop())
        self.silhouettes: dict[int, tuple[NDArray[np.bool_], int]] = {}

    def _seen_backdrop(self) -> NDArray[np.uint8]:
        margin = self.scene.margin_px
        if not margin:
            return self.scene.backdrop
        right, down = self.shift
        shift = np.array([[1, 0, right - margin], [0, 1, down - margin]], dtype=np.float64)
        seen = cv2.warpAffine(self.scene.backdrop, shift, (self.width, self.height))
        return cast("NDArray[np.uint8]", seen)

    def nearness(self, foot: float) -> float:
        horizon = self.scene.horizon
        return min(max((foot - horizon) / (1 - horizon), 0.0), 1.0)

    def draw_obstacle(self, obstacle: PaintedObstacle) -> None:
        right, down = self.shift
        patch = Patch(
            rgba=obstacle.patch.rgba,
            left_px=obstacle.patch.left_px + round(right),
            top_px=obstacle.patch.top_px + round(down),
        )
        self.canvas.draw(_in_fog(patch, self.scene.conditions, self.nearness(obstacle.foot)), -1)

    def draw_actor(self, object_id: int, foot: float) -> None:
        actor = self.scene.actors[object_id]
        sprite = wide_sprite(actor.concept, actor.attributes)
        pose = actor.pose_at(
            self.time_s, width=self.width, height=self.height, horizon=self.scene.horizon
        )
        reach = pose.height_px * max(sprite.aspect, 1.0)
        if not -reach < pose.x_px < self.width + reach:
            return
        right, down = self.shift
        pose = type(pose)(
            x_px=pose.x_px + right,
            foot_px=pose.foot_px + down,
            height_px=pose.height_px,
            angle_deg=pose.angle_deg,
            faces_right=pose.faces_right,
        )
        manner = wide_concept_named(actor.concept).manner
        if not self.scene.conditions.light.is_night and manner not in _NO_SHADOW:
            cast_shadow(self.canvas.pixels, pose, pose.height_px * sprite.aspect)
        patch = _in_fog(place_sprite(sprite, pose), self.scene.conditions, self.nearness(foot))
        silhouette = self.canvas.draw(patch, len(self.silhouettes))
        if silhouette is not None:
            self.silhouettes[object_id] = silhouette

    def truth(self) -> tuple[WorldObject, ...]:
        told: list[WorldObject] = []
        for owner, (object_id, (full, area)) in enumerate(self.silhouettes.items()):
            actor = self.scene.actors[object_id]
            visible = cast("NDArray[np.bool_]", self.canvas.owner == owner)
            count = int(np.count_nonzero(visible))
            foot = actor.foot_at(self.time_s, self.scene.horizon)
            told.append(
                WorldObject(
                    object_id=object_id,
                    concept=actor.concept,
                    full_mask=full,
                    visible_mask=visible,
                    visibility=min(count / area, 1.0) if count >= MIN_VISIBLE_PX else 0.0,
                    depth=1.0 - self.nearness(foot),
                    attributes=actor.attributes,
                )
            )
        return tuple(sorted(told, key=lambda thing: thing.object_id))


def draw_wide_frame(scene: WideScene, *, index: int, time_s: float) -> WorldFrame:
    """Draw one moment of a scene: a pure function of its arguments."""
    painter = _Painter(scene, time_s)
    feet = [(obstacle.foot, True, place) for place, obstacle in enumerate(scene.obstacles)]
    feet += [
        (actor.foot_at(time_s, scene.horizon), False, object_id)
        for object_id, actor in scene.actors.items()
    ]
    for foot, is_obstacle, number in sorted(feet):
        if is_obstacle:
            painter.draw_obstacle(scene.obstacles[number])
        else:
            painter.draw_actor(number, foot)
    rng = np.random.default_rng((scene.noise_seed, index))
    return WorldFrame(
        index=index,
        time_s=time_s,
        pixels=film(painter.canvas.pixels, scene.conditions, rng, time_s),
        objects=painter.truth(),
        is_night=scene.conditions.light.is_night,
    )
