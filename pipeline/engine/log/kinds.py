"""Kinds of record that are logged, bounded and shed apart from each other."""

from enum import StrEnum

from connectors.record import Topic


class Kind(StrEnum):
    """Kinds, the most precious first: the last one is shed first."""

    ALERTS = "alerts"
    """Events, status and dead letters: on disk before any sink with a log sees them."""
    TRACKS = "tracks"
    MASKLETS = "masklets"


_KINDS = {
    Topic.EVENTS: Kind.ALERTS,
    Topic.STATUS: Kind.ALERTS,
    Topic.DLQ: Kind.ALERTS,
    Topic.TRACKS: Kind.TRACKS,
    Topic.MASKLETS: Kind.MASKLETS,
}


def kind_of(topic: Topic) -> Kind:
    """Return the kind that a topic's records belong to.

    Raises:
        ValueError: If records of that topic are not logged: frames are too large.
    """
    kind = _KINDS.get(topic)
    if kind is None:
        accepted = ", ".join(_KINDS)
        raise ValueError(f"records of {topic.value!r} are not logged (accepted: {accepted})")
    return kind
