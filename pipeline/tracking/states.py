"""States of a track and the steps between them."""

from enum import StrEnum


class TrackState(StrEnum):
    """Where a track stands in its life."""

    TENTATIVE = "tentative"
    CONFIRMED = "confirmed"
    OCCLUDED = "occluded"
    LOST = "lost"


class TrackChangeKind(StrEnum):
    """What happened to a track."""

    STARTED = "started"
    CONFIRMED = "confirmed"
    OCCLUDED = "occluded"
    RECOVERED = "recovered"
    MERGED = "merged"
    ENDED = "ended"
