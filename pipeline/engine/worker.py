"""Owns the model: the only caller of ``ConceptTracker.step``. Used by one thread."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from models.protocols import ConceptTracker, FrameInput, Prediction
from pipeline.observe.metrics import Metrics

_logger = logging.getLogger("maskstream.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the model said about one frame.

    Attributes:
        prediction: Its word, ``None`` if it failed on this frame.
        reason: Why it failed.
        was_reset: The stream's memory in the model was lost before this prediction.
    """

    prediction: Prediction | None
    reason: str = ""
    was_reset: bool = False


class Worker:
    """Runs batches and keeps one stream's failure from the others.

    Args:
        tracker: The model.
        metrics: Where failures are counted.
    """

    def __init__(self, tracker: ConceptTracker, metrics: Metrics) -> None:
        self._tracker = tracker
        self._metrics = metrics
        self._concepts: dict[str, tuple[str, ...]] = {}

    def open(self, stream_id: str, concepts: Sequence[str]) -> str | None:
        """Begin a stream, anew if it is open already. Returns why the model refuses it, if so."""
        self.close(stream_id)
        try:
            self._tracker.open_stream(stream_id, concepts)
        except Exception as error:
            _logger.exception("model refuses stream %s with concepts %s", stream_id, concepts)
            self._metrics.model_errors.labels(stream_id).inc()
            return f"{type(error).__name__}: {error}"
        self._concepts[stream_id] = tuple(concepts)
        return None

    def close(self, stream_id: str) -> None:
        """Forget a stream; nothing happens if it is not open."""
        if self._concepts.pop(stream_id, None) is not None:
            self._tracker.close_stream(stream_id)

    def close_all(self) -> None:
        """Forget every stream."""
        for stream_id in tuple(self._concepts):
            self.close(stream_id)

    def step(self, inputs: Sequence[FrameInput]) -> list[Outcome]:
        """Return one outcome per input, in order.

        A batch that fails is run again frame by frame on fresh sessions, because nobody knows how
        far the failed one got; only the frames that fail alone are lost.
        """
        if not inputs:
            return []
        outcomes = self._try(inputs)
        if isinstance(outcomes, list):
            return outcomes
        if len(inputs) == 1:
            self._reopen(inputs[0].stream_id)
            return [self._failed(inputs[0], outcomes)]
        return [self._step_alone(item) for item in inputs]

    def _step_alone(self, item: FrameInput) -> Outcome:
        self._reopen(item.stream_id)
        outcomes = self._try([item])
        if isinstance(outcomes, list):
            return Outcome(prediction=outcomes[0].prediction, was_reset=True)
        self._reopen(item.stream_id)
        return self._failed(item, outcomes)

    def _try(self, inputs: Sequence[FrameInput]) -> list[Outcome] | str:
        try:
            predictions = self._tracker.step(inputs)
            _check_answers(inputs, predictions)
        except Exception as error:
            shapes = {item.stream_id: (item.pixels.shape, item.time_s) for item in inputs}
            _logger.exception("model failed on a batch of %d: %s", len(inputs), shapes)
            return f"{type(error).__name__}: {error}"
        return [Outcome(prediction=prediction) for prediction in predictions]

    def _failed(self, item: FrameInput, reason: str) -> Outcome:
        self._metrics.model_errors.labels(item.stream_id).inc()
        return Outcome(prediction=None, reason=reason, was_reset=True)

    def _reopen(self, stream_id: str) -> None:
        concepts = self._concepts[stream_id]
        self._tracker.close_stream(stream_id)
        self._tracker.open_stream(stream_id, concepts)


def _check_answers(inputs: Sequence[FrameInput], predictions: Sequence[Prediction]) -> None:
    asked = [item.stream_id for item in inputs]
    answered = [prediction.stream_id for prediction in predictions]
    if asked != answered:
        raise RuntimeError(f"asked for streams {asked!r}, got {answered!r}")
