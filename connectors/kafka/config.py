"""Configurations of Kafka's clients: a source of frames, a sink of records."""

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator
from typing_extensions import override

from connectors.config import (
    BaseSinkConfig,
    BaseSourceConfig,
    ConnectorConfig,
    GivenPath,
    refuse_stray_at,
)
from connectors.errors import redact_url
from connectors.record import RECORD_TOPICS, Topic

# Options of kafka-python's producer that are given by fields, and those on which promises rest.
_FIELD_OF_OPTION = {
    "acks": "acks",
    "compression_type": "compression",
    "delivery_timeout_ms": "delivery_timeout_s",
    "request_timeout_ms": "delivery_timeout_s",
    "max_block_ms": "connect_timeout_s",
}
_FIXED_OPTIONS = frozenset(
    ["batch_size", "enable_idempotence", "kafka_client", "linger_ms", "retries"]
)
_TRANSACTION_OPTIONS = {
    "transactional_id": "transactions.id",
    "transaction_timeout_ms": "transactions.timeout_s",
}

TopicKind = Literal["masklets", "tracks", "events", "status", "state", "frames", "dlq"]


_TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def _check_topic(name: str) -> str:
    if not _TOPIC_NAME.fullmatch(name) or name in {".", ".."}:
        raise ValueError(
            f"bad topic name {name!r}; accepted: 1 to 249 letters, digits, dots, hyphens and "
            "underscores"
        )
    return name


TopicName = Annotated[str, AfterValidator(_check_topic)]


class KafkaClientConfig(ConnectorConfig, frozen=True):
    """What every Kafka client needs; ``security`` fields are named as kafka-python names them."""

    bootstrap: str = Field(description="host:port, several with commas.")
    client_id: str = Field(default="maskstream", min_length=1)
    connect_timeout_s: float = Field(
        default=8.0, gt=0, le=120, description="Longest wait for a broker."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_plain_username: str | None = None
    sasl_plain_password: SecretStr | None = None
    ssl_cafile: GivenPath | None = None
    ssl_certfile: GivenPath | None = None
    ssl_keyfile: GivenPath | None = None
    ssl_password: SecretStr | None = None
    ssl_check_hostname: bool = True
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict[str, str | int | float | bool],
        repr=False,
        description="Further options of kafka-python's client, by its names.",
    )

    @field_validator("bootstrap")
    @classmethod
    def _check_bootstrap(cls, bootstrap: str) -> str:
        for address in bootstrap.split(","):
            host, _, port = address.strip().rpartition(":")
            if "@" in host:  # what stands before it may be a password, so nothing is quoted
                raise ValueError(
                    "bad broker address with an @; accepted: host:port[,…], and user and password "
                    "in sasl_plain_username and sasl_plain_password"
                )
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError(
                    f"bad broker address {redact_url(address)!r}; accepted: host:port[,…]"
                )
        return bootstrap

    @field_validator("options")
    @classmethod
    def _check_options(cls, options: dict[str, Any]) -> dict[str, Any]:
        # A field of its own is checked, and hidden where it is a secret.
        fields = {name: name for name in KafkaClientConfig.model_fields}
        for name in options:
            if field := (fields | {"bootstrap_servers": "bootstrap"}).get(name):
                raise ValueError(f"{name!r} among the options; accepted: the field {field!r}")
        return options

    @override
    def find_faults(self) -> Mapping[str, str]:
        faults = {
            name: f"no file {str(path)!r}; accepted: a file that exists"
            for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile")
            if (path := getattr(self, name)) is not None and not path.is_file()
        }
        faults |= self._find_sasl_faults()
        known = self._known_options() if self.options else ()
        for option in self.options.keys() - set(known):
            near = get_close_matches(option, known, n=1)
            hint = "".join(f"did you mean {one!r}? " for one in near)
            faults["options"] = f"unknown option {option!r}; {hint}accepted: kafka-python's options"
        return faults

    def _find_sasl_faults(self) -> Mapping[str, str]:
        protocol = self.security_protocol
        names = "sasl_mechanism", "sasl_plain_username", "sasl_plain_password"
        given = [name for name in names if getattr(self, name) is not None]
        if protocol.startswith("SASL_"):
            return {
                name: f"is missing; accepted: a value, as security_protocol is {protocol}"
                for name in names
                if name not in given
            }
        reason = f"{protocol} never sends {', '.join(given)}; accepted with it: SASL_SSL, or "
        return {"security_protocol": f"{reason}SASL_PLAINTEXT"} if given else {}

    def _places_of(self, topics: Iterable[str]) -> frozenset[str]:
        """Return topics with the addresses they are found at."""
        hosts = [address.strip().lower() for address in self.bootstrap.split(",")]
        return frozenset(f"{host}/{topic}" for host in hosts for topic in topics)

    @staticmethod
    def _known_options() -> Collection[str]:
        """Return the names that kafka-python has for options of this client."""
        from kafka import KafkaConsumer  # only where somebody gives options

        return KafkaConsumer.DEFAULT_CONFIG


