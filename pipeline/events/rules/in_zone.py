"""Which side of a zone's edge a track stands on: the question of all rules about zones."""

from collections.abc import Sequence

from pipeline.events.rules.config import ZoneRuleConfig
from pipeline.events.rules.kind import Condition
from pipeline.events.zones import ZoneConfig, anchor_of, contains, find_zone
from pipeline.tracking.track import Track


def is_inside(config: ZoneRuleConfig, zones: Sequence[ZoneConfig]) -> Condition:
    """Ask whether a track's anchor lies in the rule's zone.

    An object out of sight keeps its place: hiding behind a tree is neither entering nor leaving.
    """
    polygon = find_zone(config.zone, zones).polygon

    def condition(track: Track) -> bool | None:
        if not track.is_visible:
            return None
        return contains(polygon, anchor_of(track.bbox, config.anchor))

    return condition


def is_outside(config: ZoneRuleConfig, zones: Sequence[ZoneConfig]) -> Condition:
    """Ask the opposite of :func:`is_inside`."""
    inside = is_inside(config, zones)

    def condition(track: Track) -> bool | None:
        answer = inside(track)
        return None if answer is None else not answer

    return condition
