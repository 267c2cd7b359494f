"""An object has left a zone."""

from typing import Literal

from pipeline.clock import seconds_to_us
from pipeline.events.rules.config import ZoneRuleConfig
from pipeline.events.rules.in_zone import is_outside
from pipeline.events.rules.kind import RuleKind, Timing


class LeaveRule(ZoneRuleConfig):
    """New when a track that was inside has left the zone, end when it comes back or ends."""

    type: Literal["leave"]


LEAVE = RuleKind(
    config=LeaveRule,
    value_name="outside_s",
    release_reason="came_back",
    condition=is_outside,
    timing=lambda config: Timing(
        hold_us=seconds_to_us(config.settle_s), release_us=seconds_to_us(config.settle_s)
    ),
    needs_opposite=True,
)
