"""Draws random casts for the wide world: who appears, in which look, where, when and how fast."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from math import exp, log, tau
from typing import Final, TypeAlias

import numpy as np

from connectors.world.config import Split
from connectors.world.wide.actors import Course, WideActor, can_fly, is_steady
from connectors.world.wide.artwork import PAINTS, looks_of, odd_looks_of, wide_sprite
from connectors.world.wide.catalogue import (
    COATS,
    WIDE_CONCEPTS,
    Manner,
    WideConcept,
    train_only,
    wide_concept_named,
)
from connectors.world.wide.obstacles import Obstacle

SMALLEST_PX: Final = 12
TALLEST: Final = 0.5
MOST_IN_CROWD: Final = 14
# How often a test split shows what it is about, where it can.
_HELD_OUT_SHARE = 0.7
# How often the first to be cast comes in several looks, beyond chance.
_LOOKS_SHARE = 0.35
# Of odd looks, how many are coats, where there is a choice.
_ODD_COATS_SHARE = 0.3
_TALLEST_INDOORS = 0.65
_AT_SEA = frozenset({Manner.FLOAT, Manner.SWIM})
_ASHORE = frozenset({"bird", "small mammal"})

Subject: TypeAlias = tuple[str, tuple[str, ...]]


class Part(StrEnum):
    """Which things a part of a scene may be given to."""

    ANY = "any"
    MOVING = "moving"
    STANDING = "standing"


@dataclass(frozen=True, slots=True, kw_only=True)
class WideContent:
    """What random scenes of the wide world hold.

    Attributes:
        split: Which part of the catalogue is drawn.
        concepts: Names to draw from; empty means all that the split has.
        min_objects: Fewest objects of a scene that has any.
        max_objects: Most objects of a scene that is no crowd.
        crowd_probability: Share of scenes with up to :data:`MOST_IN_CROWD` objects of few kinds.
        empty_probability: Share of scenes without an object.
        night_probability: Share of infrared scenes.
        obstacle_probability: Share of scenes with one to four things to hide behind.
        odd_looks: Share of things that are shown, where they can be, in a colour or coat that the
            catalogue does not list for them; in split ``TRAIN`` only.
    """

    split: Split = Split.TRAIN
    concepts: tuple[str, ...] = ()
    min_objects: int = 1
    max_objects: int = 6
    crowd_probability: float = 0.1
    empty_probability: float = 0.06
    night_probability: float = 0.15
    obstacle_probability: float = 0.6
    odd_looks: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_objects <= self.max_objects:
            raise ValueError(
                f"0 <= min_objects <= max_objects expected, got {self.min_objects!r} and "
                f"{self.max_objects!r}"
            )
        if self.odd_looks and self.split is not Split.TRAIN:
            raise ValueError(
                f"odd_looks {self.odd_looks!r} in split {self.split.value!r}; accepted: 0, or "
                f"split {Split.TRAIN.value!r}, as held-out scenes are of things as they come"
            )
        if not pool_of(self.split, self.concepts):
            raise ValueError(
                f"concepts {self.concepts!r} leave nothing to draw in split {self.split.value!r}; "
                "accepted: at least one name that the split has"
            )

    @property
    def most_objects(self) -> int:
        """The most objects of any one moment of casting."""
        return max(self.max_objects, MOST_IN_CROWD if self.crowd_probability > 0 else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a cast may stand.

    Attributes:
        horizon: Row of the horizon as a share of the height.
        land: First and last row that feet may stand on, shares of the height.
        water: The same for what swims and floats; ``None``: no water.
        is_indoor: Rooms hold small things only.
        width: Frame width in pixels.
        height: Frame height in pixels.
        hideouts: Obstacles that something may pass behind.
    """

    horizon: float
    land: tuple[float, float]
    water: tuple[float, float] | None = None
    is_indoor: bool = False
    width: int
    height: int
    hideouts: tuple[Obstacle, ...] = ()

    @property
    def side_px(self) -> int:
        """The frame's shorter side."""
        return min(self.width, self.height)


