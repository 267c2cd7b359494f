"""Draws one frame: painter's order from far to near, and the truth of what stays visible."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from connectors.world.atlas import Patch, Pose, blend, clip_to_frame, load_sprites, place_sprite
from connectors.world.background import Backdrop
from connectors.world.concepts import concept_named
from connectors.world.light import Light, expose
from connectors.world.motion import Actor, foot_row
from connectors.world.props import Prop, paint_prop

MIN_VISIBLE_PX = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldObject:
    """The truth about one object in one frame.

    Attributes:
        object_id: Stays the same for an object while its scene lasts.
        concept: Name of its concept.
        full_mask: Its silhouette inside the frame as if nothing hid it, shape (H, W), bool.
        visible_mask: The part of ``full_mask`` that nothing hides, shape (H, W), bool. The visible
            masks of a frame do not overlap.
        visibility: Visible share of the whole silhouette, parts outside the frame included, in
            [0, 1]. Exactly 0 where fewer than ``MIN_VISIBLE_PX`` pixels show: nobody could tell.
        depth: 0 at the camera to 1 at the horizon; the smaller hides the larger.
        attributes: The named colour and coat it has, in the wide world.
    """

    object_id: int
    concept: str
    full_mask: NDArray[np.bool_]
    visible_mask: NDArray[np.bool_]
    visibility: float
    depth: float
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldFrame:
    """One drawn frame and its truth.

    Attributes:
        index: Number of the frame in its scene.
        time_s: Time since the scene's start.
        pixels: RGB, shape (H, W, 3), uint8.
        objects: All objects whose silhouette reaches into the frame, hidden ones included, by id.
        is_night: Whether it is infrared, without colours.
    """

    index: int
    time_s: float
    pixels: NDArray[np.uint8]
    objects: tuple[WorldObject, ...]
    is_night: bool = False

    @property
    def visible_objects(self) -> tuple[WorldObject, ...]:
        """The objects that can be seen: at least ``MIN_VISIBLE_PX`` pixels of them show."""
        return tuple(thing for thing in self.objects if thing.visibility > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingPatch:
    """A prop painted for one frame size, with its nearness."""

    patch: Patch
    nearness: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything needed to draw any moment of a scene.

    Attributes:
        backdrop: What lies behind.
        props: What stands still in front of it.
        actors: What moves, by object id.
        light: How the camera sees it.
        noise_seed: Seeds flicker and sensor noise, together with the frame's index.
    """

    backdrop: Backdrop
    props: tuple[StandingPatch, ...]
    actors: Mapping[int, Actor]
    light: Light
    noise_seed: int


def stand(prop: Prop, rng: np.random.Generator, backdrop: Backdrop) -> StandingPatch:
    """Paint a prop where it stands before a backdrop."""
    height, width = backdrop.pixels.shape[:2]
    side = min(height, width)
    rgba = paint_prop(
        rng, prop.kind, height_px=round(prop.height * side), width_px=round(prop.width * side)
    )
    foot_px = round(foot_row(prop.nearness, backdrop.horizon) * height)
    patch = Patch(
        rgba=rgba,
        left_px=round(prop.x * width) - rgba.shape[1] // 2,
        top_px=foot_px - rgba.shape[0],
    )
    return StandingPatch(patch=patch, nearness=prop.nearness)


@lru_cache(maxsize=1)
def _shadow() -> NDArray[np.uint8]:
    light = np.full((32, 96), 255, dtype=np.uint8)
    cv2.ellipse(light, (48, 16), (38, 9), 0, 0, 360, 140, -1)
    return np.asarray(cv2.GaussianBlur(light, (15, 9), 4), np.uint8)


