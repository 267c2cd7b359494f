"""What the API answers from in tests: two streams that have a frame, one that has none yet."""

import hashlib
from concurrent.futures import Future
from dataclasses import dataclass

from connectors.record import Record, Topic
from connectors.video.config import RtspSourceConfig
from pipeline.api.application import build_application
from pipeline.api.backend import Backend
from pipeline.api.guard import Guard
from pipeline.api.pictures import PictureDesk
from pipeline.clock import ManualClock
from pipeline.engine.ledger import Ledger
from pipeline.observe.health import Health, SinkState, StreamHealth
from pipeline.observe.live import LiveView
from pipeline.records.codec import encode_record
from pipeline.records.command import CommandResult, FirstFrame
from pipeline.records.schema import StatusRecord, StreamState
from pipeline.streams.result import Scene
from tests.pipeline.engine.runs import make_config
from tests.pipeline.fakes import START, make_frame, make_track

ROLES = ("viewer", "operator", "admin")
CAMERA = RtspSourceConfig.model_validate(
    {"url": "rtsp://anna:hunter2@camera.example/1?auth=hunter3&channel=2"}
)
STREAMS = ("cam", "yard/north", "new")


def bearer(role):
    return {"Authorization": f"Bearer {role}-token"}


def make_backend(**api):
    """A run with tokens ``viewer-token``, ``operator-token`` and ``admin-token``."""
    tokens = [
        {"name": role, "role": role, "sha256": hashlib.sha256(f"{role}-token".encode()).hexdigest()}
        for role in ROLES
    ]
    section = {"port": 0, "tokens": tokens, "requests_per_s": 10_000, **api}
    config = make_config(*STREAMS, source=CAMERA)
    config = type(config).model_validate({**dict(config), "api": section})
    live, ledger = LiveView(), Ledger()
    health = Health(ManualClock(), stall_s=60.0)
    for stream in config.streams:
        ledger.receive(stream.id)
        live.set_stream(stream.id, stream)
        health.set_stream(stream.id, StreamHealth(state=StreamState.RUNNING, since=START))
    for stream_id in STREAMS[:2]:
        live.show(make_scene(stream_id=stream_id))
    health.set_sink("kafka", SinkState.DOWN, error="rtsp://u:p@host is away")
    return Backend(file=config, live=live, health=health, ledger=ledger)


def make_scene(seq=7, *, stream_id="cam"):
    frame = make_frame(seq, blobs={"red": (4, 8)}, stream_id=stream_id)
    scene = Scene.bare(frame)
    return type(scene)(
        frame=frame,
        tracks=(make_track(),),
        presence={},
        zones=(),
        captions=("seen",),
        dropped_since_last=0,
    )


def status_of(stream_id="cam", *, state=StreamState.RUNNING):
    return encode_record(StatusRecord(stream_id=stream_id, state=state, since=START, time=START))


def event_of(number, stream_id="cam"):
    return Record(
        topic=Topic.EVENTS,
        key=stream_id,
        value=b'{"number":%d}' % number,
        headers=(("ce_id", b"id-%d" % number),),
        timestamp_ms=0,
    )


class Engine:
    """Takes commands and answers each with what it was told to, once it was."""

    def __init__(self, config, answer):
        self.config, self.changes, self.commands, self._answer = config, (), [], answer

    def execute(self, command):
        self.commands.append(command)
        future = Future()
        if self._answer is not None:
            future.set_result(self._answer(command))
        return future


def carried_out(command):
    frame = FirstFrame(stream_epoch=1, frame_seq=7)
    return CommandResult(command_id=command.command_id, ok=True, first_frame=frame, worker="w")


@dataclass
class Api:
    """An application in this process."""

    backend: Backend
    pictures: PictureDesk

    def __post_init__(self):
        self.inner = build_application(self.backend, self.pictures)
        self.application = Guard(self.inner, self.backend.file.api)


def make_api(*, answer=carried_out, **api):
    backend = make_backend(**api)
    backend.engine = Engine(backend.file, answer)
    return Api(backend, PictureDesk())
