"""What a configuration must be like for exactly once, and what follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from connectors.kafka.config import KafkaSinkConfig, KafkaSourceConfig
from connectors.unions import SinkConfig
from pipeline.config.sections.state import StateConfig
from pipeline.config.sections.stream import StreamConfig

# Where and as whom a client meets its cluster. What is not here may differ.
_SHARED = (
    "bootstrap",
    "security_protocol",
    "sasl_mechanism",
    "sasl_plain_username",
    "sasl_plain_password",
    "ssl_cafile",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_password",
    "ssl_check_hostname",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactlyOnce:
    """A run that delivers exactly once.

    Attributes:
        sink: Name of the sink.
        writer: What the broker knows this worker's transactions by.
        groups: Groups of consumers whose positions they move.
        interval_s: Time between two transactions.
        max_results: Results after which one comes earlier.
    """

    sink: str
    writer: str
    groups: frozenset[str]
    interval_s: float
    max_results: int

    def complete(self, config: SinkConfig) -> SinkConfig:
        """Return a sink's configuration, with the writer's name if it is the one."""
        if not isinstance(config, KafkaSinkConfig) or config.name != self.sink:
            return config
        transactions = config.transactions.model_copy(update={"id": self.writer})
        return config.model_copy(update={"transactions": transactions})

    @staticmethod
    def group_of(config: StreamConfig) -> str:
        """Return the group that a stream's source reads for."""
        source = config.source
        if not isinstance(source, KafkaSourceConfig):
            raise TypeError(f"source {source.type!r} (accepted: kafka)")
        return source.group_id


def find_exactly_once(
    sinks: Sequence[SinkConfig], streams: Sequence[StreamConfig], *, deployment: str, worker: str
) -> ExactlyOnce | None:
    """Return how a run delivers exactly once; ``None``: it does not."""
    found = _find_sinks(sinks)
    if not found:
        return None
    [(_, sink)] = found
    return ExactlyOnce(
        sink=sink.name,
        writer=sink.transactions.id or f"{deployment}/{worker}/{sink.name}",
        groups=frozenset(ExactlyOnce.group_of(stream) for stream in streams),
        interval_s=sink.transactions.commit_interval_s,
        max_results=sink.transactions.commit_results,
    )


def refuse_mixtures(
    sinks: Sequence[SinkConfig], streams: Sequence[StreamConfig], state: StateConfig
) -> None:
    """Raise a ``ValidationError`` if something is to be delivered exactly once and cannot be."""
    found = _find_sinks(sinks)
    if not found:
        return
    (_, sink), *others = found
    errors = [
        _error(("sinks", number, "delivery"), "a second exactly_once", "one such sink")
        for number, _ in others
    ]
    if state.topic is not None:
        reason = "its snapshots go with no transaction, as exactly_once asks"
        errors.append(_error(("state", "topic"), reason, "state.folder"))
    if not state.resume:
        errors.append(_error(("state", "resume"), "false, with exactly_once", "true"))
    for number, stream in enumerate(streams):
        errors += _find_errors(("streams", number, "source"), stream, sink)
        if stream.paused:  # its frames would hold the transaction, and with it all others
            reason = f"true, while sink {sink.name!r} delivers exactly_once"
            errors.append(_error(("streams", number, "paused"), reason, "false"))
    if errors:
        raise ValidationError.from_exception_data("RunConfig", errors)


def _find_sinks(sinks: Sequence[SinkConfig]) -> list[tuple[int, KafkaSinkConfig]]:
    return [
        (number, sink)
        for number, sink in enumerate(sinks)
        if isinstance(sink, KafkaSinkConfig) and sink.is_transactional
    ]


def _find_errors(
    place: tuple[int | str, ...], stream: StreamConfig, sink: KafkaSinkConfig
) -> list[InitErrorDetails]:
    source = stream.source
    if not isinstance(source, KafkaSourceConfig):
        reason = f"{source.type}, while sink {sink.name!r} delivers exactly_once"
        accepted = "kafka, or at_least_once for the sink"
        return [_error((*place, "type"), reason, accepted)]
    reason = f"is not that of sink {sink.name!r}, which delivers exactly_once"
    return [
        _error((*place, name), reason, "the same: both are on one cluster")
        for name in _SHARED
        if getattr(source, name) != getattr(sink, name)
    ]


def _error(place: tuple[int | str, ...], reason: str, accepted: str) -> InitErrorDetails:
    text = f"{reason} (accepted: {accepted})"
    return InitErrorDetails(
        type=PydanticCustomError("exactly_once", "{text}", {"text": text}), loc=place, input=()
    )
