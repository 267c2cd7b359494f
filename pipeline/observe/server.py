"""The port with /livez, /healthz, /readyz and /metrics."""

import json
import logging

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from typing_extensions import override

from pipeline.observe.health import Health, HealthReport
from pipeline.observe.metrics import Metrics
from pipeline.observe.serving import HttpServer, Limits

_logger = logging.getLogger("maskstream.observe")

PATHS = ("/metrics", "/livez", "/healthz", "/readyz")
MAX_CONNECTIONS = 100
"""A scraper and a few probes need about five; the usual limit on open files is 1,024."""
REQUEST_TIMEOUT_S = 5.0
"""Kubernetes probes give up after 1 s and Prometheus after 10 s by default."""
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class ObserveServer(HttpServer):
    """Serves metrics and health on a thread of its own.

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
        limits = Limits(timeout_s=request_timeout_s, max_connections=MAX_CONNECTIONS)
        application = _application(metrics, health)
        super().__init__(application, section="observe", host=host, port=port, limits=limits)

    @override
    def start(self) -> None:
        _logger.info("metrics are at %s/metrics", self.url)
        super().start()


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
