"""An object stays in a zone."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.clock import seconds_to_us
from pipeline.events.rules.config import ZoneRuleConfig
from pipeline.events.rules.in_zone import is_inside
from pipeline.events.rules.kind import RuleKind, Timing
from pipeline.fields import Seconds


class DwellRule(ZoneRuleConfig):
    """New when a track has stayed in the zone for ``dwell_s``, end when it is out again."""

    type: Literal["dwell"]
    dwell_s: Annotated[float, Field(gt=0, le=86_400)]
    update_every_s: Seconds = 5.0
    """Least time between updates; 0 sends none."""


DWELL = RuleKind(
    config=DwellRule,
    value_name="dwell_s",
    release_reason="left_zone",
    condition=is_inside,
    timing=lambda config: Timing(
        hold_us=seconds_to_us(config.dwell_s),
        release_us=seconds_to_us(config.settle_s),
        update_every_us=seconds_to_us(config.update_every_s),
    ),
)
