"""Connections of kafka-python's clients, which remember why they could not be made."""

from typing import Any, cast

from kafka import errors as k
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from typing_extensions import override

# The broker is there, and does not let this client in.
TURNED_AWAY = (
    k.AuthorizationError,
    k.SaslAuthenticationFailedError,
    k.UnsupportedSaslMechanismError,
    k.IllegalSaslStateError,
    k.SecurityDisabledError,
)


class _Connections(KafkaConnectionManager):
    refusal: Exception | None = None

    @override
    def get_connection(self, *given: Any, **options: Any) -> Any:
        connection = cast("Any", super().get_connection(*given, **options))
        connection.init_future.add_callback(self._accept).add_errback(self._note)
        return connection

    def _accept(self, _is_made: bool) -> None:  # noqa: FBT001 - as kafka-python calls it
        self.refusal = None

    def _note(self, error: Exception) -> None:
        if isinstance(error, TURNED_AWAY):
            self.refusal = error


class Network(KafkaNetClient):
    """The connections of one client.

    kafka-python goes on trying until its time is over, whatever the broker answers, and says why
    in its log alone.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - untyped
        self._selector = NetworkSelector(**options)
        self._connections = _Connections(self._selector, **options)
        super().__init__(self._selector, self._connections, **options)

    @property
    def refusal(self) -> Exception | None:
        """Why brokers let this client in no more, if they do not."""
        return self._connections.refusal

    def pause(self, delay_s: float) -> Any:  # noqa: ANN401 - an awaitable of kafka-python's own
        """Return what lets a coroutine of kafka-python's thread wait, and all others go on."""
        return self._selector.sleep(delay_s)
