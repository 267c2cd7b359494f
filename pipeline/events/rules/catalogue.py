"""All rules."""

from typing import Annotated

from pydantic import Field

from pipeline.events.rules.appear import AppearRule
from pipeline.events.rules.disappear import DisappearRule
from pipeline.events.rules.dwell import DwellRule
from pipeline.events.rules.enter import EnterRule
from pipeline.events.rules.leave import LeaveRule

RuleConfig = Annotated[
    AppearRule | DisappearRule | EnterRule | LeaveRule | DwellRule, Field(discriminator="type")
]
