"""One entry of the section ``streams``."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic_core import CoreSchema
from typing_extensions import override

from connectors.unions import SourceConfig
from models.common.concept_ids import to_concept_id
from models.protocols import Concept, to_concepts
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


class ConceptConfig(StrictModel):
    """Something to look for, under an id that stays whatever it is called."""

    id: Annotated[str, Field(min_length=1, max_length=120)] | None = None
    """In records, and in rules. By default made of the phrase: ``person-in-a-red-jacket``."""
    phrase: Phrase
    """What to look for, in plain words."""
    name: Phrase | None = None
    """What records call it; by default the phrase."""

    @model_validator(mode="before")
    @classmethod
    def _take_phrase(cls, data: object) -> object:
        return {"phrase": data} if isinstance(data, str) else data

    @field_validator("id")
    @classmethod
    def _check_id(cls, given: str | None) -> str | None:
        if given is not None and given != to_concept_id(given):
            raise ValueError(f"is not safe in keys (accepted: {to_concept_id(given)!r})")
        return given

    @classmethod
    @override
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        phrase = {"type": "string", "minLength": 1, "maxLength": 200}
        return {"anyOf": [phrase, handler(core_schema)]}

    @property
    def concept(self) -> Concept:
        """What a tracker is told."""
        concept_id = self.id or to_concept_id(self.phrase)
        return Concept(concept_id=concept_id, phrase=self.phrase, name=self.name or self.phrase)


class StreamConfig(StrictModel):
    """One camera, file or topic, and what to look for on it."""

    id: Name
    """The stream's name; ``*`` makes this the template of all streams that the source names."""
    source: SourceConfig
    concepts: Annotated[tuple[ConceptConfig, ...], Field(max_length=64)] = ()
    """What to look for, in plain words, or with an id and a name. Needed unless all sinks take
    frames only."""
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
    def _check_concepts(cls, concepts: tuple[ConceptConfig, ...]) -> tuple[ConceptConfig, ...]:
        """Refuse what would be found twice, and give each concept its id."""
        seen: dict[str, str] = {}
        for one in concepts:
            key = one.phrase.casefold()  # The model reads capitals as small letters.
            if key in seen:
                both = f"{seen[key]!r} and {one.phrase!r}"
                raise ValueError(f"{both} are one concept (accepted: each once)")
            seen[key] = one.phrase
        given = [one.phrase if one.id is None else one.concept for one in concepts]
        ids = [one.concept_id for one in to_concepts(given)]
        refuse_twice("concept", ids)
        refuse_twice("concept named", [one.concept.name for one in concepts])
        return tuple(
            one.model_copy(update={"id": concept_id})
            for one, concept_id in zip(concepts, ids, strict=True)
        )

    @property
    def searched(self) -> tuple[Concept, ...]:
        """What a tracker is to look for."""
        return tuple(one.concept for one in self.concepts)

    @property
    def resolved_rules(self) -> tuple[RuleConfig, ...]:
        """The rules, which name concepts by their ids alone."""
        ids = self._concept_ids
        return tuple(
            rule.model_copy(update={"concepts": tuple(ids[name] for name in rule.concepts)})
            if rule.concepts
            else rule
            for rule in self.rules
        )

    @property
    def _concept_ids(self) -> dict[str, str]:
        """Ids by what rules may call a concept: its phrase, or its id."""
        by_phrase = {one.phrase: one.concept.concept_id for one in self.concepts}
        return by_phrase | {concept_id: concept_id for concept_id in by_phrase.values()}

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
                if concept not in self._concept_ids:
                    accepted = _listed([one.phrase for one in self.concepts])
                    raise ValueError(
                        f"rule {rule.name!r} names concept {concept!r} (accepted: {accepted})"
                    )
        return self


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none is defined"
