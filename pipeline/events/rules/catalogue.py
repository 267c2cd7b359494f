"""The table of all rules: a new one is a module with a ``RuleKind``, and a row here."""

from collections.abc import Mapping
from typing import Annotated, Any, cast

from pydantic import PlainSerializer, PlainValidator

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


def _to_rule(value: object) -> BaseRuleConfig:
    if isinstance(value, BaseRuleConfig):
        return value
    name = cast("Mapping[str, object]", value).get("type") if isinstance(value, dict) else None
    kind = next((kind for kind in RULES if kind.name == name), None)
    if kind is None:
        accepted = ", ".join(kind.name for kind in RULES)
        raise ValueError(f"type {name!r} is no rule's (accepted: {accepted})")
    return cast("BaseRuleConfig", kind.config.model_validate(value))


StoredRule = Annotated[
    BaseRuleConfig,
    PlainValidator(_to_rule),
    PlainSerializer(lambda config: config.model_dump(mode="json"), return_type=dict[str, object]),
]
"""Any rule's configuration in a snapshot, by the table as it is when that is read."""
