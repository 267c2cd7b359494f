"""All rules. A new one is a module with a ``RuleKind``, and a row here."""

from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field

from pipeline.events.rules.appear import APPEAR
from pipeline.events.rules.config import BaseRuleConfig
from pipeline.events.rules.disappear import DISAPPEAR
from pipeline.events.rules.dwell import DWELL
from pipeline.events.rules.enter import ENTER
from pipeline.events.rules.kind import RuleKind
from pipeline.events.rules.leave import LEAVE

RULES: tuple[RuleKind[Any], ...] = (
    APPEAR,
    DISAPPEAR,
    ENTER,
    LEAVE,
    DWELL,
)

if TYPE_CHECKING:
    RuleConfig = BaseRuleConfig
else:
    RuleConfig = Annotated[
        Union[tuple(kind.config for kind in RULES)], Field(discriminator="type")  # noqa: UP007
    ]


def kind_of(config: RuleConfig) -> RuleKind[Any]:
    """Return the row of a rule's configuration."""
    return next(kind for kind in RULES if kind.config is type(config))
