"""What is handed to the sinks."""

import threading
from dataclasses import dataclass, field

from connectors.frame import Frame
from connectors.record import Record
from pipeline.records.codec import encode_record
from pipeline.records.schema import StatusRecord
from pipeline.records.translate import to_models
from pipeline.streams.result import FrameResult


@dataclass(slots=True, kw_only=True)
class Delivery:
    """Something on its way to all sinks. Encoded by the first sink that asks, once for all.

    Attributes:
        deployment: Name of this installation.
        result: A frame's result, or
        status: a stream's state, or
        dead_letter: input that was refused, for the dead-letter topic, or
        frame: a frame as it was taken, for sinks of frames, or
        closed_stream: a stream that is gone, so that its files can be closed.
        can_shed: A slow sink may leave it out.
    """

    deployment: str
    result: FrameResult | None = None
    status: StatusRecord | None = None
    dead_letter: Record | None = None
    frame: Frame | None = None
    closed_stream: str | None = None
    can_shed: bool = False
    _records: tuple[Record, ...] | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def records(self) -> tuple[Record, ...]:
        """Return the records, in the order in which they are to be written."""
        with self._lock:
            if self._records is None:
                models = [] if self.result is None else to_models(self.result)
                if self.status is not None:
                    models.append(self.status)
                encoded = [encode_record(model, deployment=self.deployment) for model in models]
                self._records = (*encoded, *([self.dead_letter] if self.dead_letter else []))
            return self._records
