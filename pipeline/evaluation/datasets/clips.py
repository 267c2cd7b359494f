"""Annotated clips and what was predicted for them: the common form of all video sets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.evaluation.datasets.shapes import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Masklet:
    """One object over a clip, true or predicted.

    Attributes:
        masklet_id: Unique within its clip, true and predicted ones apart.
        video_id: Its clip.
        category_id: What it is said to be.
        shapes: What is seen of it on each frame; None where it is not.
        score: How sure that it is there, in [0, 1].
        is_crowd: Whether it stands for several objects and so is neither right nor wrong to find.
    """

    masklet_id: int
    video_id: int
    category_id: int
    shapes: tuple[Shape | None, ...]
    score: float = 1.0
    is_crowd: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One clip with its truth.

    Attributes:
        video_id: Unique within its set.
        name: As in the set.
        frames: Picture files below the root, in order.
        height: Rows of its pictures.
        width: Columns of its pictures.
        asked: Categories that are asked for, there or not.
        truth: Its objects.
    """

    video_id: int
    name: str
    frames: tuple[str, ...]
    height: int
    width: int
    asked: tuple[int, ...]
    truth: tuple[Masklet, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSet:
    """Clips that are evaluated together.

    Attributes:
        clips: In the order of the file.
        phrases: Noun phrase of each category that is asked for, in the order of the file.
        has_negatives: Whether it says which categories are not there, as cgF1 needs it.
    """

    clips: tuple[Clip, ...]
    phrases: dict[int, str]
    has_negatives: bool


Predictions = Sequence[Masklet]
OnProgress = Callable[[], None]
