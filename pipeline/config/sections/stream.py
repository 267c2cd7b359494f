"""One entry of the section ``streams``."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from connectors.unions import SourceConfig
from pipeline.events.rules.config import ZoneRuleConfig
from pipeline.events.rules.union import RuleConfig
from pipeline.events.zones import ZoneConfig
from pipeline.fields import Name, Phrase, Seconds, StrictModel, refuse_twice

ANY_STREAM = "*"


class Overflow(StrEnum):
    """What a full buffer does with one frame more."""

    WAIT = "wait"
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"


class RetryConfig(StrictModel):
    """When a source is tried again after an error that may pass: for ever, at growing intervals."""

    initial_s: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """Wait before the first try; jittered, as all waits."""
    maximum_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """No wait is longer."""
    healthy_s: Seconds = 30.0
    """After this long without an error waits begin anew."""
    unauthorized_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """Wait after a refused password."""


class StreamConfig(StrictModel):
    """One camera, file or topic, and what to look for on it."""

    id: Name
    """The stream's name; ``*`` makes this the template of all streams that the source names."""
    source: SourceConfig
    concepts: Annotated[tuple[Phrase, ...], Field(max_length=64)] = ()
    """What to look for, in plain words. Needed unless all sinks take frames only."""
    zones: tuple[ZoneConfig, ...] = ()
    rules: tuple[RuleConfig, ...] = ()
    overflow: Overflow | None = None
    """Of the frame buffer. By default live cameras drop the oldest, everything else waits."""
    max_fps: Annotated[float, Field(gt=0, le=240)] | None = None
    """Frames beyond this rate are gated: counted, not processed."""
    retry: RetryConfig = RetryConfig()
    paused: bool = False
    """Not looked at for now. A camera's connection is closed; a file or topic goes on where it was
    left."""

    @property
    def is_live(self) -> bool:
        """Whether frames come as they are taken."""
        return self.source.is_live

    @property
    def buffer_overflow(self) -> Overflow:
        """The policy given, or the one that fits the source."""
        if self.overflow is not None:
            return self.overflow
        return Overflow.WAIT if self.source.may_wait else Overflow.DROP_OLDEST

    @field_validator("concepts")
    @classmethod
    def _check_concepts(cls, concepts: tuple[str, ...]) -> tuple[str, ...]:
        seen: dict[str, str] = {}
        for concept in concepts:
            key = concept.casefold()  # The model reads capitals as small letters.
            if key in seen:
                both = f"{seen[key]!r} and {concept!r}"
                raise ValueError(f"{both} are one concept (accepted: each once)")
            seen[key] = concept
        return concepts

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        zones = [zone.name for zone in self.zones]
        refuse_twice("zone", zones)
        refuse_twice("rule", [rule.name for rule in self.rules])
        for rule in self.rules:
            if isinstance(rule, ZoneRuleConfig) and rule.zone not in zones:
                raise ValueError(
                    f"rule {rule.name!r} names zone {rule.zone!r} (accepted: {_listed(zones)})"
                )
            for concept in rule.concepts:
                if concept not in self.concepts:
                    accepted = _listed(self.concepts)
                    raise ValueError(
                        f"rule {rule.name!r} names concept {concept!r} (accepted: {accepted})"
                    )
        return self


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none is defined"