def cast_shadow(pixels: NDArray[np.uint8], pose: Pose, width_px: float) -> None:
    """Darken the ground about the feet of something ``width_px`` wide, in place."""
    height, width = pixels.shape[:2]
    wide, tall = max(round(width_px * 1.2), 3), max(round(width_px * 0.24), 3)
    patch = Patch(
        rgba=np.empty((tall, wide, 0), np.uint8),
        left_px=round(pose.x_px - wide / 2),
        top_px=round(pose.foot_px - 0.55 * tall),
    )
    overlap = clip_to_frame(patch, height, width)
    if overlap is None:
        return
    rows, columns, patch_rows, patch_columns = overlap
    light = cv2.resize(_shadow(), (wide, tall))[patch_rows, patch_columns]
    lit = cv2.multiply(pixels[rows, columns], cv2.merge([light] * 3), scale=1 / 255)
    pixels[rows, columns] = lit


class Canvas:
    """The picture while it is drawn, and which object owns each pixel (-1: none)."""

    def __init__(self, backdrop: NDArray[np.uint8]) -> None:
        self.pixels = backdrop.copy()
        self.owner = np.full(self.pixels.shape[:2], -1, dtype=np.int16)

    def draw(self, patch: Patch, owner: int) -> tuple[NDArray[np.bool_], int] | None:
        """Draw a patch; return its silhouette in the frame and its whole area, if it shows."""
        height, width = self.pixels.shape[:2]
        overlap = clip_to_frame(patch, height, width)
        if overlap is None:
            return None
        rows, columns, patch_rows, patch_columns = overlap
        solid = patch.solid
        inside = solid[patch_rows, patch_columns]
        if not inside.any():
            return None
        blend(self.pixels[rows, columns], patch.rgba[patch_rows, patch_columns])
        self.owner[rows, columns][inside] = owner
        full = np.zeros(self.owner.shape, dtype=np.bool_)
        full[rows, columns] = inside
        return full, int(np.count_nonzero(solid))


def _draw_actor(
    canvas: Canvas, scene: Scene, object_id: int, time_s: float
) -> tuple[NDArray[np.bool_], int] | None:
    actor = scene.actors[object_id]
    height, width = canvas.pixels.shape[:2]
    sprite = load_sprites()[concept_named(actor.concept).sprite]
    pose = actor.pose_at(time_s, width=width, height=height, horizon=scene.backdrop.horizon)
    reach = pose.height_px * max(sprite.aspect, 1.0)
    if not -reach < pose.x_px < width + reach:
        return None
    if not scene.light.is_night:
        cast_shadow(canvas.pixels, pose, pose.height_px * sprite.aspect)
    return canvas.draw(place_sprite(sprite, pose), object_id)


def _truth(
    canvas: Canvas, actor: Actor, object_id: int, full: NDArray[np.bool_], area: int
) -> WorldObject:
    visible = cast("NDArray[np.bool_]", canvas.owner == object_id)
    count = int(np.count_nonzero(visible))
    return WorldObject(
        object_id=object_id,
        concept=actor.concept,
        full_mask=full,
        visible_mask=visible,
        visibility=count / area if count >= MIN_VISIBLE_PX else 0.0,
        depth=1.0 - actor.nearness,
    )


def _far_to_near(scene: Scene) -> Sequence[tuple[float, bool, int]]:
    props = [(prop.nearness, True, number) for number, prop in enumerate(scene.props)]
    actors = [(actor.nearness, False, number) for number, actor in scene.actors.items()]
    return sorted(props + actors)


def draw_frame(scene: Scene, *, index: int, time_s: float) -> WorldFrame:
    """Draw one moment of a scene: a pure function of its arguments."""
    canvas = Canvas(scene.backdrop.pixels)
    drawn: dict[int, tuple[NDArray[np.bool_], int]] = {}
    for _, is_prop, number in _far_to_near(scene):
        if is_prop:
            canvas.draw(scene.props[number].patch, -1)
        elif (silhouette := _draw_actor(canvas, scene, number, time_s)) is not None:
            drawn[number] = silhouette
    rng = np.random.default_rng((scene.noise_seed, index))
    return WorldFrame(
        index=index,
        time_s=time_s,
        pixels=expose(canvas.pixels, scene.light, rng),
        objects=tuple(
            _truth(canvas, scene.actors[number], number, *drawn[number]) for number in sorted(drawn)
        ),
        is_night=scene.light.is_night,
    )
