"""Recovery after a full occlusion: is what was hidden whole followed again, and under its id?

J&F and HOTA hardly see it: an object that is renamed after a second behind a tree is followed
perfectly but for that. Here every such moment is one event, and it asks for the very track that
followed the object before (SAM 2, section 4, on re-appearing objects; SAM 3, section 3, on video).

Pure code over what showed and what was followed, frame by frame.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from math import inf

import numpy as np

from connectors.world.compose import MIN_VISIBLE_PX, WorldObject
from pipeline.lab.evaluation.held_out import is_counted

# What just before and just after an event is.
WINDOW_S = 1.0
# An object that counts on fewer frames of a window has hardly been there.
MIN_FRAMES = 3
MIN_FOLLOWED_SHARE = 0.5
# Events this long are what a tracker is asked to survive; bounds of the groups reported.
LONGEST_S = 2.0
LENGTHS_S: tuple[tuple[float, float], ...] = ((0.0, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, inf))
_SLACK_S = 1e-6


class Showing(StrEnum):
    """How much of an object is to be seen on a frame.

    ``COUNTED`` is enough to be asked for, ``PARTLY`` is less, ``HIDDEN`` is nothing although it is
    in the frame, and ``AWAY`` is nothing because it is not.
    """

    COUNTED = "counted"
    PARTLY = "partly"
    HIDDEN = "hidden"
    AWAY = "away"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One object on one frame.

    Attributes:
        showing: How much of it is to be seen.
        track_no: Number of the track of its concept that is on it, at overlap 0.5.
    """

    showing: Showing
    track_no: int | None = None


AWAY = Moment(showing=Showing.AWAY)


class Outcome(StrEnum):
    """What became of an object that was hidden.

    ``UNTRACKED`` was not followed before; of the rest, ``RECOVERED`` is followed again by the same
    track, ``RENAMED`` by others only, and ``LOST`` by none.
    """

    RECOVERED = "recovered"
    RENAMED = "renamed"
    LOST = "lost"
    UNTRACKED = "untracked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """One time that an object was hidden whole and showed again.

    Attributes:
        clip: Number of its clip.
        object_id: Its id in the clip's truth.
        hidden_from: First frame on which nothing of it shows.
        shown_from: First frame on which it counts again.
        hidden_s: From the first to the last frame on which nothing shows, s.
        has_left: Whether it was out of the frame meanwhile.
        outcome: What became of it.
    """

    clip: int
    object_id: int
    hidden_from: int
    shown_from: int
    hidden_s: float
    has_left: bool
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryCounts:
    """Events by what became of them.

    Attributes:
        recovered: Followed again by the same track.
        renamed: Followed again by another.
        lost: Not followed again in time.
        untracked: Not followed before either, and therefore not judged.
    """

    recovered: int = 0
    renamed: int = 0
    lost: int = 0
    untracked: int = 0

    @property
    def judged(self) -> int:
        """Events of objects that were followed before."""
        return self.recovered + self.renamed + self.lost

    @property
    def share(self) -> float | None:
        """Share of the judged that were recovered, in [0, 1]; ``None`` if none was judged."""
        return self.recovered / self.judged if self.judged else None


def showing_of(thing: WorldObject) -> Showing:
    """Return how much of an object is to be seen."""
    if is_counted(thing):
        return Showing.COUNTED
    if thing.visibility > 0:
        return Showing.PARTLY
    # What has all but left the frame could not show with nothing in front of it either.
    is_inside = int(np.count_nonzero(thing.full_mask)) >= MIN_VISIBLE_PX
    return Showing.HIDDEN if is_inside else Showing.AWAY


def find_recoveries(
    moments: Sequence[Moment], *, fps: float, clip: int, object_id: int
) -> list[Recovery]:
    """Return every time that one object was hidden whole between two frames on which it counts.

    Before, a track must have been on it on half of the frames of the last second on which it
    counted, three at least; then it is judged. It is recovered if the same track is on it on any
    frame of the first second after. An object that counts on fewer than three frames of that
    second has hardly shown again, and makes no event.

    Args:
        moments: The object on every frame of its clip.
        fps: Frames per second.
        clip: Number of the clip.
        object_id: Its id.
    """
    window = max(round(WINDOW_S * fps), 1)
    counted = [k for k, moment in enumerate(moments) if moment.showing is Showing.COUNTED]
    found: list[Recovery] = []
    for last, first in pairwise(counted):
        unseen = [
            k
            for k in range(last + 1, first)
            if moments[k].showing in {Showing.HIDDEN, Showing.AWAY}
        ]
        after = _counted_of(moments[first : first + window])
        if not unseen or len(after) < MIN_FRAMES:
            continue
        name = _follower(_counted_of(moments[max(last + 1 - window, 0) : last + 1]))
        found.append(
            Recovery(
                clip=clip,
                object_id=object_id,
                hidden_from=unseen[0],
                shown_from=first,
                hidden_s=(unseen[-1] - unseen[0] + 1) / fps,
                has_left=any(moments[k].showing is Showing.AWAY for k in unseen),
                outcome=_outcome(name, after),
            )
        )
    return found


def count_recoveries(
    events: Iterable[Recovery],
    *,
    over_s: float = 0.0,
    up_to_s: float = LONGEST_S,
    has_left: bool = False,
) -> RecoveryCounts:
    """Count the events of a length in (``over_s``, ``up_to_s``].

    Args:
        events: Of any clips.
        over_s: Longer than this, s.
        up_to_s: At most this long, s.
        has_left: Those who left the frame meanwhile, instead of those who stayed in it.
    """
    tally = Counter(
        one.outcome
        for one in events
        if one.has_left is has_left and over_s + _SLACK_S < one.hidden_s <= up_to_s + _SLACK_S
    )
    return RecoveryCounts(
        recovered=tally[Outcome.RECOVERED],
        renamed=tally[Outcome.RENAMED],
        lost=tally[Outcome.LOST],
        untracked=tally[Outcome.UNTRACKED],
    )


def _counted_of(moments: Sequence[Moment]) -> list[Moment]:
    return [moment for moment in moments if moment.showing is Showing.COUNTED]


def _follower(before: Sequence[Moment]) -> int | None:
    """Return the track that followed an object; of equals the one that did so last."""
    names = [m.track_no for m in before if m.track_no is not None]
    if not names:
        return None
    name, frames = Counter(reversed(names)).most_common(1)[0]
    is_followed = frames >= max(MIN_FRAMES, MIN_FOLLOWED_SHARE * len(before))
    return name if is_followed else None


def _outcome(name: int | None, after: Sequence[Moment]) -> Outcome:
    if name is None:
        return Outcome.UNTRACKED
    names = {moment.track_no for moment in after} - {None}
    if name in names:
        return Outcome.RECOVERED
    return Outcome.RENAMED if names else Outcome.LOST