@lru_cache(maxsize=64)
def pool_of(split: Split, concepts: tuple[str, ...]) -> tuple[WideConcept, ...]:
    """Return the concepts that a split may draw, of those named; of all if none is.

    Raises:
        ValueError: If a name is unknown.
    """
    chosen = [wide_concept_named(name) for name in concepts] or WIDE_CONCEPTS
    shows_held_out = split is Split.TEST_CONCEPTS
    return tuple(c for c in chosen if shows_held_out or not c.is_held_out)


@lru_cache(maxsize=128)
def _pool_on(
    split: Split, concepts: tuple[str, ...], *, is_indoor: bool, has_water: bool, part: Part
) -> tuple[WideConcept, ...]:
    """Return what may be drawn in a room, on land, or where there is water."""

    def fits(concept: WideConcept) -> bool:
        if part is Part.MOVING and concept.manner is Manner.STAND:
            return False
        if part is Part.STANDING and not is_steady(concept.name):
            return False
        needs_water = concept.manner in _AT_SEA and concept.group not in _ASHORE
        is_small = concept.stature <= _TALLEST_INDOORS
        return (has_water or not needs_water) and (is_small or not is_indoor)

    return tuple(concept for concept in pool_of(split, concepts) if fits(concept))


def _choose(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def draw_look(rng: np.random.Generator, concept: WideConcept, split: Split) -> tuple[str, ...]:
    """Return a random colour and coat that the split may show, where the concept has them."""
    known = train_only(concept, looks_of(concept))
    fresh = [look for look in looks_of(concept) if look not in known]
    wants_fresh = split is Split.TEST_COMBINATIONS and rng.random() < _HELD_OUT_SHARE
    new = _choose(rng, fresh) if fresh and wants_fresh else ""
    look: list[str] = []
    if concept.colours:
        colours = [colour for colour in concept.colours if colour in known]
        look.append(new if new in concept.colours else _choose(rng, colours))
    if concept.has_coats:
        coats = ["", "", *(coat for coat in COATS if coat in known)]
        coat = new if new in COATS else _choose(rng, coats)
        look += [coat] if coat else []
    return tuple(look)


def _draw_look_of(
    rng: np.random.Generator, concept: WideConcept, content: WideContent
) -> tuple[str, ...]:
    """Return a look that the concept has, or as often as ``odd_looks`` says one it has not."""
    look = draw_look(rng, concept, content.split)
    # Nothing is drawn where no look is odd, so that scenes without them stay what they are.
    if not content.odd_looks or rng.random() >= content.odd_looks:
        return look
    odd = odd_looks_of(concept)
    coats = [one for one in odd if one in COATS]
    paints = [one for one in odd if one in PAINTS]
    if coats and (not paints or rng.random() < _ODD_COATS_SHARE):
        return (*(one for one in look if one in PAINTS), _choose(rng, coats))
    if not paints:
        return look
    return (_choose(rng, paints), *(one for one in look if one in COATS))


def draw_subjects(
    rng: np.random.Generator,
    content: WideContent,
    stage: Stage,
    number: int,
    *,
    part: Part = Part.ANY,
) -> list[Subject]:
    """Draw who appears: strangers, look-alikes of one group, or few kinds in several looks."""
    pool = _pool_on(
        content.split,
        content.concepts,
        is_indoor=stage.is_indoor,
        has_water=stage.water is not None,
        part=part,
    )
    if not pool or not number:
        return []
    first = pool[int(rng.integers(len(pool)))]
    fresh = _fresh_ones(pool, content.split)
    if fresh and rng.random() < _HELD_OUT_SHARE:
        first = fresh[int(rng.integers(len(fresh)))]
    elif rng.random() < _LOOKS_SHARE:
        with_looks = [c for c in pool if looks_of(c)] or pool
        first = with_looks[int(rng.integers(len(with_looks)))]
    company = [c for c in pool if c.group == first.group]
    few = [first, *(company[int(rng.integers(len(company)))] for _ in range(1))]
    mode = rng.random()
    # Two of a kind, and two that look alike, are what identities and phrases are lost to.
    choices: Sequence[WideConcept] = few if number > content.max_objects or mode < 0.25 else pool
    choices = company if 0.25 <= mode < 0.5 else choices
    rest = [choices[int(rng.integers(len(choices)))] for _ in range(number - 1)]
    return [(c.name, _draw_look_of(rng, c, content)) for c in (first, *rest)]


def _fresh_ones(pool: Sequence[WideConcept], split: Split) -> list[WideConcept]:
    if split is Split.TEST_CONCEPTS:
        return [c for c in pool if c.is_held_out]
    if split is Split.TEST_COMBINATIONS:
        return [c for c in pool if len(train_only(c, looks_of(c))) < len(looks_of(c))]
    return []


def _draw_number(rng: np.random.Generator, content: WideContent) -> int:
    if rng.random() < content.empty_probability:
        return 0
    if rng.random() < content.crowd_probability:
        return int(rng.integers(content.max_objects, MOST_IN_CROWD + 1))
    return int(rng.integers(content.min_objects, content.max_objects + 1))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return exp(float(rng.uniform(log(low), log(high))))


def _aspect(subject: Subject) -> float:
    return wide_sprite(*subject).aspect


def _place(
    rng: np.random.Generator, subject: Subject, stage: Stage, *, tallest: float = TALLEST
) -> WideActor:
    """Return an actor of that look, of a size that fits its distance, in the middle of nowhere."""
    concept = wide_concept_named(subject[0])
    smallest = SMALLEST_PX / stage.side_px
    # What is wider than tall is measured by its width, so that nothing fills the frame.
    most = max(tallest / max(_aspect(subject), 1.0), smallest)
    height = _log_uniform(rng, smallest, most)
    floats = stage.water is not None and concept.manner in _AT_SEA
    if floats and concept.group in _ASHORE:
        floats = rng.random() < 0.6
    top, bottom = stage.water if floats and stage.water is not None else stage.land
    nearness = min((height / (0.55 * concept.stature)) ** 0.7 * rng.uniform(0.85, 1.15), 1.0)
    foot = top + (bottom - top) * float(nearness)
    lift = 0.0
    if can_fly(concept.name):
        share = height * stage.side_px / stage.height
        lift = foot - float(rng.uniform(min(share + 0.02, foot), foot))
    return WideActor(
        concept=concept.name,
        attributes=subject[1],
        start_x=0.5,
        foot=foot,
        height=height,
        lift=lift,
        phase=float(rng.uniform(0, tau)),
        steps_per_s=float(rng.uniform(1.2, 2.2)),
        faces_right=bool(rng.random() < 0.5),
    )


def _behind(
    rng: np.random.Generator, actor: WideActor, stage: Stage, *, chance: float
) -> tuple[WideActor, float | None]:
    """Let an actor pass just behind an obstacle that can hide it; return where that is."""
    if not stage.hideouts or actor.lift or rng.random() >= chance:
        return actor, None
    hideout = stage.hideouts[int(rng.integers(len(stage.hideouts)))]
    aspect = _aspect((actor.concept, actor.attributes))
    height = min(actor.height, 0.9 * hideout.height, 0.95 * hideout.width / aspect)
    foot = hideout.foot - rng.uniform(0.005, 0.03)
    if height < SMALLEST_PX / stage.side_px or foot < stage.land[0]:
        return actor, None
    return replace(actor, height=height, foot=float(foot), recession=0.0), hideout.x


def cast_moment(
    rng: np.random.Generator, content: WideContent, stage: Stage, *, middle_s: float
) -> tuple[WideActor, ...]:
    """Return actors who are all on stage around ``middle_s``."""
    number = _draw_number(rng, content)
    actors: list[WideActor] = []
    meeting_x = rng.uniform(0.25, 0.75)
    meets = rng.random() < 0.45
    is_crowd = number > content.max_objects
    tallest = 0.28 if is_crowd else TALLEST
    for place, subject in enumerate(draw_subjects(rng, content, stage, number)):
        actor = _place(rng, subject, stage, tallest=tallest)
        actor, hidden_x = _behind(rng, actor, stage, chance=0.3)
        x = rng.uniform(0.02, 0.98)
        if hidden_x is not None:
            x = hidden_x + rng.normal(0, 0.12)
        elif meets and (place < 2 or is_crowd):
            x = meeting_x + rng.normal(0, 0.16 if is_crowd else 0.07)
        stays = rng.random() < (1.0 if _never_leaves(subject[0]) else 0.15)
        speed = _log_uniform(rng, 0.02, 0.4)
        actors.append(
            replace(
                actor,
                course=Course.STAY if stays else Course.CROSS,
                start_x=float(x),
                start_s=middle_s,
                velocity=0.0 if stays else speed * (1 if place % 2 else -1),
                recession=0.0 if stays or rng.random() < 0.7 else float(rng.normal(0, 0.08)),
            )
        )
    return tuple(actors)


def _never_leaves(concept: str) -> bool:
    return wide_concept_named(concept).manner is Manner.STAND


def cast_standing(
    rng: np.random.Generator, content: WideContent, stage: Stage
) -> tuple[WideActor, ...]:
    """Return the actors who stay in the picture for all of a long scene."""
    if rng.random() < content.empty_probability:
        return ()
    number = int(rng.integers(0, max(content.max_objects // 2, 1) + 1))
    subjects = draw_subjects(rng, content, stage, number, part=Part.STANDING)
    return tuple(
        replace(
            _place(rng, subject, stage),
            course=Course.STAY,
            start_x=float(rng.uniform(0.05, 0.95)),
        )
        for subject in subjects
    )


def cast_stretch(
    rng: np.random.Generator,
    content: WideContent,
    stage: Stage,
    *,
    window_s: tuple[float, float],
) -> tuple[WideActor, ...]:
    """Return actors who enter and leave within ``window_s``, some of them more than once."""
    number = _draw_number(rng, content)
    tallest = 0.28 if number > content.max_objects else TALLEST
    actors: list[WideActor] = []
    for subject in draw_subjects(rng, content, stage, number, part=Part.MOVING):
        actor = _place(rng, subject, stage, tallest=tallest)
        actor, _ = _behind(rng, actor, stage, chance=0.35)
        actors.append(_send(rng, actor, stage, window_s))
    return tuple(actors)


def _send(
    rng: np.random.Generator, actor: WideActor, stage: Stage, window_s: tuple[float, float]
) -> WideActor:
    """Give an actor a way that begins and ends beyond the frame's edges within the window."""
    begin, end = window_s
    length = end - begin
    aspect = max(_aspect((actor.concept, actor.attributes)), 1.0)
    margin = 0.8 * actor.height * aspect * stage.side_px / stage.width + 0.03
    side = 1.0 if rng.random() < 0.5 else -1.0
    mode = rng.random()
    if mode < 0.2:
        # Through the frame, out of it, and back: the same one returns.
        reach = 0.5 + margin + rng.uniform(0.0, 0.3)
        return replace(
            actor,
            course=Course.SWING,
            start_s=begin - length / 4,
            span_s=length,
            velocity=float(side * reach * tau / length),
        )
    walk_s = length * rng.uniform(0.5, 0.98)
    start_s = float(begin + rng.uniform(0, length - walk_s))
    is_visit = mode < 0.4
    way = margin + rng.uniform(0.4, 0.85) if is_visit else 1 + 2 * margin
    return replace(
        actor,
        course=Course.VISIT if is_visit else Course.CROSS,
        start_x=-margin if side > 0 else 1 + margin,
        start_s=start_s,
        span_s=float(walk_s),
        velocity=float(side * (2 * way if is_visit else way) / walk_s),
    )
