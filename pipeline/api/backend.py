"""What the API answers from."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Annotated, Protocol, cast

from fastapi import Depends, Request

from pipeline.config.run import RunConfig
from pipeline.engine.ledger import Ledger
from pipeline.engine.overlay import Change
from pipeline.observe.health import Health
from pipeline.observe.live import LiveView
from pipeline.records.command import AnyCommand, CommandResult


class Controlled(Protocol):
    """What can be changed while it runs: an engine. Any thread may use it."""

    @property
    def config(self) -> RunConfig:
        """What holds now."""
        ...

    @property
    def changes(self) -> Sequence[Change]:
        """What of it commands have changed."""
        ...

    def execute(self, command: AnyCommand) -> "Future[CommandResult]":
        """Have a command carried out; waits for no turn of the engine."""
        ...


@dataclass(slots=True, kw_only=True)
class Backend:
    """A run as others publish it; reading it holds nobody up.

    Attributes:
        file: The configuration as it was read at the start.
        live: The newest of every open stream.
        health: What streams and sinks are doing.
        ledger: Counts of frames.
        engine: Takes commands; ``None`` while the model is being loaded.
    """

    file: RunConfig
    live: LiveView
    health: Health
    ledger: Ledger
    engine: Controlled | None = None

    @property
    def config(self) -> RunConfig:
        """What holds now, with what commands have changed."""
        return self.file if self.engine is None else self.engine.config

    @property
    def changes(self) -> Sequence[Change]:
        """What commands have changed of the file."""
        return () if self.engine is None else self.engine.changes


def _backend_of(request: Request) -> Backend:
    return cast("Backend", request.app.state.backend)


Served = Annotated[Backend, Depends(_backend_of)]
