"""The port with /livez, /healthz, /readyz and /metrics.

One thread with one event loop, whatever clients do. uvicorn has no limit of its own on how long a
request may take to arrive, so :class:`GuardedProtocol` adds one, with a cap on connections and on
the size of a request.
"""

import asyncio
import json
import logging
import os
import socket
import threading

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.errors import ConfigError
from pipeline.observe.health import Health, HealthReport
from pipeline.observe.metrics import Metrics

_logger = logging.getLogger("maskstream.observe")

PATHS = ("/metrics", "/livez", "/healthz", "/readyz")
MAX_CONNECTIONS = 100
"""A scraper and a few probes need about five; the usual limit on open files is 1,024."""
MAX_REQUEST_BYTES = 16_384
"""A request of Prometheus has about 300 bytes."""
REQUEST_TIMEOUT_S = 5.0
"""Kubernetes probes give up after 1 s and Prometheus after 10 s by default."""
_STOP_TIMEOUT_S = 0.5
_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"Connection: close\r\nContent-Length: 0\r\n\r\n"
)


class GuardedProtocol(H11Protocol):
    """HTTP/1.1 with limits on time, size and number.

    A connection is closed when its next request has not arrived and been answered within
    ``timeout_s``, counted from the connection's start or from the previous answer. One connection
    above :data:`MAX_CONNECTIONS` closes the oldest that is not being answered.
    """

    timeout_s = REQUEST_TIMEOUT_S
    _deadline: asyncio.TimerHandle | None = None
    _began_s = 0.0
    _num_bytes = 0

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.logger = _logger
        self._began_s = self.loop.time()
        self._set_deadline(self.timeout_s)
        if len(self.connections) > MAX_CONNECTIONS:
            others = (other for other in self.connections if isinstance(other, GuardedProtocol))
            min(others, key=_eviction_order).transport.abort()

    @override
    def data_received(self, data: bytes) -> None:
        self._num_bytes += len(data)
        if self._num_bytes <= MAX_REQUEST_BYTES:
            super().data_received(data)
        elif self.is_answering:
            self.transport.abort()
        else:
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    @override
    def on_response_complete(self) -> None:
        self._num_bytes = 0
        self._set_deadline(self.timeout_s)
        super().on_response_complete()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    @override
    def shutdown(self) -> None:
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

    def _set_deadline(self, delay_s: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(delay_s, self.transport.abort)


def _eviction_order(connection: GuardedProtocol) -> tuple[bool, float]:
    return connection.is_answering, connection.began_s


class ObserveServer:
    """Serves metrics and health on a thread of its own.

    The port is bound at once, so that a port in use is an error before anything is loaded.

    Args:
        metrics: What /metrics shows.
        health: What the other paths judge by.
        host: Address to listen on.
        port: 0 takes any free one.
        request_timeout_s: How long one request may take to arrive and be answered.

    Raises:
        ConfigError: If nothing can listen there.
    """

    def __init__(
        self,
        metrics: Metrics,
        health: Health,
        *,
        host: str,
        port: int,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        class Protocol(GuardedProtocol):
            timeout_s = request_timeout_s

        self._host = host
        self._socket = _listen(host, port)
        self._server = uvicorn.Server(
            uvicorn.Config(
                _application(metrics, health),
                http=Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                h11_max_incomplete_event_size=MAX_REQUEST_BYTES,
            )
        )
        self._thread = threading.Thread(target=self._serve, name="maskstream-observe", daemon=True)

    @property
    def url(self) -> str:
        """The address that is really listened on, without a path."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._socket.getsockname()[1]}"

    def start(self) -> None:
        """Begin to answer."""
        _logger.info("metrics are at %s/metrics", self.url)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))


def _listen(host: str, port: int) -> socket.socket:
    where = f"cannot listen on {host}:{port}"
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
    except socket.gaierror as error:
        told = f"observe.host: {where}: {error.strerror} (accepted: an address of this machine)"
        raise ConfigError([told]) from error
    except OSError as error:
        # Not error.strerror: Python adds the address to it, which is told already.
        reason = os.strerror(error.errno or 0)
        told = f"observe.port: {where}: {reason} (accepted: a free port, 0 for any)"
        raise ConfigError([told]) from error
    listener.setblocking(False)  # noqa: FBT003 - the only way to call it
    return listener


def _application(metrics: Metrics, health: Health) -> Starlette:
    async def show_metrics(_request: Request) -> Response:
        return Response(metrics.exposition(), headers={"Content-Type": _TEXT})

    async def show_liveness(_request: Request) -> Response:
        return _report(health.liveness())

    async def show_readiness(_request: Request) -> Response:
        return _report(health.readiness())

    answers = (show_metrics, show_liveness, show_liveness, show_readiness)
    return Starlette(
        routes=[Route(path, answer) for path, answer in zip(PATHS, answers, strict=True)],
        exception_handlers={404: _not_found, 405: _wrong_method},
    )


def _report(report: HealthReport) -> Response:
    body = json.dumps(report.to_json(), ensure_ascii=False)
    return Response(body, 200 if report.is_good else 503, media_type="application/json")


async def _not_found(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse(f"accepted: {', '.join(PATHS)}\n", 404)


async def _wrong_method(_request: Request, error: Exception) -> Response:
    headers = error.headers if isinstance(error, HTTPException) else None
    return PlainTextResponse("accepted: GET, HEAD\n", 405, headers)
