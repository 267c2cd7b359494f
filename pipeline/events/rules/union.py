"""The configuration of any rule: a union by ``type`` of the catalogue's rows.

Built when this module is imported; rows added to the table before are members.
"""

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from pipeline.events.rules.catalogue import RULES
from pipeline.events.rules.config import BaseRuleConfig

if TYPE_CHECKING:
    # What every member has; the members are known at run time only.
    RuleConfig = BaseRuleConfig
else:
    _BY_TYPE = Field(discriminator="type")
    RuleConfig = Annotated[Union[tuple(kind.config for kind in RULES)], _BY_TYPE]  # noqa: UP007
