"""HTTP servers with limits, each on a thread of its own with one event loop.

uvicorn has no limit of its own on how long a request may take to arrive, so
:class:`GuardedProtocol` adds one, with a cap on connections and on the size of a request.
"""

import asyncio
import logging
import os
import socket
import threading
from dataclasses import dataclass
from typing import ClassVar

import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.errors import ConfigError

MAX_HEADER_BYTES = 16_384
"""A request of Prometheus has about 300 bytes, one of a browser behind a proxy 2,000."""
_STOP_TIMEOUT_S = 0.5
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"Connection: close\r\nContent-Length: 0\r\n\r\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one server grants its clients.

    Attributes:
        timeout_s: A request must have arrived and been answered within this time, counted from the
            connection's start or from the previous answer.
        max_connections: One more closes the oldest that is not being answered.
        max_request_bytes: Of a request with its body.
        are_answers_endless: An answer may go on for ever, as long as the client reads what it was
            sent within ``timeout_s``; for streams of events.
    """

    timeout_s: float
    max_connections: int
    max_request_bytes: int = MAX_HEADER_BYTES
    are_answers_endless: bool = False


class GuardedProtocol(H11Protocol):
    """HTTP/1.1 with limits on time, size and number."""

    logs_to: ClassVar[logging.Logger]
    limits: ClassVar[Limits]
    _deadline: asyncio.TimerHandle | None = None
    _began_s = 0.0
    _num_bytes = 0
    _is_stopping = False

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.logger = self.logs_to
        self._began_s = self.loop.time()
        self._set_deadline(self.limits.timeout_s)
        if len(self.connections) > self.limits.max_connections:
            others = (other for other in self.connections if isinstance(other, GuardedProtocol))
            min(others, key=_eviction_order).transport.abort()

    @override
    def data_received(self, data: bytes) -> None:
        self._num_bytes += len(data)
        if self._num_bytes <= self.limits.max_request_bytes:
            super().data_received(data)
            self._let_answer_last()
        elif self.is_answering:
            self.transport.abort()
        else:
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    @override
    def on_response_complete(self) -> None:
        self._num_bytes = 0
        self._set_deadline(self.limits.timeout_s)
        super().on_response_complete()
        self._let_answer_last()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        if self.limits.are_answers_endless and not self._is_stopping:
            self._set_deadline(self.limits.timeout_s)

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        self._let_answer_last()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._drop_deadline()
        super().connection_lost(exc)

    @override
    def shutdown(self) -> None:
        self._is_stopping = True
        self._set_deadline(_STOP_TIMEOUT_S)
        super().shutdown()

    @property
    def is_answering(self) -> bool:
        """Whether a request has arrived whose answer is not complete."""
        # uvicorn declares ``cycle`` without None, but begins with it.
        return bool(self.cycle) and not self.cycle.response_complete

    @property
    def began_s(self) -> float:
        """When the connection was made, in seconds of the loop's clock."""
        return self._began_s

    def _let_answer_last(self) -> None:
        """Take the deadline away from a request that has wholly arrived, if answers may last."""
        if not self.limits.are_answers_endless or self._is_stopping:
            return
        if self.is_answering and not self.cycle.more_body and not self.flow.write_paused:
            self._drop_deadline()

    def _set_deadline(self, delay_s: float) -> None:
        self._drop_deadline()
        self._deadline = self.loop.call_later(delay_s, self.transport.abort)

    def _drop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()


def _eviction_order(connection: GuardedProtocol) -> tuple[bool, float]:
    return connection.is_answering, connection.began_s


class HttpServer:
    """Serves an ASGI application on a thread of its own.

    The port is bound at once, so that a port in use is an error before anything is loaded.

    Args:
        application: Answers.
        section: Of the configuration, for errors, logs and the thread's name.
        host: Address to listen on.
        port: 0 takes any free one.
        limits: What clients are granted.

    Raises:
        ConfigError: If nothing can listen there.
    """

    def __init__(
        self, application: ASGIApp, *, section: str, host: str, port: int, limits: Limits
    ) -> None:
        given_limits, logger = limits, logging.getLogger(f"maskstream.{section}.http")
        # uvicorn warns of each request that is no HTTP: anybody could fill the disk with that.
        logger.setLevel(logging.ERROR)

        class Protocol(GuardedProtocol):
            logs_to = logger
            limits = given_limits

        self._host = host
        self._socket = _listen(host, port, section)
        self._server = uvicorn.Server(
            uvicorn.Config(
                application,
                http=Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                # Else whoever connects from this machine may name any address as its own.
                proxy_headers=False,
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            )
        )
        self._thread = threading.Thread(
            target=self._serve, name=f"maskstream-{section}", daemon=True
        )

    @property
    def url(self) -> str:
        """The address that is really listened on, without a path."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._socket.getsockname()[1]}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))


def _listen(host: str, port: int, section: str) -> socket.socket:
    where = f"cannot listen on {host}:{port}"
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
    except socket.gaierror as error:
        told = f"{section}.host: {where}: {error.strerror} (accepted: an address of this machine)"
        raise ConfigError([told]) from error
    except OSError as error:
        # Not error.strerror: Python adds the address to it, which is told already.
        reason = os.strerror(error.errno or 0)
        told = f"{section}.port: {where}: {reason} (accepted: a free port, 0 for any)"
        raise ConfigError([told]) from error
    listener.setblocking(False)  # noqa: FBT003 - the only way to call it
    # Inherited by connections. Without it the body of each answer, which uvicorn writes behind its
    # head, waits 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
