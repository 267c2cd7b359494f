"""Training pictures from the synthetic world: crops, phrases, negatives, exemplars."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from connectors.world.concepts import ABSENT_PHRASES, CONCEPTS, concept_named
from connectors.world.still import StillConfig, render_still
from models.sam3.exemplars import Exemplars
from models.training.detector_losses import DetectorTargets

VISUAL_PHRASE = "visual"
MIN_VISIBLE_SHARE = 0.15
MIN_VISIBLE_PX = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One object of a training picture: its concept and its visible mask, shape (S, S), bool."""

    concept: str
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One step's data: N pictures, B (picture, phrase) pairs.

    Attributes:
        pixels: Shape (N, S, S, 3), uint8.
        image_index: Shape (B,).
        phrases: Length B.
        exemplars: Boxes of each pair.
        targets: Truth of each pair.
    """

    pixels: Tensor
    image_index: Tensor
    phrases: list[str]
    exemplars: Exemplars
    targets: DetectorTargets


def random_picture(
    rng: np.random.Generator, size: int, config: StillConfig
) -> tuple[NDArray[np.uint8], list[Instance]]:
    """Draw a scene and crop it at random, also squeezed as a stretched wide frame is."""
    whole = round(size * 1.45)
    frame = render_still(rng, size=whole, config=config)
    width = rng.uniform(0.75, 1.0)
    height = float(np.clip(width * np.exp(rng.uniform(-0.55, 0.1)), 0.5, 1.0))
    w, h = round(width * whole), round(height * whole)
    x, y = int(rng.integers(whole - w + 1)), int(rng.integers(whole - h + 1))

    def cut(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return cv2.resize(
            image[y : y + h, x : x + w], (size, size), interpolation=cv2.INTER_AREA
        ).astype(np.uint8)

    instances: list[Instance] = []
    for thing in frame.objects:
        full = float(thing.full_mask.sum())
        mask = cut(thing.visible_mask.astype(np.uint8) * 255) > 127
        shown = mask.sum() / (size * size) * (w * h)
        if mask.sum() >= MIN_VISIBLE_PX and shown >= MIN_VISIBLE_SHARE * full:
            instances.append(Instance(concept=thing.concept, mask=mask))
        elif mask.any():
            # Too little to be asked for, too much to be called absent: such a concept is left out
            # of the questions.
            instances.append(Instance(concept=f"?{thing.concept}", mask=mask))
    return cut(frame.pixels), instances


def random_phrase(rng: np.random.Generator, concept: str) -> str:
    """Name a concept by its name or one of its synonyms."""
    names = concept_named(concept)
    return (
        names.name if rng.random() < 0.6 or not names.synonyms else str(rng.choice(names.synonyms))
    )


def make_batch(
    rng: np.random.Generator,
    *,
    images: int,
    size: int,
    grid: int,
    config: StillConfig,
    exemplar_probability: float,
) -> Batch:
    """Draw N pictures with two questions each: mostly one that is there and one that is not.

    Args:
        rng: Source of every choice.
        images: Number of pictures N.
        size: Their side in px.
        grid: Side of the mask grid.
        config: What may appear.
        exemplar_probability: Share of present concepts that are also shown by boxes.
    """
    pixels: list[NDArray[np.uint8]] = []
    index: list[int] = []
    phrases: list[str] = []
    objects: list[list[NDArray[np.bool_]]] = []
    shown: list[list[NDArray[np.float32]]] = []
    for n in range(images):
        picture, instances = random_picture(rng, size, config)
        pixels.append(picture)
        for concept in _questions(rng, instances):
            masks = [thing.mask for thing in instances if thing.concept == concept]
            boxes = [mask_box(mask) for mask in masks]
            is_shown = bool(boxes) and rng.random() < exemplar_probability
            keep: list[int] = []
            if is_shown:
                keep = rng.permutation(len(boxes))[: rng.integers(1, 3)].tolist()
            shown.append([boxes[i] for i in keep])
            is_known = any(concept == known.name for known in CONCEPTS)
            phrase = random_phrase(rng, concept) if is_known else concept
            phrases.append(VISUAL_PHRASE if is_shown and rng.random() < 0.4 else phrase)
            index.append(n)
            objects.append(masks)
    return Batch(
        pixels=torch.from_numpy(np.stack(pixels)),
        image_index=torch.tensor(index),
        phrases=phrases,
        exemplars=_exemplars(shown),
        targets=_targets(objects, grid),
    )


def _questions(rng: np.random.Generator, instances: list[Instance]) -> list[str]:
    present = sorted({thing.concept for thing in instances if not thing.concept.startswith("?")})
    seen = {thing.concept.removeprefix("?") for thing in instances}
    absent = [concept.name for concept in CONCEPTS if concept.name not in seen]

    def negative() -> str:
        return str(rng.choice(ABSENT_PHRASES)) if rng.random() < 0.25 else str(rng.choice(absent))

    if not present:
        return [negative(), negative()]
    first = str(rng.choice(present))
    others = [concept for concept in present if concept != first]
    second = str(rng.choice(others)) if others and rng.random() < 0.45 else negative()
    return [first, second]


def mask_box(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the normalised cxcywh box of a non-empty mask (H, W)."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    box = np.array([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dtype=np.float32)
    return box / np.array([mask.shape[1], mask.shape[0]] * 2, dtype=np.float32)


def _exemplars(shown: list[list[NDArray[np.float32]]]) -> Exemplars:
    most = max(len(boxes) for boxes in shown)
    packed = torch.zeros(len(shown), most, 4)
    is_valid = torch.zeros(len(shown), most, dtype=torch.bool)
    for row, boxes in enumerate(shown):
        if boxes:
            packed[row, : len(boxes)] = torch.from_numpy(np.stack(boxes))
            is_valid[row, : len(boxes)] = True
    return Exemplars(boxes_cxcywh=packed, is_positive=is_valid, is_valid=is_valid)


def _targets(objects: list[list[NDArray[np.bool_]]], grid: int) -> DetectorTargets:
    flat = [mask for masks in objects for mask in masks]
    if not flat:
        empty = torch.zeros(0, grid, grid)
        return DetectorTargets(
            boxes_cxcywh=torch.zeros(0, 4), masks=empty, counts=[0] * len(objects)
        )
    stacked = torch.from_numpy(np.stack(flat)).float()[:, None]
    return DetectorTargets(
        boxes_cxcywh=torch.from_numpy(np.stack([mask_box(mask) for mask in flat])),
        masks=torch.nn.functional.interpolate(stacked, size=(grid, grid), mode="area")[:, 0],
        counts=[len(masks) for masks in objects],
    )
