"""What befalls cameras: real RTSP servers that go away, fall silent or change."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.chaos.fault import Fault, Trial
from tests.chaos.film import FPS, NUM_PICTURES, write_film
from tests.chaos.outcome import Limits, Outcome
from tests.chaos.proxies import BadAir, SlowProxy
from tests.chaos.records import (
    Tail,
    Told,
    count_holes,
    count_identities,
    count_unseen,
    find_event_faults,
    find_repeats,
)
from tests.chaos.worker import Worker, worker
from tests.e2e.cameras import Sections
from tests.pipeline.engine.runs import wait_until
from tests.servers import Camera, TcpProxy, why_no_gstreamer

GATE, YARD = "gate", "yard"
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
_BACK_OFF_S = 2.0
_SOON = {"initial_s": 0.5, "maximum_s": _BACK_OFF_S}
_READ_TIMEOUT_S = 3.0
# From the end of a fault: the longest wait between two tries, and time to connect.
BACK_OFF = Limits(recovery_s=_BACK_OFF_S + 2.0)
_WAIT_S = 120.0
_NUM_AFTER = 3 * FPS
_FRESH_S = 0.5
# Bytes a second; the film has 2,000, and as much again for RTP's heads.
_NARROW = 2_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Two cameras and what watches them.

    Attributes:
        gate: The camera that fails.
        way: The proxy before it.
        worker: The process.
        tail: What it writes.
        folder: For films.
    """

    gate: Camera
    way: TcpProxy
    worker: Worker
    tail: Tail
    folder: Path

    def frames(self, stream_id: str) -> list[Told]:
        return self.tail.of("masklets", stream_id)

    def restart(self, **options: object) -> None:
        """Let the failing camera come up as another one."""
        self.gate.kill()
        self.gate.start(**options)


def age_s(frame: Told) -> float:
    """Return how old a frame was when its result was known."""
    captured, known = (frame.body[name] for name in ("capture_time", "result_time"))
    return (datetime.fromisoformat(known) - datetime.fromisoformat(captured)).total_seconds()


def p99_ms(frames: list[Told]) -> float:
    return 1000 * float(np.quantile([age_s(frame) for frame in frames], 0.99))


