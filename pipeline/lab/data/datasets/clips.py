"""Annotated clips and what was predicted for them: the common form of all video sets."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.lab.data.datasets.shapes import Shape


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


Question = tuple[int, int]  # a clip and a category
Predictions = Sequence[Masklet]
OnProgress = Callable[[], None]


def assemble(
    clips: Iterable[Clip],
    phrases: Mapping[int, str],
    asked: Iterable[Question],
    truth: Mapping[Question, Sequence[Masklet]],
    *,
    has_negatives: bool,
) -> ClipSet:
    """Give clips their questions and truth.

    Args:
        clips: Without either.
        phrases: Noun phrase of each category, in the order of the file.
        asked: What is asked.
        truth: Objects of each question; those of questions that are not asked do not count.
        has_negatives: Whether what is not there is asked for too.
    """
    asked_of: dict[int, list[int]] = defaultdict(list)
    for video, category in sorted(set(asked)):
        asked_of[video].append(category)
    truth_of: dict[int, list[Masklet]] = defaultdict(list)
    for (video, category), found in truth.items():
        if category in asked_of[video]:
            truth_of[video] += found
    categories = {category for listed in asked_of.values() for category in listed}
    return ClipSet(
        clips=tuple(
            replace(
                clip, asked=tuple(asked_of[clip.video_id]), truth=tuple(truth_of[clip.video_id])
            )
            for clip in clips
        ),
        phrases={number: text for number, text in phrases.items() if number in categories},
        has_negatives=has_negatives,
    )
