"""An object has come into a zone."""

from typing import Literal

from pipeline.clock import seconds_to_us
from pipeline.events.rules.config import ZoneRuleConfig
from pipeline.events.rules.in_zone import is_inside
from pipeline.events.rules.kind import RuleKind, Timing
from pipeline.fields import Seconds


class EnterRule(ZoneRuleConfig):
    """New when a track has come into the zone, updates while inside, end when it is out again."""

    type: Literal["enter"]
    update_every_s: Seconds = 5.0
    """Least time between updates; 0 sends none."""


ENTER = RuleKind(
    config=EnterRule,
    value_name="dwell_s",
    release_reason="left_zone",
    condition=is_inside,
    timing=lambda config: Timing(
        hold_us=seconds_to_us(config.settle_s),
        release_us=seconds_to_us(config.settle_s),
        update_every_us=seconds_to_us(config.update_every_s),
    ),
)