def load_per_core() -> float:
    """Return how many programs wait for each core, over the last minute."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


@contextmanager
def two_cameras(
    trial: Trial,
    *,
    way: type[TcpProxy] = TcpProxy,
    retry: dict[str, float] | None = None,
    **environ: str,
) -> Iterator[Site]:
    """Watch two cameras, the first of which is behind a proxy."""
    film = write_film(trial.folder / "film.h264")
    with ExitStack() as ends:
        gate, yard = Camera(film, fps=FPS), Camera(film, fps=FPS)
        for camera in (gate, yard):
            camera.start()
            ends.callback(camera.kill)
        proxy = way(gate.port)
        ends.callback(proxy.cut)
        urls = {GATE: f"rtsp://{proxy.address}/camera", YARD: yard.url}
        config = config_of(trial.folder / "records", urls)
        for stream in config["streams"]:
            stream["retry"] = _SOON if retry is None else retry
            stream["source"]["read_timeout_s"] = _READ_TIMEOUT_S
            if way is BadAir and stream["id"] == GATE:
                stream["source"]["transport"] = "udp"
        # The model forgets a thing after 2 s, not at the first picture that is spoilt.
        environ |= {"MASKSTREAM_TEST_MEMORY_S": "2", "MASKSTREAM_TEST_MODEL_S": "0.005"}
        watching = ends.enter_context(worker(trial.folder, config, **environ))
        watching.start()
        site = Site(
            gate=gate,
            way=proxy,
            worker=watching,
            tail=Tail(trial.folder / "records"),
            folder=trial.folder,
        )
        yield site


def config_of(records: Path, urls: Mapping[str, str | None]) -> dict[str, Any]:
    """Return what watches cameras for the two things, and writes files.

    Args:
        records: Folder of the files.
        urls: Of the cameras; ``None``: it films in the engine's process.
    """
    return Sections(
        stream_ids=tuple(urls),
        urls={name: url for name, url in urls.items() if url is not None},
        concepts=("red", "blue"),
        jsonl={"files": str(records)},
        sections={"status": {"every_s": 1.0}},
    ).build()


Act = Callable[[Site], None]


def try_camera(
    fail: Act,
    mend: Act,
    trial: Trial,
    *,
    way: type[TcpProxy] = TcpProxy,
    retry: dict[str, float] | None = None,
    has_clock: bool = True,
    has_bug: bool = False,
    judged: tuple[str, ...] = (GATE, YARD),
    **environ: str,
) -> Outcome:
    """Let a camera fail and come back; returns what that cost it and the one beside it.

    Args:
        fail: Brings the fault about.
        mend: Ends it.
        trial: How long each takes.
        way: To the camera that fails.
        retry: When it is tried again; the same with short waits by default.
        has_clock: Ages of frames can be told by the cameras' and the worker's clocks.
        has_bug: A traceback in the worker's log is no fault.
        judged: Cameras whose standing thing must keep its track and its event.
        environ: Of the worker.
    """
    pause = threading.Event()
    with two_cameras(trial, way=way, retry=retry, **environ) as site:
        for name in (GATE, YARD):
            wait_until(lambda: len(site.frames(name)) > FPS, seconds=_WAIT_S)  # noqa: B023
        num_first = len(site.frames(YARD))
        pause.wait(trial.calm_s)
        num_before = len(site.frames(YARD))
        num_calm = len(site.frames(GATE))
        fail(site)
        pause.wait(trial.away_s)
        mend(site)
        began_s, num_gate = time.monotonic(), len(site.frames(GATE))

        def is_back() -> bool:
            new = site.frames(GATE)[num_gate:]
            known = (frame for frame in new if frame.body["objects"])
            return any(not has_clock or age_s(frame) < _FRESH_S for frame in known)

        wait_until(is_back, seconds=_WAIT_S)
        recovery_s, num_during = time.monotonic() - began_s, len(site.frames(YARD))
        wait_until(lambda: len(site.frames(GATE)) > num_gate + _NUM_AFTER, seconds=_WAIT_S)
        others = site.worker.stop(has_bug=has_bug)
        gate, yard, records = site.frames(GATE), site.frames(YARD), site.tail.records
        losses = {**site.worker.frames_lost, "away": count_unseen(gate, fps=FPS)}
        calm, during = yard[num_first:num_before], yard[num_before:num_during]
        if not any(losses.values()) and p99_ms(gate[num_calm:]) < 2 * p99_ms(gate[:num_calm]):
            others.append("the camera was none the worse for it: nothing was tried")
        return Outcome(
            recoveries_s=(recovery_s,),
            frames_lost=losses,
            records_lost=max(count_holes(records) - site.worker.frames_lost["shed"], 0),
            repeats=find_repeats(records),
            identities=count_identities(records, standing=judged),
            event_faults=tuple(find_event_faults(records, standing=judged)),
            latencies_ms=(p99_ms(calm), p99_ms(during)) if has_clock else None,
            load=load_per_core(),
            others=tuple(others),
        )


def _flip(site: Site) -> None:
    site.restart(video=write_film(site.folder / "wide.h264", width=192, height=96))


def _flash(flashes: range) -> Act:
    return lambda site: site.restart(
        video=write_film(site.folder / "flashes.h264", flashes=flashes)
    )


def _set(**values: float) -> Act:
    def act(site: Site) -> None:
        for name, value in values.items():
            setattr(site.way, name, value)

    return act


def _reboot(site: Site) -> None:
    """Come up an hour late, by all that the server can ask for the time."""
    late = {"FAKETIME": "-1h", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "LD_PRELOAD": str(FAKETIME)}
    site.gate.start(**late)


def why_no_faketime() -> str | None:
    """Return what is missing for a process with another clock."""
    return None if FAKETIME.exists() else "Debian's package libfaketime is not installed"


def why_no_reboot() -> str | None:
    """Return what is missing for a camera with another clock."""
    return why_no_gstreamer() or why_no_faketime()


def _kill(site: Site) -> None:
    site.gate.kill()


def _start(site: Site) -> None:
    site.gate.start()


_FLEET = 64
_FLEET_FPS = 2
# Four of one host connect at once, so as not to run down a recorder that all are behind, and one
# of them takes up to 2 s on cores that 64 decoders share.
_FLEET_LIMIT = Limits(recovery_s=_BACK_OFF_S + 2.0 + _FLEET / 4 * 2.0)


def try_fleet(trial: Trial) -> Outcome:
    """Let many cameras behind one host return at once; returns what that cost."""
    film = write_film(trial.folder / "film.h264", width=64)
    names = tuple(f"cam-{number:02}" for number in range(_FLEET))
    with ExitStack() as ends:
        recorder = Camera(film, fps=_FLEET_FPS)
        recorder.start()
        ends.callback(recorder.kill)
        config = config_of(trial.folder / "records", dict.fromkeys(names, recorder.url))
        for stream in config["streams"]:
            stream["retry"] = _SOON
            stream["source"]["read_timeout_s"] = _READ_TIMEOUT_S
        watching = ends.enter_context(worker(trial.folder, config))
        watching.start()
        tail = Tail(trial.folder / "records")

        def seen_since(num_records: int) -> int:
            tail.read()
            new = tail.records[num_records:]
            return len({one.stream_id for one in new if one.kind == "masklets"})

        wait_until(lambda: seen_since(0) == _FLEET, seconds=_WAIT_S)
        recorder.kill()
        threading.Event().wait(trial.away_s)
        tail.read()
        num_before = len(tail.records)
        recorder.start()
        began_s = time.monotonic()
        wait_until(lambda: seen_since(num_before) == _FLEET, seconds=_WAIT_S)
        recovery_s = time.monotonic() - began_s
        threading.Event().wait(5 / _FLEET_FPS)
        others = watching.stop()
        tail.read()
        num_away = count_unseen(tail.records, fps=_FLEET_FPS)
        if num_away < _FLEET:
            others.append("the cameras were none the worse for it: nothing was tried")
        return Outcome(
            recoveries_s=(recovery_s,),
            frames_lost={**watching.frames_lost, "away": num_away},
            records_lost=max(count_holes(tail.records) - watching.frames_lost["shed"], 0),
            repeats=find_repeats(tail.records),
            identities=count_identities(tail.records, standing=names),
            event_faults=tuple(find_event_faults(tail.records, standing=names)),
            others=tuple(others),
        )


CAMERA_FAULTS = (
    Fault(
        name="camera killed",
        what="the server of one of two cameras is killed for 10 s",
        run=partial(try_camera, _kill, _start),
        limits=BACK_OFF,
        missing=why_no_gstreamer,
    ),
    Fault(
        name="camera away for 50 s",
        what="the same for 50 s, with the default waits, which are short for a minute",
        run=lambda trial: try_camera(
            _kill, _start, replace(trial, away_s=5 * trial.away_s), retry={}
        ),
        limits=Limits(recovery_s=6.0 + 2.0),
        missing=why_no_gstreamer,
    ),
    Fault(
        name="camera stalled",
        what="the server stops (SIGSTOP) for 10 s and goes on",
        run=partial(try_camera, lambda site: site.gate.hold(), lambda site: site.gate.release()),
        limits=BACK_OFF,
        missing=why_no_gstreamer,
    ),
    Fault(
        name="camera slow",
        what="its way lets half of what it sends pass for 10 s",
        run=partial(
            try_camera,
            _set(bytes_per_s=_NARROW),
            _set(bytes_per_s=float("inf")),
            way=SlowProxy,
        ),
        limits=BACK_OFF,
        missing=why_no_gstreamer,
    ),
    Fault(
        name="camera refused",
        what="its connection is cut and new ones are refused for 10 s",
        run=partial(try_camera, lambda site: site.way.cut(), lambda site: site.way.restore()),
        limits=BACK_OFF,
        missing=why_no_gstreamer,
    ),
    Fault(
        name="camera rebooted with another clock",
        what="it is killed, and comes back after 10 s with a clock an hour late",
        run=partial(try_camera, _kill, _reboot, has_clock=False),
        limits=BACK_OFF,
        missing=why_no_reboot,
    ),
    Fault(
        name="size flip",
        what="it comes back with pictures of 192 x 96 instead of 128 x 64, and back again",
        run=partial(try_camera, _flip, Site.restart),
        limits=BACK_OFF,
        missing=why_no_gstreamer,
    ),
    Fault(
        name="garbage packets",
        what="UDP: for 10 s a fifth of its packets is random bytes, half of these behind a head",
        run=partial(try_camera, _set(garbage=0.2), _set(garbage=0.0), way=BadAir),
        limits=BACK_OFF,
        missing=why_no_gstreamer,
    ),
    Fault(
        name="5 % loss",
        what="UDP: for 10 s each packet is lost with a probability of 5 %",
        run=partial(try_camera, _set(loss=0.05), _set(loss=0.0), way=BadAir),
        limits=BACK_OFF,
        missing=why_no_gstreamer,
    ),
    Fault(
        name="200 ms jitter",
        what="UDP: for 10 s each packet is late by 0 to 200 ms and may be overtaken",
        run=partial(try_camera, _set(jitter_s=0.2), _set(jitter_s=0.0), way=BadAir),
        limits=BACK_OFF,
        missing=why_no_gstreamer,
    ),
    Fault(
        name="64 cameras return at once",
        what="64 small cameras behind one host are away for 10 s; the last one counts",
        run=try_fleet,
        limits=_FLEET_LIMIT,
        missing=why_no_gstreamer,
    ),
    Fault(
        name="model error",
        what="the model raises on two frames in a row of one of two cameras, each 8 s",
        run=partial(try_camera, _flash(range(80, 82)), Site.restart, has_bug=True),
        limits=Limits(recovery_s=_BACK_OFF_S + 10.0),
        missing=why_no_gstreamer,
    ),
    Fault(
        name="model error of a neighbour",
        what="the model raises on every frame of a camera beside for 10 s; that one begins anew",
        run=partial(
            try_camera, _flash(range(NUM_PICTURES)), Site.restart, has_bug=True, judged=(YARD,)
        ),
        limits=Limits(recovery_s=_BACK_OFF_S + 10.0),
        missing=why_no_gstreamer,
    ),
)
