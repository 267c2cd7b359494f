"""Training pictures: crops, phrases, negatives, exemplars.

Shape legend:
    S side of the picture in px, K boxes, B (picture, phrase) pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from connectors.world.compose import WorldFrame
from connectors.world.concepts import ABSENT_PHRASES, CONCEPTS, concept_named
from connectors.world.still import StillConfig, render_still
from connectors.world.wide.phrases import WIDE_ABSENT_PHRASES
from models.sam3.network.exemplars import Exemplars
from models.sam3.phrases import VISUAL_PHRASE
from models.training.detector_losses import DetectorTargets
from pipeline.errors import ConfigError
from pipeline.lab.training.recipe import Stage

# Scenes are drawn this much larger than the picture that is cut out of them, or hardly larger: then
# the cut is stretched, and as soft as the picture of a camera that sees less than the model could.
SPARE, SOFT_SPARE, SOFT_SHARE = 1.45, 1.0, 0.4
# Where objects are shown from nearby, the scene is drawn this much larger again; a close-up shows
# at least so many px of it, and is so many times as wide as the object.
CLOSE_UP_SPARE, LEAST_CLOSE_UP = 2.0, 16
NEAREST, FARTHEST = 1.1, 4.0
# Of the questions that show boxes, how many say nothing in words.
BOX_ONLY_SHARE = 0.4
MIN_VISIBLE_SHARE = 0.15
# So many scenes in a row of which nothing can be asked are an error.
MOST_TRIES = 200
MIN_VISIBLE_PX = 40
# Which concept of the world each of its names and synonyms means.
NAMES = {text: concept.name for concept in CONCEPTS for text in (concept.name, *concept.synonyms)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One object of a training picture: its concept and its visible mask, shape (S, S), bool."""

    concept: str
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A phrase asked of one picture.

    Attributes:
        phrase: The noun phrase.
        masks: All objects it names, each (S, S), bool; none for a negative.
        others: Objects it does not name.
    """

    phrase: str
    masks: list[NDArray[np.bool_]]
    others: list[NDArray[np.bool_]]


Masks = list[NDArray[np.bool_]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A training picture.

    Attributes:
        pixels: Shape (S, S, 3), uint8.
        questions: What is asked of it.
        covered: Tells of any phrase what it names on this picture, each (S, S); ``None`` if the
            annotations leave that open.
    """

    pixels: NDArray[np.uint8]
    questions: list[Question]
    covered: Callable[[str], Masks | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A box (cxcywh, normalised) that shows what is meant or, if not positive, what is not."""

    box: NDArray[np.float32]
    is_positive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """Every phrase of a batch held against every picture of it: N pictures, P phrases.

    Attributes:
        phrases: Length P, each once.
        cover: Share of each place that the phrase covers, shape (N, P, G, G), 0 to 1.
        is_known: Whether that truth is known, shape (N, P), bool.
    """

    phrases: list[str]
    cover: Tensor
    is_known: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One step's data: N pictures, B (picture, phrase) pairs.

    Attributes:
        pixels: Shape (N, S, S, 3), uint8.
        image_index: Shape (B,).
        phrases: Length B.
        exemplars: Boxes of each pair.
        targets: Truth of each pair.
        contrast: Truth of all phrases on all pictures, places as large as the model's patches.
        contrast_weight: What that truth counts beside the questions; see :class:`Stage`.
        mask_weight: What outlines count, as a multiple; see :class:`Stage`.
        present_weight: What presence counts where a concept is there; the same.
        close_ups: Single objects from nearby, of which the contrast alone is learned.
    """

    pixels: Tensor
    image_index: Tensor
    phrases: list[str]
    exemplars: Exemplars
    targets: DetectorTargets
    contrast: Contrast
    contrast_weight: float
    mask_weight: float = 1.0
    present_weight: float = 1.0
    close_ups: "Batch | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """A window of a picture in px, and the side of the square that it is squeezed to."""

    x: int
    y: int
    width: int
    height: int
    side: int

    def cut(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut (H, W[, 3]) to (side, side[, 3])."""
        part = pixels[self.y : self.y + self.height, self.x : self.x + self.width]
        return resized(part, self.side, self.side)

    def cut_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Cut (H, W) to (side, side); a cell is in if half of it is."""
        return self.cut(mask.astype(np.uint8) * 255) > 127


def resized(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Bring (H, W[, 3]) to another size: areas averaged if it shrinks, linear if it grows."""
    shrinks = pixels.shape[0] > height or pixels.shape[1] > width
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(pixels, (width, height), interpolation=way).astype(np.uint8)


def random_crop(rng: np.random.Generator, picture_hw: tuple[int, int], side: int) -> Crop:
    """Choose most of a picture, also squeezed as a stretched wide frame is."""
    width = rng.uniform(0.75, 1.0)
    height = float(np.clip(width * np.exp(rng.uniform(-0.55, 0.1)), 0.5, 1.0))
    rows, columns = picture_hw
    w, h = max(round(width * columns), 1), max(round(height * rows), 1)
    x, y = int(rng.integers(columns - w + 1)), int(rng.integers(rows - h + 1))
    return Crop(x=x, y=y, width=w, height=h, side=side)


def scene_side(rng: np.random.Generator, size: int, stage: Stage) -> int:
    """Choose how large a scene is drawn, in px, for training pictures of ``size``."""
    if stage.close_ups:
        return round(size * SPARE * CLOSE_UP_SPARE)
    return round(size * random_spare(rng))


def random_spare(rng: np.random.Generator) -> float:
    """Choose how much larger than the training picture its scene is drawn."""
    return SOFT_SPARE if rng.random() < SOFT_SHARE else SPARE


def choose_crops(
    rng: np.random.Generator, frame: WorldFrame, size: int, stage: Stage
) -> list[Crop]:
    """Choose what to show of a scene: most of it, or each of its objects from nearby."""
    if stage.uncut and frame.pixels.shape[:2] == (size, size):
        return [Crop(x=0, y=0, width=size, height=size, side=size)]
    boxes = [mask_box(t.visible_mask) for t in frame.objects if t.visible_mask.any()]
    if not boxes or not stage.close_ups or rng.random() >= stage.close_ups:
        return [random_crop(rng, frame.pixels.shape[:2], size)]
    rows, columns = frame.pixels.shape[:2]
    return [close_crop(rng, box, (rows, columns), size) for box in boxes]


def close_crop(
    rng: np.random.Generator, box: NDArray[np.float32], picture_hw: tuple[int, int], size: int
) -> Crop:
    """Choose a square round a box (cxcywh, shares of the picture), somewhat off its middle."""
    rows, columns = picture_hw
    placed = box * np.array([columns, rows] * 2, dtype=np.float32)
    largest = float(placed[2:].max())
    reach = float(np.exp(rng.uniform(np.log(NEAREST), np.log(FARTHEST))))
    side = min(max(round(largest * reach), LEAST_CLOSE_UP), rows, columns)
    spare = max(side - largest, 0) / 2
    x, y = (placed[:2] + rng.uniform(-spare, spare, size=2) - side / 2).round().astype(int)
    return Crop(
        x=int(np.clip(x, 0, columns - side)),
        y=int(np.clip(y, 0, rows - side)),
        width=side,
        height=side,
        side=size,
    )


def _cut_scene(frame: WorldFrame, crop: Crop, size: int) -> list[Instance]:
    """Cut the objects of a scene; one that hardly shows has a name that begins with ``?``."""
    instances: list[Instance] = []
    for thing in frame.objects:
        full = float(thing.full_mask.sum())
        mask = crop.cut_mask(thing.visible_mask)
        shown = mask.sum() / (size * size) * (crop.width * crop.height)
        if mask.sum() >= MIN_VISIBLE_PX and shown >= MIN_VISIBLE_SHARE * full:
            instances.append(Instance(concept=thing.concept, mask=mask))
        elif mask.any():
            # Too little to be asked for, too much to be called absent: such a concept is left out
            # of the questions.
            instances.append(Instance(concept=f"?{thing.concept}", mask=mask))
    return instances


def random_phrase(rng: np.random.Generator, concept: str) -> str:
    """Name a concept by its name or one of its synonyms."""
    names = concept_named(concept)
    return (
        names.name if rng.random() < 0.6 or not names.synonyms else str(rng.choice(names.synonyms))
    )


class PictureSource(Protocol):
    """Where training pictures and the questions about them come from."""

    def draw(self, rng: np.random.Generator, size: int, stage: Stage) -> list[Drawn]:
        """Draw the pictures of one scene, (size, size, 3); every choice comes from ``rng``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldPictures:
    """Pictures of the synthetic world with questions, about half of them of what is there.

    ``config`` says what may appear; the stage overrides its number of objects.
    """

    config: StillConfig

    def draw(self, rng: np.random.Generator, size: int, stage: Stage) -> list[Drawn]:
        """Draw; see :class:`PictureSource`."""
        most = min(stage.max_objects, self.config.max_objects)
        config = replace(self.config, max_objects=most)
        frame = render_still(rng, size=scene_side(rng, size, stage), config=config)
        return [
            self._ask(rng, crop.cut(frame.pixels), _cut_scene(frame, crop, size), stage)
            for crop in choose_crops(rng, frame, size, stage)
        ]

    @staticmethod
    def _ask(
        rng: np.random.Generator,
        picture: NDArray[np.uint8],
        instances: list[Instance],
        stage: Stage,
    ) -> Drawn:
        questions = [
            Question(
                phrase=random_phrase(rng, concept) if concept in NAMES.values() else concept,
                masks=[thing.mask for thing in instances if thing.concept == concept],
                others=[thing.mask for thing in instances if thing.concept != concept],
            )
            for concept in _asked(rng, instances, stage)
        ]

        def covered(phrase: str) -> Masks | None:
            if phrase not in NAMES:
                return [] if phrase in ABSENT_PHRASES else None
            concept = NAMES[phrase]
            if any(thing.concept == f"?{concept}" for thing in instances):
                return None
            return [thing.mask for thing in instances if thing.concept == concept]

        return Drawn(pixels=picture, questions=questions, covered=covered)


def _asked(rng: np.random.Generator, instances: list[Instance], stage: Stage) -> list[str]:
    unclear = {thing.concept.removeprefix("?") for thing in instances if "?" in thing.concept}
    present = sorted({thing.concept for thing in instances if "?" not in thing.concept} - unclear)
    seen = {thing.concept.removeprefix("?") for thing in instances}
    absent = [concept.name for concept in CONCEPTS if concept.name not in seen]

    def negative() -> str:
        is_hard = rng.random() < stage.hard_negatives
        return str(rng.choice(absent if is_hard else ABSENT_PHRASES))

    # One question at least is of what is there, and of the others somewhat less than half.
    most = int(rng.binomial(stage.questions - 1, 0.45)) + 1
    asked = [str(concept) for concept in rng.permutation(present)[:most]]
    return asked + [negative() for _ in range(stage.questions - len(asked))]


def make_batch(
    rng: np.random.Generator,
    source: PictureSource,
    stage: Stage,
    *,
    places: int,
) -> Batch:
    """Draw the pictures of one batch and lay their questions out.

    Args:
        rng: Source of every choice.
        source: Where the pictures come from.
        stage: Says how many, how large, and how often objects are shown by boxes.
        places: Side of the grid of places that phrases are held against.

    Raises:
        ConfigError: If of many scenes in a row nothing can be asked.
    """
    drawn = _draw_asked(rng, source, stage)
    index: list[int] = []
    questions: list[Question] = []
    shown: list[list[Shown]] = []
    for n, picture in enumerate(drawn):
        for question in picture.questions:
            boxes = _show(rng, question, stage)
            is_shown = any(box.is_positive for box in boxes)
            said = _said_of_shown(rng, question.phrase, stage) if is_shown else question.phrase
            questions.append(replace(question, phrase=said))
            shown.append(boxes)
            index.append(n)
    return Batch(
        pixels=torch.from_numpy(np.stack([picture.pixels for picture in drawn])),
        image_index=torch.tensor(index),
        phrases=[question.phrase for question in questions],
        exemplars=_exemplars(shown),
        targets=_targets([question.masks for question in questions], stage.image_size),
        contrast=_contrast(drawn, places),
        contrast_weight=stage.contrast,
        mask_weight=stage.mask_weight,
        present_weight=stage.present_weight,
    )


def _draw_asked(rng: np.random.Generator, source: PictureSource, stage: Stage) -> list[Drawn]:
    """Draw pictures of which something is asked: of a sliver nobody knows what it is."""
    drawn: list[Drawn] = []
    tries = 0
    while len(drawn) < stage.images:
        asked = [one for one in source.draw(rng, stage.image_size, stage) if one.questions]
        drawn += asked
        tries = 0 if asked else tries + 1
        if tries == MOST_TRIES:
            problem = (
                f"of {tries} pictures in a row of {stage.image_size} px nothing could be asked"
            )
            accepted = f"objects of {MIN_VISIBLE_PX} px or more, or a larger image_size"
            raise ConfigError([f"stage {stage.name!r}: {problem} (accepted: {accepted})"])
    return drawn[: stage.images]


def _contrast(drawn: list[Drawn], places: int) -> Contrast:
    phrases = sorted({question.phrase for picture in drawn for question in picture.questions})
    cover = np.zeros((len(drawn), len(phrases), places, places), dtype=np.float32)
    is_known = np.zeros((len(drawn), len(phrases)), dtype=np.bool_)
    for n, picture in enumerate(drawn):
        for p, phrase in enumerate(phrases):
            masks = picture.covered(phrase)
            is_known[n, p] = masks is not None
            if masks:
                union = np.logical_or.reduce(masks).astype(np.float32)
                cover[n, p] = cv2.resize(union, (places, places), interpolation=cv2.INTER_AREA)
    return Contrast(
        phrases=phrases, cover=torch.from_numpy(cover), is_known=torch.from_numpy(is_known)
    )


def _said_of_shown(rng: np.random.Generator, phrase: str, stage: Stage) -> str:
    """Return what is said of a concept that boxes show: its phrase, nothing, or a strange word."""
    draw = rng.random()
    if draw < BOX_ONLY_SHARE:
        return VISUAL_PHRASE
    is_strange = draw < BOX_ONLY_SHARE + (1 - BOX_ONLY_SHARE) * stage.strange_words
    return str(rng.choice(WIDE_ABSENT_PHRASES)) if is_strange else phrase


def _show(rng: np.random.Generator, question: Question, stage: Stage) -> list[Shown]:
    """Choose boxes that show what is meant, and sometimes one that shows what is not.

    A phrase for what is not there may come with a box of what it does not mean, as when a person
    corrects a false alarm.
    """
    if rng.random() >= stage.exemplar_probability:
        return []
    chosen: list[int] = rng.permutation(len(question.masks))[: rng.integers(1, 4)].tolist()
    boxes = [Shown(box=mask_box(question.masks[i]), is_positive=True) for i in chosen]
    if question.others and rng.random() < stage.negative_exemplar_probability:
        other = question.others[int(rng.integers(len(question.others)))]
        boxes.append(Shown(box=mask_box(other), is_positive=False))
    return boxes


def mask_box(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the normalised cxcywh box of a non-empty mask (H, W)."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    box = np.array([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dtype=np.float32)
    return box / np.array([mask.shape[1], mask.shape[0]] * 2, dtype=np.float32)


def _exemplars(shown: list[list[Shown]]) -> Exemplars:
    most = max(len(boxes) for boxes in shown)
    packed = torch.zeros(len(shown), most, 4)
    is_valid = torch.zeros(len(shown), most, dtype=torch.bool)
    is_positive = torch.zeros(len(shown), most, dtype=torch.bool)
    for row, boxes in enumerate(shown):
        for column, one in enumerate(boxes):
            packed[row, column] = torch.from_numpy(one.box)
            is_valid[row, column], is_positive[row, column] = True, one.is_positive
    return Exemplars(boxes_cxcywh=packed, is_positive=is_positive, is_valid=is_valid)


def _targets(objects: list[list[NDArray[np.bool_]]], side: int) -> DetectorTargets:
    flat = [mask for masks in objects for mask in masks]
    stacked = np.stack(flat) if flat else np.zeros((0, side, side), dtype=np.bool_)
    boxes = np.stack([mask_box(mask) for mask in flat]) if flat else np.zeros((0, 4))
    return DetectorTargets(
        boxes_cxcywh=torch.from_numpy(boxes).float(),
        masks=torch.from_numpy(stacked),
        counts=[len(masks) for masks in objects],
    )
