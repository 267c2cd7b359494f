"""Held-out clips in which everything passes behind something once.

The worlds hide an object whole on one clip in fifteen (plain) or two (wide), mostly for less than
a second: too few to say how long a tracker remembers. Here concepts, artwork, backdrops and light
are the plain world's, and only who walks where is arranged: everybody has something to hide behind,
as wide as it takes to be hidden for a drawn time, and is in the open before and after.
"""

from typing import Final

import numpy as np

from connectors.world.atlas import load_sprites
from connectors.world.concepts import CONCEPT_NAMES, concept_named
from connectors.world.motion import Actor, Path
from connectors.world.props import Prop, PropKind

# Groups of lengths, s, drawn equally often; what is hidden for longer has mostly left for good.
_HIDDEN_S: Final = ((0.1, 0.4), (0.4, 0.9), (0.9, 1.8), (1.8, 3.4))
_HEIGHTS, _SPEEDS = (0.15, 0.27), (0.08, 0.2)
_TURNING_SHARE, _TWINS_SHARE, _LEAVING_SHARE = 0.3, 0.35, 0.4
_WIDEST = 0.6
# What of its patch's width hides something: a trunk is narrower, a bush is round.
_SOLID = {PropKind.TRUNK: 0.86, PropKind.BUSH: 0.74, PropKind.WALL: 1.0}
_HIGHER = 1.7
# Snouts and tails are too little to be seen: an object is hidden before its last pixel is.
_BODY = 0.94


def cast_hiding(
    rng: np.random.Generator, *, width: int, height: int, duration_s: float
) -> tuple[tuple[Actor, ...], tuple[Prop, ...]]:
    """Return two or three actors and what each passes behind about the middle of a clip.

    A share of them turns round behind it and comes out where they went in, so that going on in a
    straight line is not always right; of two of a kind, one may be taken for the other. On some
    clips, somebody in front of everything leaves the frame instead, and returns.

    Args:
        rng: Source of all choices.
        width: Frame width in pixels.
        height: Frame height in pixels.
        duration_s: Length of the clip.
    """
    number = int(rng.integers(2, 4))
    names = [CONCEPT_NAMES[int(rng.integers(len(CONCEPT_NAMES)))] for _ in range(number)]
    if rng.random() < _TWINS_SHARE:
        names[1] = names[0]
    # Each has a third of the way to itself, in any order of depth.
    places = rng.permutation(number)
    depths = rng.permutation(number)
    pairs = [
        _hide(
            rng,
            name,
            x=float(0.1 + 0.8 * (places[k] + rng.uniform(0.35, 0.65)) / number),
            nearness=float((depths[k] + rng.uniform(0.3, 0.6)) / number),
            side_per_width=min(width, height) / width,
            middle_s=duration_s * float(rng.uniform(0.35, 0.6)),
        )
        for k, name in enumerate(names)
    ]
    actors = [actor for actor, _ in pairs]
    if rng.random() < _LEAVING_SHARE:
        actors.append(_leave(rng))
    return tuple(actors), tuple(prop for _, prop in pairs)


def _leave(rng: np.random.Generator) -> Actor:
    """Return an actor who goes out of the frame, and comes back on the same side."""
    name = CONCEPT_NAMES[int(rng.integers(len(CONCEPT_NAMES)))]
    # It swings about a point near the edge, once in 7 s, and is out of sight for about 2 s of them.
    middle, reach = float(rng.uniform(0.78, 0.88)), float(rng.uniform(0.36, 0.46))
    phase = float(rng.uniform(0, 2 * np.pi))
    if rng.random() < 0.5:
        middle, reach = 1 - middle, -reach
    return Actor(
        concept=name,
        start_x=middle + reach * float(np.sin(phase)),
        start_s=0.0,
        velocity=0.0,
        sway=reach,
        phase=phase,
        nearness=1.0,
        height=float(rng.uniform(*_HEIGHTS)) * concept_named(name).stature,
    )


def _hide(
    rng: np.random.Generator,
    name: str,
    *,
    x: float,
    nearness: float,
    side_per_width: float,
    middle_s: float,
) -> tuple[Actor, Prop]:
    """Return one actor and what it is behind at ``middle_s``."""
    tall = float(rng.uniform(*_HEIGHTS)) * concept_named(name).stature
    body = tall * load_sprites()[concept_named(name).sprite].aspect * _BODY
    hidden_s = float(rng.uniform(*_HIDDEN_S[int(rng.integers(len(_HIDDEN_S)))]))
    speed = float(rng.uniform(*_SPEEDS)) * (1.0 if rng.random() < 0.5 else -1.0)
    is_turning = rng.random() < _TURNING_SHARE
    start_x, span_s, path = x, 10.0, Path.CROSS
    way = abs(speed) * hidden_s
    if is_turning:
        # Its way is a cosine about the turn: it is at rest there, and fast half a span away.
        path, span_s = Path.VISIT, 2 * middle_s
        start_x = x - speed * middle_s
        way = abs(speed) * middle_s * 0.5 * (1 - np.cos(np.pi * hidden_s / span_s))
    kind = (PropKind.TRUNK, PropKind.WALL, PropKind.BUSH)[rng.choice(3, p=(0.4, 0.4, 0.2))]
    wide = (body + way / side_per_width) / _SOLID[kind]
    if wide > _WIDEST:
        kind, wide = PropKind.WALL, min(body + way / side_per_width, _WIDEST)
    prop = Prop(
        kind=kind,
        x=x,
        nearness=min(nearness + 0.06, 1.0),
        width=wide,
        height=1.3 if kind is PropKind.TRUNK else _HIGHER * tall,
    )
    actor = Actor(
        concept=name,
        path=path,
        start_x=start_x,
        start_s=0.0 if is_turning else middle_s,
        velocity=speed,
        span_s=span_s,
        nearness=nearness,
        height=tall,
        phase=float(rng.uniform(0, 2 * np.pi)),
        steps_per_s=float(rng.uniform(1.2, 2.2)),
    )
    return actor, prop
