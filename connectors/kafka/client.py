"""The one seam to kafka-python: its options and its errors, in our words."""

import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any, cast

from kafka import KafkaAdminClient
from kafka import errors as k

from connectors.errors import (
    ConnectorError,
    CorruptMediaError,
    DeliveryFailedError,
    NotFoundError,
    Position,
    SinkError,
    SinkUnauthorizedError,
    SinkUnreachableError,
    SourceError,
    UnauthorizedError,
    UnreachableError,
)
from connectors.kafka.config import KafkaClientConfig
from connectors.kafka.network import TURNED_AWAY, Network

# kafka-python logs every lost connection as an error; without a handler of the program's own that
# would reach the terminal, although the same is raised as a typed error.
logging.getLogger("kafka").addHandler(logging.NullHandler())

MAX_RECORD_BYTES = 64 * 1024 * 1024

# The broker has forgotten the producer (it restarted without its state) or fenced it off: this
# producer never delivers again, and a new one does.
PRODUCER_IS_LOST = (
    k.UnknownProducerIdError,
    k.OutOfOrderSequenceNumberError,
    k.InvalidProducerEpochError,
    k.InvalidProducerIdMappingError,
    k.ProducerFencedError,
)
# No record will get through until somebody mends the configuration.
CONFIGURATION_IS_WRONG = (
    k.KafkaConfigurationError,
    k.UnsupportedVersionError,
    k.UnsupportedCompressionTypeError,
    k.InvalidTopicError,
)
# What kafka-python tries again by itself, and so nothing that a living producer reports.
MAY_PASS = cast("type[Exception]", cast("Any", k).RetriableError)
RECORD_IS_TOO_LARGE = (k.MessageSizeTooLargeError, k.RecordListTooLargeError)
# Sending the same record again cannot help; the next one may pass.
RECORD_IS_REFUSED = (
    *RECORD_IS_TOO_LARGE,
    k.InvalidRecordError,
    k.CorruptRecordError,
    k.InvalidTimestampError,
    k.UnsupportedForMessageFormatError,
    k.PolicyViolationError,
)
_MECHANISM_IS_WRONG = (
    k.UnsupportedSaslMechanismError,
    k.IllegalSaslStateError,
    k.SecurityDisabledError,
)
_THE_MECHANISM = "security_protocol and sasl_mechanism as the listener has them"
_THE_USER = "sasl_plain_username and sasl_plain_password of a user whom the broker knows"
_IS_MISSING = (k.UnknownTopicOrPartitionError, k.UnknownTopicIdError, k.InvalidTopicError)
# Most specific first.
_SOURCE_ERRORS: tuple[tuple[tuple[type[Exception], ...], type[SourceError], str], ...] = (
    (_MECHANISM_IS_WRONG, UnauthorizedError, _THE_MECHANISM),
    ((k.SaslAuthenticationFailedError,), UnauthorizedError, _THE_USER),
    (TURNED_AWAY, UnauthorizedError, "a user with the right to read"),
    (_IS_MISSING, NotFoundError, "a topic that exists"),
    (CONFIGURATION_IS_WRONG, SourceError, "options that kafka-python and the broker know"),
    ((k.FencedInstanceIdError,), SourceError, "a group_instance_id of its own for each worker"),
    ((k.CorruptRecordError, k.InvalidRecordError), CorruptMediaError, "whole records"),
    ((Exception,), UnreachableError, ""),
)


def client_options(config: KafkaClientConfig) -> dict[str, Any]:
    """Return kafka-python's options for a connection; secrets are in clear in them."""
    named = {
        "sasl_mechanism": config.sasl_mechanism,
        "sasl_plain_username": config.sasl_plain_username,
        "ssl_cafile": config.ssl_cafile and str(config.ssl_cafile),
        "ssl_certfile": config.ssl_certfile and str(config.ssl_certfile),
        "ssl_keyfile": config.ssl_keyfile and str(config.ssl_keyfile),
    }
    if config.sasl_plain_password is not None:
        named["sasl_plain_password"] = config.sasl_plain_password.get_secret_value()
    if config.ssl_password is not None:
        named["ssl_password"] = config.ssl_password.get_secret_value()
    return {
        "bootstrap_servers": [one.strip() for one in config.bootstrap.split(",")],
        "client_id": config.client_id,
        "bootstrap_timeout_ms": round(config.connect_timeout_s * 1000),
        "security_protocol": config.security_protocol,
        "ssl_check_hostname": config.ssl_check_hostname,
        **{name: value for name, value in named.items() if value is not None},
        **config.options,
    }


