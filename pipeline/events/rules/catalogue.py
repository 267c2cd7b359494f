"""The table of all rules: a new one is a module with a ``RuleKind``, and a row here."""

from typing import Any

from pipeline.events.rules.appear import APPEAR
from pipeline.events.rules.config import BaseRuleConfig
from pipeline.events.rules.disappear import DISAPPEAR
from pipeline.events.rules.dwell import DWELL
from pipeline.events.rules.enter import ENTER
from pipeline.events.rules.kind import RuleKind
from pipeline.events.rules.leave import LEAVE

RULES: list[RuleKind[Any]] = [
    APPEAR,
    DISAPPEAR,
    ENTER,
    LEAVE,
    DWELL,
]


def kind_of(config: BaseRuleConfig) -> RuleKind[Any]:
    """Return the row of a rule's configuration."""
    return next(kind for kind in RULES if kind.config is type(config))
