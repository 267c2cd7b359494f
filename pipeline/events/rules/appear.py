"""An object has appeared."""

from typing import Literal

from pipeline.events.rules.config import BaseRuleConfig
from pipeline.fields import Seconds


class AppearRule(BaseRuleConfig):
    """New when a track is accepted, updates while it lives, end when it ends."""

    type: Literal["appear"]
    update_every_s: Seconds = 5.0
    """Least time between updates; 0 sends none."""
