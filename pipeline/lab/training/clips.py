"""Training clips from the synthetic world: objects to follow through crossings and occlusions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from connectors.world.compose import WorldFrame
from connectors.world.still import StillConfig, render_clip
from models.training.tracker_losses import TrackerTargets
from pipeline.lab.training.pictures import random_crop, random_spare
from pipeline.lab.training.recipe import Stage

# An object must show this much, in px of the training picture, to be followed from the start.
MIN_START_PX = 60
# What shows less, about a cell of the mask grid, is hidden.
MIN_SHOWN_PX = 12
FRAME_RATES = (10.0, 5.0, 2.5, 1.5)
HIDING_SHARE = 0.35
MOST_TRIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipBatch:
    """One step's data: C clips of T frames with B objects between them.

    Attributes:
        pixels: Shape (T * C, S, S, 3), uint8; the C first frames, then the C second ones, ...
        clip_index: Clip of each object, shape (B,).
        given: Mask each object is introduced with, shape (B, 1, 4g, 4g), 0 to 1.
        targets: Truth of the B objects on each of the T frames.
    """

    pixels: Tensor
    clip_index: Tensor
    given: Tensor
    targets: list[TrackerTargets]

    def frame_index(self, t: int) -> Tensor:
        """Where in ``pixels`` each object's frame ``t`` is, shape (B,)."""
        return t * (len(self.pixels) // len(self.targets)) + self.clip_index


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Pixels (T, S, S, 3); of each followed object masks (T, S, S) and visibility (T,)."""

    pixels: NDArray[np.uint8]
    masks: list[NDArray[np.bool_]]
    visible: list[NDArray[np.bool_]]


class ClipSource(Protocol):
    """Where training clips come from."""

    def draw(self, rng: np.random.Generator, stage: Stage) -> Clip:
        """Draw a clip of ``stage.frames`` frames that begins with something to follow."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldClips:
    """Clips of the synthetic world; ``config`` says what may appear."""

    config: StillConfig

    def draw(self, rng: np.random.Generator, stage: Stage) -> Clip:
        """Draw; see :class:`ClipSource`."""

        def shoot() -> list[WorldFrame]:
            # Few concepts in a scene make look-alikes, which is what identities are lost to.
            few: list[str] = rng.permutation(self.config.concepts)[: rng.integers(1, 4)].tolist()
            return render_clip(
                rng,
                size=round(stage.image_size * random_spare(rng)),
                num_frames=stage.frames,
                fps=float(rng.choice(FRAME_RATES)),
                config=replace(
                    self.config,
                    min_objects=2,
                    max_objects=4,
                    concepts=tuple(few),
                    empty_probability=0.0,
                    prop_probability=0.7,
                ),
            )

        return clip_of_films(rng, stage, shoot)


def clip_of_films(
    rng: np.random.Generator, stage: Stage, shoot: Callable[[], list[WorldFrame]]
) -> Clip:
    """Cut a clip out of a film of a world, forwards or backwards.

    Args:
        rng: Source of every choice.
        stage: Says how large, and how many objects to follow.
        shoot: Makes films until one begins with something to follow.

    Raises:
        RuntimeError: If none does.
    """
    for _ in range(MOST_TRIES):
        film = shoot()
        film = film[::-1] if rng.random() < 0.5 else film
        # One window for all frames.
        crop = random_crop(rng, film[0].pixels.shape[:2], stage.image_size)
        per_frame = [
            {o.object_id: crop.cut_mask(o.visible_mask) for o in frame.objects} for frame in film
        ]
        pixels = np.stack([crop.cut(frame.pixels) for frame in film])
        clip = follow(rng, pixels, per_frame, objects=stage.objects)
        if clip.masks:
            return clip
    raise RuntimeError(
        f"no object in view at the start of {MOST_TRIES} clips of {stage.image_size} px"
    )


def make_clips(
    rng: np.random.Generator, source: ClipSource, stage: Stage, *, grid: int
) -> ClipBatch:
    """Draw the clips of one batch.

    Args:
        rng: Source of every choice.
        source: Where the clips come from.
        stage: Says how many, how long, how large, and how many objects to follow.
        grid: Side of the mask grid, 4 g.
    """
    drawn = [source.draw(rng, stage) for _ in range(stage.images)]
    masks = [mask for clip in drawn for mask in clip.masks]
    visible = np.stack([row for clip in drawn for row in clip.visible])
    first = np.stack([_like_detected(rng, mask[0]) for mask in masks])
    frames = stage.frames
    share = _to_grid(np.concatenate(masks), grid).reshape(len(masks), frames, grid, grid)
    return ClipBatch(
        pixels=torch.from_numpy(np.stack([clip.pixels for clip in drawn], axis=1)).flatten(0, 1),
        clip_index=torch.tensor([c for c, clip in enumerate(drawn) for _ in clip.masks]),
        given=_to_grid(first, grid)[:, None],
        targets=[
            TrackerTargets(masks=share[:, t], is_visible=torch.from_numpy(visible[:, t].copy()))
            for t in range(frames)
        ],
    )


def follow(
    rng: np.random.Generator,
    pixels: NDArray[np.uint8],
    per_frame: Sequence[Mapping[int, NDArray[np.bool_]]],
    *,
    objects: int,
) -> Clip:
    """Choose objects to follow from the first frame on, and sometimes hide one for a while.

    Args:
        rng: Source of every choice.
        pixels: Frames, shape (T, S, S, 3); may be drawn on.
        per_frame: Masks (S, S) of the objects of each frame, by a number that stays theirs.
        objects: Most objects to follow.
    """
    size = pixels.shape[1]
    empty = np.zeros((size, size), dtype=np.bool_)
    starts = [i for i, mask in per_frame[0].items() if _is_large(mask)]
    order: list[int] = rng.permutation(np.array(starts, dtype=np.int64)).tolist()
    tracks = [np.stack([found.get(i, empty) for found in per_frame]) for i in order]
    # Objects that are lost from sight come first: what is always in view teaches less.
    masks = sorted(tracks, key=lambda mask: float(mask.sum((1, 2)).min()))[:objects]
    if masks and len(pixels) > 2 and rng.random() < HIDING_SHARE:
        _hide(rng, pixels, masks)
    return Clip(
        pixels=pixels,
        masks=masks,
        visible=[mask.sum((1, 2)) >= MIN_SHOWN_PX for mask in masks],
    )


def can_begin(first: Mapping[int, NDArray[np.bool_]]) -> bool:
    """Whether a first frame with these masks (S, S) has anything to follow."""
    return any(_is_large(mask) for mask in first.values())


def _is_large(mask: NDArray[np.bool_]) -> bool:
    return bool(mask.sum() >= MIN_START_PX)


def _hide(
    rng: np.random.Generator, pixels: NDArray[np.uint8], masks: list[NDArray[np.bool_]]
) -> None:
    """Draw a board in front of the first object for up to half of the frames, in place.

    Passing behind a tree takes longer than a clip; this teaches to let go and to find again.
    """
    frames, size = len(pixels), len(pixels[0])
    begin = int(rng.integers(1, frames - 1))
    end = min(frames, begin + int(rng.integers(1, frames // 2 + 1)))
    rows, columns = np.nonzero(masks[0][begin:end].any(0))
    if not len(rows):
        return
    spare = rng.integers(-2, size // 8, size=4)
    y0, y1 = max(int(rows.min() - spare[0]), 0), int(rows.max() + 1 + spare[1])
    x0, x1 = max(int(columns.min() - spare[2]), 0), int(columns.max() + 1 + spare[3])
    hidden = (slice(begin, end), slice(y0, y1), slice(x0, x1))
    board = rng.integers(30, 200, size=3) + rng.normal(0, 12, size=(size, size, 3))
    pixels[hidden] = board.clip(0, 255).astype(np.uint8)[hidden[1:]]
    for mask in masks:
        mask[hidden] = False


def _like_detected(rng: np.random.Generator, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Spoil a true mask the way a detector does: a little shifted, fatter or thinner."""
    if rng.random() < 0.4:
        return mask
    shift = np.array([[1, 0, rng.uniform(-2, 2)], [0, 1, rng.uniform(-2, 2)]], dtype=np.float32)
    spoilt = cv2.warpAffine(mask.astype(np.uint8), shift, mask.shape[::-1])
    kernel = np.ones((3, 3), dtype=np.uint8)
    change = rng.choice(["as is", "fatter", "thinner"])
    if change == "fatter":
        spoilt = cv2.dilate(spoilt, kernel, iterations=int(rng.integers(1, 3)))
    elif change == "thinner":
        spoilt = cv2.erode(spoilt, kernel)
    return spoilt.astype(np.bool_) if spoilt.any() else mask


def _to_grid(masks: NDArray[np.bool_], grid: int) -> Tensor:
    """Share of each cell that masks (M, S, S) cover, shape (M, grid, grid)."""
    whole = torch.from_numpy(masks).float()[:, None]
    return torch.nn.functional.interpolate(whole, size=(grid, grid), mode="area")[:, 0]