def has_proxy(config: KafkaClientConfig) -> bool:
    """Whether brokers are reached through something else, so that they cannot be asked for."""
    return bool({"proxy_url", "socks5_proxy"} & config.options.keys())


def require_listener(config: KafkaClientConfig) -> None:
    """Return if one of the brokers takes a connection.

    Asked before a client is built: kafka-python goes on trying refused addresses until its
    timeout, and leaks the sockets of a client that could not be built.

    Raises:
        OSError: The last address's, if none answers within ``connect_timeout_s``.
    """
    if has_proxy(config):
        return
    refusal: OSError | None = None
    for address in config.bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), config.connect_timeout_s):
                return
        except OSError as error:
            refusal = error
    if refusal is not None:
        raise refusal


def build_client(
    kind: Any,  # noqa: ANN401 - untyped
    options: Mapping[str, Any],
    build_network: Callable[..., Network] = Network,
) -> tuple[Any, Any]:
    """Return one of kafka-python's clients and its network; waits for a broker.

    Those that cannot be built leave their connections and their thread behind, so both are ended.
    """
    networks: list[Network] = []

    def note_network(**options: Any) -> Network:  # noqa: ANN401 - as above
        networks.append(build_network(**options))
        return networks[-1]

    try:
        return kind(**{**options, "kafka_client": note_network}), networks[0]
    except BaseException as error:
        for network in networks:
            network.close()
        for network in networks:
            if isinstance(error, k.KafkaTimeoutError) and network.refusal:
                raise network.refusal from error
        raise


def build_admin(config: KafkaClientConfig) -> Any:  # noqa: ANN401 - as above
    """Return a client that asks about topics and groups; waits for a broker."""
    known = client_options(config).items()
    options = {name: value for name, value in known if name in KafkaAdminClient.DEFAULT_CONFIG}
    admin, _ = build_client(KafkaAdminClient, options)
    return admin


def translate_source_error(
    error: Exception, stream_id: str, *, position: Position, bootstrap: str
) -> SourceError:
    """Return our error for one of kafka-python's while reading."""
    kind, accepted = next(
        (ours, accepted) for foreign, ours, accepted in _SOURCE_ERRORS if isinstance(error, foreign)
    )
    return kind(
        stream_id,
        _describe(error),
        position=position,
        accepted=accepted or f"a Kafka broker at {bootstrap}",
        # A member that is shut out and comes back shuts the other one out, and so on for ever.
        recoverable=not isinstance(error, (*CONFIGURATION_IS_WRONG, k.FencedInstanceIdError)),
    )


def translate_sink_error(
    error: Exception, sink: str, *, position: Position | None = None
) -> SinkError:
    """Return our error for one of kafka-python's while writing."""
    kind: type[SinkError] = SinkUnreachableError
    accepted = f"a Kafka broker at {sink}"
    if isinstance(error, _MECHANISM_IS_WRONG):
        kind, accepted = SinkUnauthorizedError, _THE_MECHANISM
    elif isinstance(error, k.SaslAuthenticationFailedError):
        kind, accepted = SinkUnauthorizedError, _THE_USER
    elif isinstance(error, TURNED_AWAY):
        kind, accepted = SinkUnauthorizedError, "a user with the right to write"
    elif isinstance(error, RECORD_IS_REFUSED):
        kind, accepted = DeliveryFailedError, "a record that the broker takes"
    elif isinstance(error, CONFIGURATION_IS_WRONG):
        kind, accepted = SinkError, "options that kafka-python and the broker know"
    return kind(sink, _describe(error), position=position, accepted=accepted)


def _describe(error: Exception) -> str:
    if isinstance(error, ConnectorError):
        return error.reason
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    name = type(error).__name__
    if isinstance(error, k.FencedInstanceIdError):
        name = "another member has taken its group_instance_id"
    text = ": ".join(str(part) for part in error.args if part)
    return f"{name}{f': {text}' if text else ''}"
