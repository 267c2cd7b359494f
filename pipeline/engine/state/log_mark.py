"""Where in the log a moment of the engine lies."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.engine.log.kinds import Kind


@dataclass(slots=True)
class LogMark:
    """A question that travels with the deliveries; the recorder answers it.

    Attributes:
        last_seq: Number of the last record of all deliveries before this one, by kind; ``None``:
            it is not known yet.
    """

    last_seq: Mapping[Kind, int] | None = None

    @property
    def alerts_seq(self) -> int | None:
        """Number of the last alert."""
        return None if self.last_seq is None else self.last_seq[Kind.ALERTS]
