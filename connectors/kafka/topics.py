"""Topics that a sink writes to: looked for, and made where they are missing."""

import logging
from collections.abc import Collection, Iterable
from typing import Any, cast

from kafka import errors
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError
from kafka.structs import TopicPartition

from connectors.errors import TopicMissingError
from connectors.kafka.client import MAX_RECORD_BYTES, build_admin
from connectors.kafka.config import KafkaSinkConfig
from connectors.record import Topic

_log = logging.getLogger("maskstream.connectors.kafka")

# The last status and state of a stream are of use however old they are; all others are history.
_COMPACTED = frozenset([Topic.STATUS, Topic.STATE])
# Brokers take 1 MiB by default, and what a model remembers of 20 objects is more. What is written
# to a segment is compacted only once it is full: state is read whole, so segments are small.
_STATE_SETTINGS = {
    "max.message.bytes": str(MAX_RECORD_BYTES),
    "segment.bytes": str(2 * MAX_RECORD_BYTES),
    "min.cleanable.dirty.ratio": "0.1",
}
_POLICY = "cleanup.policy"
_OUTCOMES = {
    True: "what a stream was told last is deleted some day (accepted: compact)",
    False: "all records of a stream but the last are deleted (accepted: delete)",
}
_LATEST = -1  # as the protocol says it; kafka-python's name for it is not exported with a type

Partition = tuple[str, int]


class Topics:
    """The topics of one sink.

    Args:
        config: Of the sink.
        kinds: What it may ever write.
    """

    def __init__(self, config: KafkaSinkConfig, kinds: Iterable[Topic]) -> None:
        self._config = config
        self._kinds = {self.name_of(kind): kind for kind in kinds}
        self._has_warned = False
        self._compared: set[str] = set()

    def name_of(self, kind: Topic) -> str:
        """Return the Kafka topic's name for a kind of record."""
        return self._config.topics.name_of(kind)

    def ensure(self, required: Collection[str]) -> frozenset[str]:
        """Make what is missing, if that is wanted, and return what is there. Waits for brokers.

        Raises:
            TopicMissingError: One that is required is not there.
            KafkaError: It may not be seen, or nobody answers.
        """
        admin = build_admin(self._config)
        try:
            faults = self._look(admin)
            missing = [
                name for name, error in faults.items() if error is UnknownTopicOrPartitionError
            ]
            refusal = ""
            if missing and self._config.topics.create == "missing":
                refusal = self._make(admin, missing)
                faults = self._look(admin)
            found = frozenset(name for name, error in faults.items() if error is None)
            self._compare_policies(admin, found)
        finally:
            admin.close()
        for name in required:
            self._check(name, faults.get(name), refusal)
        return found

    def find_ends(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return the offset behind the last record of partitions. Waits for brokers.

        Raises:
            KafkaError: They may not be seen, or nobody answers.
        """
        asked = {TopicPartition(*one): _LATEST for one in partitions}
        admin = build_admin(self._config)
        try:
            limit_ms = round(self._config.connect_timeout_s * 1000)
            found = admin.list_partition_offsets(asked, timeout_ms=limit_ms)
        finally:
            admin.close()
        return {(one.topic, one.partition): end.offset for one, end in found.items()}

    def _look(self, admin: Any) -> dict[str, type[KafkaError] | None]:  # noqa: ANN401 - untyped
        """Return for each topic what the broker says against it."""
        return {
            topic["name"]: _error_of(topic["error_code"]) if topic["error_code"] else None
            for topic in admin.describe_topics(list(self._kinds))
        }

    def _make(self, admin: Any, names: list[str]) -> str:  # noqa: ANN401 - untyped
        """Make topics; returns why some could not be made."""
        setup = self._config.topics
        wanted = {
            name: {
                "num_partitions": setup.partitions,
                "replication_factor": setup.replication or -1,
                "configs": _settings_of(self._kinds[name]),
            }
            for name in names
        }
        try:
            answers = admin.create_topics(wanted, raise_errors=False)["topics"]
            codes = {answer["error_code"]: answer.get("error_message") for answer in answers}
            reasons = {
                f"{_error_of(code).__name__}{f': {text}' if text else ''}"
                for code, text in codes.items()
                if code not in (0, TopicAlreadyExistsError.errno)
            }
        except KafkaError as error:  # an old broker asks for more than it is told
            reasons = {str(error)}
        refusal = ", ".join(sorted(reasons))
        if refusal and not self._has_warned:
            self._has_warned = True
            _log.warning("topics %s are missing and cannot be made: %s", ", ".join(names), refusal)
        elif not refusal:
            _log.info("made the topics %s", ", ".join(names))
        return refusal

    def _compare_policies(self, admin: Any, names: Collection[str]) -> None:  # noqa: ANN401 - untyped
        """Warn once of each topic that is compacted and should not be, or the other way round."""
        asked = sorted(set(names) - self._compared)
        self._compared.update(asked)
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in asked]
        try:
            told: Any = admin.describe_configs(resources, config_filter="all") if resources else {}
        except Exception as error:  # noqa: BLE001 - it takes a right of its own; records go on
            _log.debug("cleanup policies are not known: %s", error)
            return
        for name in asked:
            policy = told.get("topic", {}).get(name, {}).get(_POLICY, {}).get("value")
            is_meant = self._kinds[name] in _COMPACTED
            # Some brokers do not tell.
            if policy is not None and is_meant != ("compact" in policy):
                text = "topic %s: %s is %r, by which %s"
                _log.warning(text, name, _POLICY, policy, _OUTCOMES[is_meant])

    def _check(self, name: str, error: type[KafkaError] | None, refusal: str) -> None:
        if error is None:
            return
        if error is not UnknownTopicOrPartitionError:
            raise error(name)
        reason = f"no topic {name!r}" + (f", and it cannot be made: {refusal}" if refusal else "")
        sink = f"kafka://{self._config.bootstrap}"
        raise TopicMissingError(sink, reason, accepted="a topic that exists, or create: missing")


def _settings_of(kind: Topic) -> dict[str, str]:
    policy = {_POLICY: "compact" if kind in _COMPACTED else "delete"}
    return policy | (_STATE_SETTINGS if kind is Topic.STATE else {})


def _error_of(code: int) -> type[KafkaError]:
    return cast("Any", errors).for_code(code)
