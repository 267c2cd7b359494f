"""A batch that fails costs only the frames that fail alone."""

from dataclasses import dataclass

import pytest

from models.protocols import DeviceLostError, FrameInput, StreamMemory
from pipeline.engine.worker import Worker
from pipeline.observe.metrics import Metrics
from tests.pipeline.fakes import BlobTracker, make_frame


def white(frame):
    frame.pixels[0, 0] = 255
    return frame


def make_worker(*stream_ids, tracker=None, metrics=None):
    worker = Worker(tracker or BlobTracker(), metrics or Metrics(tuple))
    for stream_id in stream_ids:
        assert worker.open(stream_id, ["red"]) is None
    return worker


def inputs(**frames):
    return [
        FrameInput(stream_id=stream_id, pixels=frame.pixels, time_s=0.0)
        for stream_id, frame in frames.items()
    ]


def test_outcomes_come_in_order():
    worker = make_worker("a", "b")
    outcomes = worker.step(inputs(b=make_frame(), a=make_frame()))
    assert [outcome.prediction.stream_id for outcome in outcomes] == ["b", "a"]
    assert worker.step([]) == []


@pytest.mark.parametrize("guilty", range(5))
def test_only_the_guilty_frame_fails_wherever_it_stands(guilty):
    tracker = BlobTracker()
    worker = make_worker(*"abcde", tracker=tracker)
    frames = {name: make_frame() for name in "abcde"}
    white(frames["abcde"[guilty]])
    outcomes = worker.step(inputs(**frames))
    failed = [number for number, one in enumerate(outcomes) if one.prediction is None]
    assert failed == [guilty]
    assert outcomes[guilty].reason == "RuntimeError: white corner"
    # By halves: far fewer steps than one for each frame and each half would be.
    assert len(tracker.batches) <= 7


def test_two_guilty_frames_are_both_found():
    metrics = Metrics(tuple)
    worker = make_worker(*"abcd", metrics=metrics)
    frames = {"a": white(make_frame()), "b": make_frame(), "c": make_frame(), "d": make_frame()}
    white(frames["d"])
    outcomes = worker.step(inputs(**frames))
    assert [one.prediction is None for one in outcomes] == [True, False, False, True]
    for stream_id in "ad":
        assert f'model_errors_total{{stream="{stream_id}"}} 1.0' in metrics.exposition().decode()


class Once(BlobTracker):
    def step(self, some):
        if not self.batches:
            self.batches.append(())
            raise RuntimeError("a passing fault")
        return super().step(some)


def test_a_fault_that_passes_costs_nothing():
    worker = make_worker("a", "b", tracker=Once())
    outcomes = worker.step(inputs(a=make_frame(), b=make_frame()))
    assert all(outcome.prediction for outcome in outcomes)


class Mute(BlobTracker):
    def step(self, some):
        return super().step(some)[:-1]


def test_an_answer_that_is_missing_is_a_failure():
    outcomes = make_worker("a", tracker=Mute()).step(inputs(a=make_frame()))
    assert "asked for streams ['a'], got []" in outcomes[0].reason


class Lost(BlobTracker):
    def step(self, some):
        raise DeviceLostError("the device is gone")

    def close_stream(self, stream_id):
        raise AssertionError("nothing can be closed on a device that is gone")


def test_a_lost_device_is_nobodys_fault_and_is_passed_on():
    worker = make_worker("a", "b", tracker=Lost())
    with pytest.raises(DeviceLostError):
        worker.step(inputs(a=make_frame(), b=make_frame()))
    for stream_id in "ab":
        worker.close(stream_id)


def test_a_stream_that_the_model_refuses_is_told_and_not_open():
    metrics = Metrics(tuple)
    worker = make_worker(metrics=metrics)
    assert "mauve" in worker.open("a", ["mauve"])
    assert 'model_errors_total{stream="a"} 1.0' in metrics.exposition().decode()
    worker.close("a")
    assert worker.open("a", ["red"]) is None


