"""What a camera is told to go on from."""

from connectors.memory import MemorySource, Pause
from tests.pipeline.engine.runs import CAMERA, in_turn, make_app, make_config
from tests.pipeline.fakes import make_walk

AHEAD = 1 << 40


class FutureSource(MemorySource):
    """A camera whose epochs have run ahead of the clock, or whose clock was set back."""

    def __init__(self, *args, epoch, **options):
        super().__init__(*args, **options)
        self.epoch = epoch

    def position(self):
        return {**super().position(), "epoch": self.epoch}


def test_epochs_behind_a_snapshot_are_not_begun_again_by_a_clock_that_was_set_back(tmp_path):
    config, told = make_config("cam", source=CAMERA), []
    state = config.state.model_copy(update={"folder": tmp_path})
    config = config.model_copy(update={"state": state})

    def build(stream, position):
        told.append((position or {}).get("epoch", AHEAD))
        steps = [*make_walk(3), Pause(600)]
        return FutureSource(steps, stream_id=stream.id, position=position, epoch=told[-1])

    for _ in range(3):
        app = make_app(config, build=build)

        def is_kept(app=app):
            labels = {"stream": "cam"}
            return app.metrics.registry.get_sample_value("maskstream_snapshots_total", labels)

        in_turn(app.engine, (is_kept, lambda: None))
    first, second, third = told
    assert first == AHEAD
    assert second > first + 100
    assert third > second + 100
