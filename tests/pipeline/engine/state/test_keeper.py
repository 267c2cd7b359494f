"""When snapshots are taken that are not due yet by the time."""

import threading

import pytest

from connectors.memory import MemorySource, Pause
from pipeline.config.run import RunConfig
from tests.pipeline.engine.runs import CAMERA, in_turn, make_app, make_config
from tests.pipeline.engine.sinks import value_of
from tests.pipeline.fakes import BlobTracker, make_frame, make_walk

NEXT_SESSION = [make_frame(seq, size=(20, 40)) for seq in range(5, 10)]
# A track begins with each second frame.
MANY_TRACKS = [make_frame(seq, blobs={"red": (8, 8)} if seq % 2 else {}) for seq in range(5, 85)]


@pytest.mark.parametrize("frames", [NEXT_SESSION, MANY_TRACKS], ids=["session", "numbers"])
def test_session_that_begins_and_numbers_that_run_short_are_kept_before_time(frames, tmp_path):
    config, goes_on = make_config(source=CAMERA, overflow="wait"), threading.Event()
    state = {"folder": tmp_path, "snapshot_every_s": 3600.0}
    config = RunConfig.model_validate({**config.model_dump(), "state": state})

    class Halting(MemorySource):
        def read(self):
            if self._next == 5:
                goes_on.wait(30)
            return super().read()

    source = Halting([*make_walk(5), *frames, Pause(600)], stream_id="cam")
    app = make_app(config, build=lambda *_: source, tracker=BlobTracker(memory_s=0.0))

    def num_written():
        return value_of(app.metrics, "snapshots_total", stream="cam")

    in_turn(
        app.engine,
        (lambda: num_written() == 1, goes_on.set),
        (lambda: num_written() == 2, lambda: None),
    )
    assert num_written() == 3  # the last one at the end
