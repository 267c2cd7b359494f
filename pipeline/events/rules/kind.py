"""What a rule adds to the machine that all rules share.

A rule is one module: its configuration, a question about a track, and delays. The machine in
:mod:`pipeline.events.rules.machine` asks the question on every frame and makes events of answers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, get_args

from pipeline.clock import Moment
from pipeline.events.rules.config import BaseRuleConfig
from pipeline.events.zones import ZoneConfig
from pipeline.tracking.track import Track

ConfigT = TypeVar("ConfigT", bound=BaseRuleConfig)

Condition = Callable[[Track], bool | None]
"""Whether it holds for a track on this frame; ``None`` leaves all as it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Delays of a rule in observed time.

    Attributes:
        hold_us: The condition must hold this long before the event begins.
        release_us: It must fail this long before the event ends.
        update_every_us: Least time between updates; 0 sends none.
    """

    hold_us: int = 0
    release_us: int = 0
    update_every_us: int = 0


def _nothing(_track: Track, _reason: str) -> Moment | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleKind(Generic[ConfigT]):
    """One row of the catalogue.

    Attributes:
        config: Its configuration; the literal ``type`` names the rule.
        value_name: Name of the duration that its events carry, in seconds.
        release_reason: Why an event ends when the condition fails.
        condition: Returns the question for a configuration and the stream's zones.
        timing: Returns the delays for a configuration.
        needs_opposite: The condition counts only after it has failed for ``hold_us``: what leaves
            must have been inside.
        begins_when_ended: Asked with a track that ended without an event and the reason: when the
            event began, if that is one.
    """

    config: type[ConfigT]
    value_name: str
    release_reason: str
    condition: Callable[[ConfigT, Sequence[ZoneConfig]], Condition]
    timing: Callable[[ConfigT], Timing]
    needs_opposite: bool = False
    begins_when_ended: Callable[[Track, str], Moment | None] = _nothing

    @property
    def name(self) -> str:
        """The ``type`` that names it in a configuration."""
        return get_args(self.config.model_fields["type"].annotation)[0]
