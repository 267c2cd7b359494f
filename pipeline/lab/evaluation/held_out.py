"""What evaluation asks about, and what counts as truth: worlds that no training run has drawn.

Training draws its scenes from ``default_rng((seed, step))`` with the seed of a recipe, below
:data:`HELD_OUT_SEED`. Evaluation draws from ``default_rng((HELD_OUT_SEED + seed, index))``, and
every scene it makes has a seed, backdrop and props of its own, none of them from the training pool.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from connectors.world.compose import WorldFrame, WorldObject
from connectors.world.concepts import ABSENT_PHRASES, CONCEPT_NAMES, concept_named
from connectors.world.wide.questions import View
from pipeline.lab.metrics.overlap import Mask, iou_matrix

HELD_OUT_SEED = 1_000_000
MIN_VISIBLE_PX = 40
MIN_VISIBILITY = 0.15
IGNORE_IOU = 0.5
_FOREIGN_SHARE, _SYNONYM_SHARE = 0.25, 0.25


class Phrasing(StrEnum):
    """What kind of phrase a question uses."""

    NAME = "name"
    SYNONYM = "synonym"
    OTHER_CONCEPT = "other_concept"
    FOREIGN = "foreign"
    KIND = "kind"
    ATTRIBUTE = "attribute"
    WRONG_LOOK = "wrong_look"
    LOOK_ALIKE = "look_alike"
    HELD_OUT = "held_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One phrase asked of one picture or clip.

    Attributes:
        phrase: What the model is given.
        concept: The world's concept it names; the phrase itself if it names none.
        phrasing: Name or synonym of what is there, or another or a foreign concept, which is not;
            the others are for the wide world, where held-out phrases are kept apart.
        listed_as: What it is reported under; the concept if empty.
    """

    phrase: str
    concept: str
    phrasing: Phrasing
    listed_as: str = ""


def held_out_rng(seed: int, index: int) -> np.random.Generator:
    """Return the generator of sample ``index``; equal arguments give equal samples.

    Raises:
        ValueError: If ``seed`` or ``index`` is negative.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index of at least 0 expected, got {seed!r} and {index!r}")
    return np.random.default_rng((HELD_OUT_SEED + seed, index))


def held_out_world_seed(rng: np.random.Generator) -> int:
    """Draw the seed of a world that nobody trained on."""
    return int(rng.integers(HELD_OUT_SEED, 2**31))


def is_counted(thing: WorldObject) -> bool:
    """Return whether enough of an object shows for it to be asked for; the rest is ignored."""
    return _shown(thing) >= MIN_VISIBLE_PX and thing.visibility >= MIN_VISIBILITY


@dataclass(slots=True, kw_only=True)
class Gathering:
    """All objects of the frames so far.

    Attributes:
        best: Each as on the first frame that shows most of it, by its id.
        counted: Ids of those of which some frame shows enough.
        is_night: Whether the last frame is infrared.
    """

    best: dict[int, WorldObject] = field(default_factory=dict[int, WorldObject])
    counted: set[int] = field(default_factory=set[int])
    is_night: bool = False

    def add(self, frame: WorldFrame) -> None:
        """Look at one more frame."""
        self.is_night = frame.is_night
        for thing in frame.objects:
            known = self.best.get(thing.object_id)
            if known is None or _shown(thing) > _shown(known):
                self.best[thing.object_id] = thing
            if is_counted(thing):
                self.counted.add(thing.object_id)

    def view(self) -> View:
        """Return what can be asked about."""
        seen = [thing for thing in self.best.values() if thing.visibility > 0]
        present = [thing for thing in seen if thing.object_id in self.counted]
        return View(present=present, seen=seen, is_night=self.is_night)


def _shown(thing: WorldObject) -> int:
    return int(np.count_nonzero(thing.visible_mask))


def draw_questions(
    rng: np.random.Generator, *, present: Collection[str], seen: Collection[str]
) -> list[Question]:
    """Ask for every concept that is there and for as many that are not, at least two.

    Args:
        rng: Source of the choices.
        present: Concepts with a counted object.
        seen: Concepts with any object, hidden and tiny ones included; a concept that is seen but
            not present is not asked for, as neither answer would be wrong.
    """
    asked = [_ask_for(rng, name) for name in sorted(present)]
    number = max(len(asked), 2)
    others = [name for name in CONCEPT_NAMES if name not in seen and name not in present]
    num_foreign = max(int(rng.binomial(number, _FOREIGN_SHARE)), number - len(others))
    absent = [(Phrasing.OTHER_CONCEPT, name) for name in _choose(rng, others, number - num_foreign)]
    absent += [(Phrasing.FOREIGN, name) for name in _choose(rng, ABSENT_PHRASES, num_foreign)]
    return asked + [Question(phrase=name, concept=name, phrasing=kind) for kind, name in absent]


def _choose(rng: np.random.Generator, phrases: Sequence[str], number: int) -> list[str]:
    return [phrases[int(place)] for place in rng.permutation(len(phrases))[:number]]


def _ask_for(rng: np.random.Generator, name: str) -> Question:
    synonyms = concept_named(name).synonyms
    if synonyms and rng.random() < _SYNONYM_SHARE:
        phrase = str(rng.choice(synonyms))
        return Question(phrase=phrase, concept=name, phrasing=Phrasing.SYNONYM)
    return Question(phrase=name, concept=name, phrasing=Phrasing.NAME)


def rest_on_ignored(
    predicted: Sequence[Mask], *, counted: Sequence[Mask], ignored: Sequence[WorldObject]
) -> list[bool]:
    """Return for each prediction whether it is neither right nor wrong.

    So it is if it overlaps the visible part or the whole silhouette of an ignored object by at
    least :data:`IGNORE_IOU`, and no counted object more than that.
    """
    if not ignored or not predicted:
        return [False] * len(predicted)
    shapes = [thing.visible_mask for thing in ignored] + [thing.full_mask for thing in ignored]
    on_ignored = iou_matrix(predicted, shapes).max(1)
    on_counted = iou_matrix(predicted, counted).max(1, initial=0.0)
    return [bool(v) for v in (on_ignored >= IGNORE_IOU) & (on_ignored > on_counted)]
