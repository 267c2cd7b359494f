"""Opens the ports of a run, and builds everything behind them."""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.app import App, Observations, build_app, build_observations, serve_observations
from pipeline.config.run import RunConfig
from pipeline.streams.result import FrameResult

if TYPE_CHECKING:
    from pipeline.api.server import ApiServer

_logger = logging.getLogger("maskstream.api")


@contextmanager
def open_app(
    config: RunConfig,
    *,
    on_result: Callable[[FrameResult], None] | None = None,
    load: Callable[[], RunConfig] | None = None,
) -> Generator[App]:
    """Open the configured ports, and build everything behind them.

    Args:
        config: Everything.
        on_result: Called with each result, in the engine's thread.
        load: Reads the configuration file again, for ``reload``; ``None``: there is none.

    Raises:
        ConfigError: If nothing can listen there; no model is loaded then.
    """
    observations = build_observations(config)
    with serve_observations(config, observations), serve_api(config, observations) as server:
        app = build_app(config, observations=observations, on_result=on_result, load=load)
        if server is not None:
            server.backend.engine = app.engine
        yield app


@contextmanager
def serve_api(config: RunConfig, observations: Observations) -> Generator["ApiServer | None"]:
    """Keep the API's port open, if one is configured and anybody may use it.

    Raises:
        ConfigError: If nothing can listen there.
    """
    live = observations.live
    if live is None:
        if config.api.port is not None:
            _logger.warning(
                "api.port: nothing listens, for nobody may use it (accepted: api.tokens, api.proxy)"
            )
        yield None
        return
    # Imported here, because FastAPI costs 0.5 s that a run without this port need not pay.
    from pipeline.api.backend import Backend
    from pipeline.api.server import ApiServer

    server = ApiServer(
        Backend(file=config, live=live, health=observations.health, ledger=observations.ledger)
    )
    try:
        server.start()
        yield server
    finally:
        server.stop()
