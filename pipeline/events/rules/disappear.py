"""An object is out of sight."""

from typing import Literal

from pipeline.events.rules.config import BaseRuleConfig
from pipeline.fields import Seconds


class DisappearRule(BaseRuleConfig):
    """New when a track is out of sight for long enough, end when it is seen again or ends."""

    type: Literal["disappear"]
    after_s: Seconds = 2.0
