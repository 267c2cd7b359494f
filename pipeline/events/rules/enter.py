"""An object has come into a zone."""

from typing import Literal

from pipeline.events.rules.config import ZoneRuleConfig
from pipeline.fields import Seconds


class EnterRule(ZoneRuleConfig):
    """New when a track has come into the zone, updates while inside, end when it is out again."""

    type: Literal["enter"]
    update_every_s: Seconds = 5.0
    """Least time between updates; 0 sends none."""
