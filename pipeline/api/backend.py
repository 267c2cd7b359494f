"""What the API answers from."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from pipeline.config.run import RunConfig
from pipeline.engine.ledger import Ledger
from pipeline.observe.health import Health
from pipeline.observe.live import LiveView


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A run as others publish it; reading it holds nobody up.

    Attributes:
        config: As it was read at the start.
        live: The newest of every open stream.
        health: What streams and sinks are doing.
        ledger: Counts of frames.
    """

    config: RunConfig
    live: LiveView
    health: Health
    ledger: Ledger


def _backend_of(request: Request) -> Backend:
    return cast("Backend", request.app.state.backend)


Served = Annotated[Backend, Depends(_backend_of)]