class KafkaSourceConfig(KafkaClientConfig, BaseSourceConfig, frozen=True):
    """Encoded frames of one or several streams, keyed by stream."""

    type: Literal["kafka"] = "kafka"
    topic: TopicName = "maskstream.frames.v1"
    group_id: str = Field(default="maskstream", min_length=1, description="Consumer group.")
    group_instance_id: str | None = Field(
        default=None, description="Static member name, if wanted."
    )
    streams: tuple[str, ...] = Field(default=(), description="Streams to take; empty takes all.")
    start: Literal["earliest", "latest"] = Field(
        default="earliest", description="If nothing is committed."
    )
    until_end: bool = Field(
        default=False, description="End at the records that were there at the start."
    )
    max_pixels: int = Field(default=64_000_000, ge=1, description="Larger pictures are refused.")
    session_timeout_s: float = Field(default=10.0, gt=0, le=600)

    @property
    @override
    def names_streams(self) -> bool:
        return True

    @property
    @override
    def keeps_position(self) -> bool:
        return True

    @property
    @override
    def topics_read(self) -> frozenset[str]:
        return self._places_of([self.topic])

    @property
    @override
    def shared_reads(self) -> frozenset[str]:
        return frozenset(f"{place} as group {self.group_id}" for place in self.topics_read)

    @classmethod
    @override
    def from_url(cls, url: str) -> Self:
        return cls.model_validate(_fields_of(url))


class TopicSetupConfig(ConnectorConfig, frozen=True):
    """Who makes topics, and how. Existing ones are left as they are."""

    create: Literal["missing", "never"] = Field(
        default="missing",
        description="missing: a topic that is not there is made, so that a fresh broker works and "
        "status is compacted; needs the right to create. never: it is an error until somebody "
        "makes it.",
    )
    partitions: int = Field(
        default=8, ge=1, le=10_000, description="Of a new topic: what consumers can share."
    )
    replication: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Copies of each partition of a new topic; null: the broker's default.",
    )


class TopicsConfig(TopicSetupConfig, frozen=True):
    """The topics of a sink of records: masklets, tracks, events, status, dlq."""

    prefix: str = Field(default="", description="Put before every topic's name.")
    names: dict[TopicKind, str] = Field(
        default_factory=dict[TopicKind, str],
        description="Other names for single kinds, without the prefix.",
    )

    def name_of(self, kind: Topic) -> str:
        """Return the Kafka topic's name for a kind of record."""
        names: dict[str, str] = {**self.names}
        return self.prefix + names.get(kind.value.split(".")[1], kind.value)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for name in ("x", *self.names.values()):
            _check_topic(self.prefix + name)
        # Compacted as status is, a topic would keep one event of each camera.
        names = [self.name_of(kind) for kind in RECORD_TOPICS]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"topic {name!r} is there for two kinds of record; accepted: one for each kind"
                )
        return self


