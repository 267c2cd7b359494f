"""An object has left a zone."""

from typing import Literal

from pipeline.events.rules.config import ZoneRuleConfig


class LeaveRule(ZoneRuleConfig):
    """New when a track that was inside has left the zone, end when it comes back or ends."""

    type: Literal["leave"]