def test_closing_again_does_nothing(caplog):
    worker = make_worker("a")
    worker.close("a")
    worker.close("a")
    assert not caplog.records


def test_opening_again_begins_anew():
    tracker = BlobTracker()
    worker = make_worker("a", tracker=tracker)
    worker.step(inputs(a=make_frame(blobs={"red": (2, 2)})))
    assert tracker.streams["a"]
    assert worker.open("a", ["red"]) is None
    assert not tracker.streams["a"]
    worker.close("a")
    assert not tracker.streams


def test_what_could_not_be_restored_of_one_object_is_said(caplog):
    @dataclass
    class Forgetful(BlobTracker):
        def restore_stream(self, stream_id, concepts, memory):
            super().restore_stream(stream_id, concepts, memory)
            return ("masklet 3: odd",)

    worker = make_worker(tracker=Forgetful())
    memory = StreamMemory(numbers='{"next_id": 4, "blobs": {}}', arrays={})
    assert worker.restore("a", ["red"], memory) is None
    assert [(record.stream, record.getMessage()) for record in caplog.records] == [
        ("a", "masklet 3: odd; it is known by its place alone")
    ]


def test_concepts_of_an_open_stream_come_change_and_go():
    worker = make_worker("a")
    frame = make_frame(blobs={"red": (2, 2), "blue": (20, 2)})
    assert worker.add_concept("a", "blue", concept_id="b1") is None
    assert worker.rename_concept("a", "red", "rose") is None
    (outcome,) = worker.step(inputs(a=frame))
    seen = {one.concept_id: one.concept for one in outcome.prediction.masklets}
    assert seen == {"red": "rose", "b1": "blue"}
    assert worker.remove_concept("a", "red") is None
    (outcome,) = worker.step(inputs(a=frame))
    assert [one.concept_id for one in outcome.prediction.masklets] == ["b1"]


def test_a_refused_change_is_told_and_is_no_fault_of_the_model():
    metrics = Metrics(tuple)
    worker = make_worker("a", metrics=metrics)
    assert worker.add_concept("a", "red", concept_id="r2") == "phrase twice in ['red', 'red']"
    assert worker.rename_concept("a", "none", "x") == "no concept 'none'"
    assert worker.remove_concept("a", "none") == "no concept 'none'"
    assert 'model_errors_total{stream="a"}' not in metrics.exposition().decode()


def test_nothing_is_changed_of_a_stream_that_is_not_open():
    worker = make_worker("a")
    worker.close("a")
    assert worker.add_concept("a", "mauve", concept_id="m") is None
    assert worker.remove_concept("a", "none") is None


class Fixed:
    """A tracker that looks for what it was opened with."""

    def open_stream(self, stream_id, concepts):
        pass

    def close_stream(self, stream_id):
        pass

    def step(self, some):
        return []


def test_a_model_that_cannot_change_what_it_looks_for_says_so():
    worker = make_worker("a", tracker=Fixed())
    assert worker.add_concept("a", "red", concept_id="r") == (
        "the model cannot change what it looks for on an open stream"
    )


class Failing(BlobTracker):
    error = RuntimeError("no memory")

    def remove_concept(self, stream_id, concept_id):
        raise self.error


def test_a_model_that_fails_at_a_change_is_counted():
    metrics = Metrics(tuple)
    worker = make_worker("a", tracker=Failing(), metrics=metrics)
    assert worker.remove_concept("a", "red") == "RuntimeError: no memory"
    assert 'model_errors_total{stream="a"} 1.0' in metrics.exposition().decode()


def test_a_device_that_is_lost_at_a_change_is_passed_on():
    class Gone(Failing):
        error = DeviceLostError("gone")

        def close_stream(self, stream_id):
            raise AssertionError("nothing can be closed on a device that is gone")

    worker = make_worker("a", tracker=Gone())
    with pytest.raises(DeviceLostError):
        worker.remove_concept("a", "red")
    worker.close("a")
