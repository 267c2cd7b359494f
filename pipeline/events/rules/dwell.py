"""An object stays in a zone."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.events.rules.config import ZoneRuleConfig
from pipeline.fields import Seconds


class DwellRule(ZoneRuleConfig):
    """New when a track has stayed in the zone for ``dwell_s``, end when it is out again."""

    type: Literal["dwell"]
    dwell_s: Annotated[float, Field(gt=0, le=86_400)]
    update_every_s: Seconds = 5.0
    """Least time between updates; 0 sends none."""
