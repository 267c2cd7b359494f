"""The port of the API."""

import logging

from typing_extensions import override

from pipeline.api.application import build_application
from pipeline.api.backend import Backend
from pipeline.api.guard import Guard
from pipeline.api.pictures import PictureDesk
from pipeline.api.routes.commands import MAX_BODY_BYTES
from pipeline.observe.serving import MAX_HEADER_BYTES, HttpServer, Limits

_logger = logging.getLogger("maskstream.api")

MAX_CONNECTIONS = 300
"""Two hundred viewers and who else asks; the usual limit on open files is 1,024."""
TIMEOUT_S = 15.0
"""For a request to arrive, and for a client to read what it was sent."""


class ApiServer(HttpServer):
    """Serves the API on a thread of its own.

    Attributes:
        backend: What is answered from.

    Args:
        backend: What is answered from; its configuration says where to listen.
        timeout_s: For a request to arrive, and for a client to read what it was sent.

    Raises:
        ConfigError: If nothing can listen there.
    """

    def __init__(self, backend: Backend, *, timeout_s: float = TIMEOUT_S) -> None:
        config = backend.file.api
        self.backend = backend
        self._pictures = PictureDesk()
        super().__init__(
            Guard(build_application(backend, self._pictures), config),
            section="api",
            host=config.host,
            port=config.port or 0,
            limits=Limits(
                timeout_s=timeout_s,
                max_connections=MAX_CONNECTIONS,
                max_request_bytes=MAX_BODY_BYTES + MAX_HEADER_BYTES,
                are_answers_endless=True,
            ),
        )

    @override
    def start(self) -> None:
        _logger.info("the API is at %s/v1", self.url)
        super().start()

    @override
    def stop(self) -> None:
        super().stop()
        self._pictures.close()