class KafkaProducerConfig(KafkaClientConfig, BaseSinkConfig, frozen=True):
    """What every sink to Kafka needs."""

    acks: Literal["all", "leader"] = "all"
    delivery_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=3600,
        description="Longest wait for a confirmation in one attempt. What was not confirmed is "
        "tried on; `delivery.down_s` says when the sink counts as down.",
    )

    @staticmethod
    @override
    def _known_options() -> Collection[str]:
        from kafka import KafkaProducer

        return KafkaProducer.DEFAULT_CONFIG

    @field_validator("options")
    @classmethod
    def _check_producer_options(cls, options: dict[str, Any]) -> dict[str, Any]:
        fields = dict(_FIELD_OF_OPTION)
        if "transactions" in cls.model_fields:
            fields |= _TRANSACTION_OPTIONS
        for name in options:
            if field := fields.get(name):
                raise ValueError(f"{name!r} among the options; accepted: the field {field!r}")
            if name in _FIXED_OPTIONS | _TRANSACTION_OPTIONS.keys():
                raise ValueError(f"{name!r} among the options; accepted: nothing, it is fixed")
        return options


class TransactionsConfig(ConnectorConfig, frozen=True):
    """Transactions of a sink that delivers exactly once."""

    commit_interval_s: float = Field(
        default=0.2,
        gt=0,
        le=60,
        description="Time between two commits. Consumers that read what is committed see a result "
        "later by up to this, and by what the commit takes.",
    )
    commit_results: int = Field(
        default=256, ge=1, le=100_000, description="Results after which a commit comes earlier."
    )
    timeout_s: float = Field(
        default=60.0,
        ge=1,
        le=900,
        description="The broker gives a transaction up that takes longer; it is begun again then.",
    )
    id: str | None = Field(
        default=None,
        min_length=1,
        description="What the broker knows the writer by; a second one of the same id shuts out "
        "the first. null: deployment, worker and name of the sink.",
    )


class KafkaSinkConfig(KafkaProducerConfig, frozen=True):
    """Records to Kafka topics, keyed by stream."""

    type: Literal["kafka"] = "kafka"
    delivery: Literal["at_least_once", "exactly_once"] = Field(
        default="at_least_once",
        description="exactly_once: results and the position in Kafka of the frames that led to "
        "them are committed in one transaction. For streams from Kafka, on the same cluster.",
    )
    transactions: TransactionsConfig = Field(
        default_factory=TransactionsConfig, description="For exactly_once."
    )
    topics: TopicsConfig = Field(
        default_factory=TopicsConfig, description="Their names, and whether they are made."
    )
    compression: Literal["gzip", "zstd", "lz4", "none"] = Field(
        default="gzip",
        description="Every client reads gzip. zstd and lz4 are faster, but a bare kafka-python or "
        "kafkajs cannot read them without a further package.",
    )

    @model_validator(mode="after")
    def _check_acks(self) -> Self:
        if self.is_transactional and self.acks != "all":
            raise ValueError("acks: leader, with delivery: exactly_once; accepted: acks: all")
        return self

    @property
    def is_transactional(self) -> bool:
        """Whether records and the positions of sources arrive together, or not at all."""
        return self.delivery == "exactly_once"

    @property
    @override
    def topics_written(self) -> frozenset[str]:
        return self._places_of(self.topics.name_of(kind) for kind in RECORD_TOPICS)

    @override
    def find_faults(self) -> Mapping[str, str]:
        package = {"zstd": "zstandard", "lz4": "lz4"}.get(self.compression)
        if package is not None and find_spec(package) is None:
            reason = f"needs the package {package}; accepted without it: gzip, none"
            return {**super().find_faults(), "compression": reason}
        return super().find_faults()

    @classmethod
    @override
    def from_url(cls, url: str) -> Self:
        fields = _fields_of(url)
        if "topic" in fields:
            accepted = "kafka://host:port without a topic"
            raise ValueError(f"bad sink {redact_url(url)!r}; accepted: {accepted}")
        return cls.model_validate(fields)


