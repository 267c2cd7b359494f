"""Draws random casts: who appears, where, when and how fast."""

from typing import TypedDict

import numpy as np

from connectors.world.atlas import load_sprites
from connectors.world.concepts import concept_named
from connectors.world.motion import Actor, Path, height_for

_ROLLING = frozenset({"car", "bus", "tractor"})


class _Looks(TypedDict):
    nearness: float
    height: float
    phase: float
    steps_per_s: float


def _looks(rng: np.random.Generator, concept: str, *, nearness: float, horizon: float) -> _Looks:
    stature = concept_named(concept).stature * rng.uniform(0.85, 1.2)
    return {
        "nearness": nearness,
        "height": height_for(nearness, stature, horizon),
        "phase": rng.uniform(0, 2 * np.pi),
        "steps_per_s": 0.0 if concept in _ROLLING else rng.uniform(1.2, 2.2),
    }


def _spread_nearness(rng: np.random.Generator, number: int) -> list[float]:
    # Distinct depths keep the painter's order clear of ties.
    return [float(v) for v in rng.permutation((np.arange(number) + rng.random(number)) / number)]


def _pick_concepts(rng: np.random.Generator, concepts: tuple[str, ...], number: int) -> list[str]:
    # Repeats are wanted: telling two of a kind apart is the tracker's hard case.
    picked = [concepts[rng.integers(len(concepts))] for _ in range(number)]
    if number > 1 and rng.random() < 0.35:
        picked[1] = picked[0]
    return picked


def cast_moment(
    rng: np.random.Generator,
    *,
    concepts: tuple[str, ...],
    number: int,
    middle_s: float,
    horizon: float,
) -> tuple[Actor, ...]:
    """Return ``number`` actors who are all on stage around ``middle_s``."""
    actors: list[Actor] = []
    meeting_x = rng.uniform(0.3, 0.7)
    meets = rng.random() < 0.4
    nearness = _spread_nearness(rng, number)
    for place, concept in enumerate(_pick_concepts(rng, concepts, number)):
        x = meeting_x + rng.normal(0, 0.08) if meets and place < 2 else rng.uniform(0.02, 0.98)
        side = 1.0 if place % 2 else -1.0
        velocity = side * rng.uniform(0.03, 0.4)
        actors.append(
            Actor(
                concept=concept,
                start_x=float(x),
                start_s=middle_s,
                velocity=float(velocity),
                sway=rng.uniform(0, 0.03),
                **_looks(rng, concept, nearness=nearness[place], horizon=horizon),
            )
        )
    return tuple(actors)


def cast_stretch(
    rng: np.random.Generator,
    *,
    concepts: tuple[str, ...],
    number: int,
    window_s: tuple[float, float],
    horizon: float,
    side_per_width: float,
) -> tuple[Actor, ...]:
    """Return ``number`` actors who enter and leave within ``window_s``.

    Args:
        rng: Source of all choices.
        concepts: Names to draw from.
        number: How many actors.
        window_s: First and last moment in which any of them may be seen.
        horizon: Row of the horizon as a share of the height.
        side_per_width: The frame's shorter side as a share of its width.
    """
    start_s, end_s = window_s
    actors: list[Actor] = []
    nearness = _spread_nearness(rng, number)
    for place, concept in enumerate(_pick_concepts(rng, concepts, number)):
        looks = _looks(rng, concept, nearness=nearness[place], horizon=horizon)
        aspect = max(load_sprites()[concept_named(concept).sprite].aspect, 1.0)
        margin = 0.6 * looks["height"] * aspect * side_per_width + 0.01
        side = 1.0 if rng.random() < 0.5 else -1.0
        walk_s = (end_s - start_s) * rng.uniform(0.6, 0.98)
        is_visit = rng.random() < 0.3
        way = margin + rng.uniform(0.5, 0.85) if is_visit and rng.random() < 0.5 else 1 + 2 * margin
        actors.append(
            Actor(
                concept=concept,
                path=Path.VISIT if is_visit else Path.CROSS,
                start_x=-margin if side > 0 else 1 + margin,
                start_s=float(start_s + rng.uniform(0, end_s - start_s - walk_s)),
                velocity=float(side * (2 * way if is_visit else way) / walk_s),
                span_s=float(walk_s),
                **looks,
            )
        )
    return tuple(actors)
