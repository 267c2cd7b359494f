"""An object is out of sight."""

from typing import Literal

from pipeline.clock import Moment, seconds_to_us
from pipeline.events.rules.config import BaseRuleConfig
from pipeline.events.rules.kind import RuleKind, Timing
from pipeline.fields import Seconds
from pipeline.tracking.track import Track

_GONE_REASONS = frozenset({"expired", "tracker"})  # the object went; other ends are the stream's


class DisappearRule(BaseRuleConfig):
    """New when a track is out of sight for long enough, end when it is seen again or ends."""

    type: Literal["disappear"]
    after_s: Seconds = 2.0


def _last_sight(track: Track, reason: str) -> Moment | None:
    # An object that went is gone for good, however short the wait was.
    return track.last_seen if reason in _GONE_REASONS else None


DISAPPEAR = RuleKind(
    config=DisappearRule,
    value_name="absent_s",
    release_reason="seen_again",
    condition=lambda _config, _zones: lambda track: not track.is_visible,
    timing=lambda config: Timing(hold_us=seconds_to_us(config.after_s)),
    begins_when_ended=_last_sight,
)
