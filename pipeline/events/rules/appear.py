"""An object has appeared."""

from typing import Literal

from pipeline.clock import seconds_to_us
from pipeline.events.rules.config import BaseRuleConfig
from pipeline.events.rules.kind import RuleKind, Timing
from pipeline.fields import Seconds


class AppearRule(BaseRuleConfig):
    """New when a track is accepted, updates while it lives, end when it ends."""

    type: Literal["appear"]
    update_every_s: Seconds = 5.0
    """Least time between updates; 0 sends none."""


APPEAR = RuleKind(
    config=AppearRule,
    value_name="present_s",
    release_reason="track_ended",
    condition=lambda _config, _zones: lambda _track: True,
    timing=lambda config: Timing(update_every_us=seconds_to_us(config.update_every_s)),
)