class FramesSinkConfig(KafkaProducerConfig, frozen=True):
    """Frames to a Kafka topic, keyed by stream, as the source ``kafka`` reads them."""

    type: Literal["frames"] = "frames"
    topic: TopicName = "maskstream.frames.v1"
    topic_setup: TopicSetupConfig = Field(
        default_factory=TopicSetupConfig, description="Whether the topic is made, and how."
    )
    image: Literal["jpeg", "png"] = Field(
        default="jpeg", description="jpeg is small and loses detail; png loses none."
    )
    quality: int = Field(default=90, ge=1, le=100, description="Of JPEG, higher is better.")
    max_pending: int = Field(
        default=256, ge=1, description="Unconfirmed frames before writing waits."
    )

    @property
    @override
    def needs_model(self) -> bool:
        return False

    @property
    @override
    def topics_written(self) -> frozenset[str]:
        return self._places_of([self.topic])

    @classmethod
    @override
    def from_url(cls, url: str) -> Self:
        return cls.model_validate(_fields_of(url))

    def to_records(self) -> KafkaSinkConfig:
        """Return the configuration of the sink that carries the frames as records."""
        names = KafkaProducerConfig.model_fields.keys() - {"type"}
        shared = {name: getattr(self, name) for name in names}
        # Pictures are compressed already.
        topics = TopicsConfig(names={"frames": self.topic}, **self.topic_setup.model_dump())
        return KafkaSinkConfig(**shared, topics=topics, compression="none")


class StateTopicConfig(KafkaClientConfig, frozen=True):
    """The state of streams in a compacted topic, where other workers find it."""

    topic: TopicName = "maskstream.state.v1"
    topic_setup: TopicSetupConfig = Field(
        default_factory=TopicSetupConfig,
        description="Whether the topic is made, and how: with as many partitions as that of the "
        "frames each worker reads only the state of its own streams.",
    )
    delivery_timeout_s: float = Field(
        default=10.0, gt=0, le=3600, description="Longest wait for a confirmation in one attempt."
    )

    @property
    def topics_written(self) -> frozenset[str]:
        """The topic, as ``host:port/topic``, at every address it is given."""
        return self._places_of([self.topic])

    @staticmethod
    @override
    def _known_options() -> Collection[str]:
        from kafka import KafkaConsumer, KafkaProducer

        return KafkaConsumer.DEFAULT_CONFIG.keys() & KafkaProducer.DEFAULT_CONFIG.keys()

    def to_records(self) -> KafkaSinkConfig:
        """Return the configuration of the sink that writes it; what it holds does not compress."""
        shared = {name: getattr(self, name) for name in KafkaClientConfig.model_fields}
        topics = TopicsConfig(names={"state": self.topic}, **self.topic_setup.model_dump())
        timeout_s = self.delivery_timeout_s
        return KafkaSinkConfig(
            **shared, topics=topics, compression="none", delivery_timeout_s=timeout_s
        )


def _fields_of(url: str) -> dict[str, Any]:
    refuse_stray_at(url)
    try:
        parts = urlsplit(url)
    except ValueError:  # its text may quote half a password
        accepted = "kafka://[user:password@]host:port[,…]"
        raise ValueError(f"bad URL {redact_url(url)!r}; accepted: {accepted}") from None
    fields: dict[str, Any] = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    if user:
        fields |= {"sasl_plain_username": unquote(user), "sasl_plain_password": unquote(password)}
        fields.setdefault("security_protocol", "SASL_PLAINTEXT")
        fields.setdefault("sasl_mechanism", "PLAIN")
    fields["bootstrap"] = unquote(parts.netloc.rpartition("@")[2])
    topic = unquote(parts.path.strip("/"))
    return fields | ({"topic": topic} if topic else {})
