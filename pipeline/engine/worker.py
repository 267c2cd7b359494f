"""Owns the model: the only caller of ``ConceptTracker.step``. Used by the engine's thread alone."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from models.protocols import (
    Concept,
    ConceptTracker,
    DeviceLostError,
    EditableTracker,
    FrameInput,
    Prediction,
    ResumableTracker,
    SavedStream,
    StreamMemory,
)
from pipeline.observe.metrics import Metrics

_logger = logging.getLogger("maskstream.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the model said about one frame.

    Attributes:
        prediction: ``None`` if it failed on this frame; the stream's memory is then as before.
        reason: Why it failed.
    """

    prediction: Prediction | None
    reason: str = ""


class Worker:
    """Runs batches and keeps one stream's failure from the others.

    Args:
        tracker: The model.
        metrics: Where failures are counted.
    """

    def __init__(self, tracker: ConceptTracker, metrics: Metrics) -> None:
        self._tracker = tracker
        self._metrics = metrics
        self._open: set[str] = set()

    def open(self, stream_id: str, concepts: Sequence[str | Concept]) -> str | None:
        """Begin a stream, anew if it is open already. Returns why the model refuses it, if so.

        Raises:
            DeviceLostError: If the accelerator is gone.
        """
        return self._begin(stream_id, lambda tracker: tracker.open_stream(stream_id, concepts))

    def restore(
        self, stream_id: str, concepts: Sequence[str | Concept], memory: StreamMemory
    ) -> str | None:
        """Begin a stream that goes on. Returns why the model cannot, if so.

        Raises:
            DeviceLostError: If the accelerator is gone.
        """
        tracker = self._tracker
        if not isinstance(tracker, ResumableTracker):
            return "the model cannot go on with streams"
        problems: list[str] = []
        failure = self._begin(
            stream_id,
            lambda _: problems.extend(tracker.restore_stream(stream_id, concepts, memory)),
        )
        for problem in problems:
            _logger.warning("%s; it is known by its place alone", problem, extra=_about(stream_id))
        return failure

    def save(self, stream_id: str) -> SavedStream | None:
        """Return what the model knows of a stream; ``None`` if it cannot tell."""
        tracker = self._tracker
        if stream_id not in self._open or not isinstance(tracker, ResumableTracker):
            return None
        return tracker.save_stream(stream_id)

    def add_concept(self, stream_id: str, concept: str, *, concept_id: str) -> str | None:
        """Look for one phrase more on an open stream. Returns why the model refuses it, if so.

        Nothing happens if the stream is not open: it is to be opened with the phrase.

        Raises:
            DeviceLostError: If the accelerator is gone.
        """
        return self._edit(
            stream_id, lambda it: it.add_concept(stream_id, concept, concept_id=concept_id)
        )

    def rename_concept(self, stream_id: str, concept_id: str, name: str) -> str | None:
        """Call a concept of an open stream otherwise; as :meth:`add_concept`."""
        return self._edit(stream_id, lambda it: it.rename_concept(stream_id, concept_id, name))

    def remove_concept(self, stream_id: str, concept_id: str) -> str | None:
        """Look for a concept of an open stream no more; as :meth:`add_concept`."""
        return self._edit(stream_id, lambda it: it.remove_concept(stream_id, concept_id))

    def _edit(self, stream_id: str, edit: Callable[[EditableTracker], None]) -> str | None:
        tracker = self._tracker
        if stream_id not in self._open:
            return None
        if not isinstance(tracker, EditableTracker):
            return "the model cannot change what it looks for on an open stream"
        try:
            edit(tracker)
        except DeviceLostError:
            self._open.clear()  # nothing can be closed there any more
            raise
        except ValueError as error:
            return str(error)
        except Exception as error:
            extra = _about(stream_id)
            _logger.warning("the model could not change the stream", exc_info=True, extra=extra)
            self._metrics.model_errors.labels(stream_id).inc()
            return f"{type(error).__name__}: {error}"
        return None

    def _begin(self, stream_id: str, begin: Callable[[ConceptTracker], None]) -> str | None:
        self.close(stream_id)
        try:
            begin(self._tracker)
        except DeviceLostError:
            self._open.clear()  # nothing can be closed there any more
            raise
        except Exception as error:
            _logger.warning("the model refuses the stream", exc_info=True, extra=_about(stream_id))
            self._metrics.model_errors.labels(stream_id).inc()
            return f"{type(error).__name__}: {error}"
        self._open.add(stream_id)
        return None

    def close(self, stream_id: str) -> None:
        """Forget a stream; nothing happens if it is not open."""
        if stream_id not in self._open:
            return
        self._open.discard(stream_id)
        try:
            self._tracker.close_stream(stream_id)
        except Exception:
            _logger.exception("the model could not close the stream", extra=_about(stream_id))

    def step(self, inputs: Sequence[FrameInput]) -> list[Outcome]:
        """Return one outcome per input, in order.

        A batch that fails has changed no stream, so it is run again by halves until only the
        frames that fail alone are left.

        Raises:
            DeviceLostError: If the accelerator is gone.
        """
        if not inputs:
            return []
        try:
            predictions = self._tracker.step(inputs)
            _check_answers(inputs, predictions)
        except DeviceLostError:
            self._open.clear()  # nothing can be closed there any more
            raise
        except Exception as error:
            if len(inputs) > 1:
                return self._step_halves(inputs)
            extra = _about(inputs[0].stream_id)
            _logger.warning("the model failed on %s", _shape(inputs[0]), exc_info=True, extra=extra)
            self._metrics.model_errors.labels(inputs[0].stream_id).inc()
            return [Outcome(prediction=None, reason=f"{type(error).__name__}: {error}")]
        return [Outcome(prediction=prediction) for prediction in predictions]

    def _step_halves(self, inputs: Sequence[FrameInput]) -> list[Outcome]:
        middle = len(inputs) // 2
        return [*self.step(inputs[:middle]), *self.step(inputs[middle:])]


def _about(stream_id: str) -> dict[str, str]:
    return {"stream": stream_id}


def _shape(item: FrameInput) -> str:
    return f"a picture of {item.pixels.shape} at {item.time_s:.3f} s"


def _check_answers(inputs: Sequence[FrameInput], predictions: Sequence[Prediction]) -> None:
    asked = [item.stream_id for item in inputs]
    answered = [prediction.stream_id for prediction in predictions]
    if asked != answered:
        raise RuntimeError(f"asked for streams {asked!r}, got {answered!r}")
