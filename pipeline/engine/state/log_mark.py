"""Where in the event log a moment of the engine lies."""

from dataclasses import dataclass


@dataclass(slots=True)
class LogMark:
    """A question that travels with the deliveries; the recorder answers it.

    Attributes:
        alerts_seq: Number of the last alert of all deliveries before this one; ``None``: it is not
            known yet.
    """

    alerts_seq: int | None = None
