"""Fixtures that several test folders share. Servers live on loopback and end by their handle."""

import faulthandler
import logging
import os
import threading
import uuid
import warnings

import pytest
from hypothesis import HealthCheck, settings

from tests.media import write_video
from tests.servers import gst_rtsp_server, kafka_broker, plain_rtsp_server, why_no_gstreamer

_not_run: set[str] = set()
_EXIT_S = 30.0  # an interpreter that still runs this long after the last test is held by a thread

# The same examples each time, so that a change is never blamed for what chance found elsewhere;
# make test-full looks for new ones.
# Nothing by the clock: on a busy machine drawing an input, or a test, takes ten times as long.
_NO_CLOCK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("steady", _NO_CLOCK, derandomize=True)
settings.register_profile("random", _NO_CLOCK)
settings.load_profile(os.environ.get("MASKSTREAM_HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture(scope="session")
def kafka_bootstrap():
    """Address of a broker: the one named by KAFKA_BOOTSTRAP, else one of our own."""
    if "KAFKA_BOOTSTRAP" in os.environ:
        yield os.environ["KAFKA_BOOTSTRAP"]
        return
    with kafka_broker() as (address, _):
        yield address


@pytest.fixture(autouse=True)
def _logs_as_before():
    """Each test leaves the program's logger as it was: a command sets it up for its process."""
    logger = logging.getLogger("maskstream")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def _state_of_the_session(tmp_path_factory):
    """Fixtures that live longer than a test have a state folder that pytest deletes some day."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def _state_of_its_own(tmp_path_factory, monkeypatch):
    """No test goes on with the streams of another, or waits for its lock."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture
def topic():
    """A topic name of this test's own."""
    return f"maskstream.test.{uuid.uuid4().hex}"


@pytest.fixture
def rtsp_server(tmp_path):
    """Base URL of an RTSP server over TCP that serves ``/camera.mp4`` in an endless loop."""
    write_video(tmp_path / "camera.mp4", num_frames=50)
    with plain_rtsp_server(tmp_path) as (url, _):
        yield f"{url}/camera.mp4?play_count=0"


@pytest.fixture(scope="session")
def not_run():
    """What this machine cannot run; named at the end of the run."""
    return _not_run


@pytest.fixture(scope="session")
def gstreamer(not_run):
    """Skips, loudly, where GStreamer's RTSP server cannot run; gives its context manager."""
    reason = why_no_gstreamer()
    if reason is not None:
        not_run.add(f"RTSP over UDP and with a password: {reason}")
        pytest.skip(reason)
    return gst_rtsp_server


@pytest.fixture(scope="session")
def h264_file(tmp_path_factory):
    """A raw H.264 file of numbered pictures, two seconds at 25 frames per second."""
    return write_video(tmp_path_factory.mktemp("media") / "camera.h264", num_frames=50)


def pytest_configure(config):
    # kafka-python reads its own schemas by functions that Python 3.11 deprecates, and leaves the
    # sockets of refused connections, which are bound to no address, to the garbage collector.
    for ignored in (
        "ignore:(read|open)_text is deprecated:DeprecationWarning",
        r"ignore:unclosed .*\('0\.0\.0\.0', \d+\)>:ResourceWarning",
    ):
        config.addinivalue_line("filterwarnings", ignored)
    # Its threads draw the waits between two tries while hypothesis draws in another.
    config.addinivalue_line("filterwarnings", "ignore:Do not use the `random` module inside")
    # Some are found only when the filters of the tests are gone.
    warnings.filterwarnings("ignore", r"unclosed .*\('0\.0\.0\.0', \d+\)>", ResourceWarning)


def pytest_terminal_summary(terminalreporter):
    for what in sorted(_not_run):
        terminalreporter.write_line(f"NOT RUN: {what}", red=True, bold=True)


def pytest_unconfigure(config):
    """End a process whose threads outlive its tests: a failed test may have left one waiting.

    A worker of pytest-xdist waits for the slowest of them, and is ended by the process that began
    it.
    """
    if hasattr(config, "workerinput"):
        return

    def end() -> None:
        faulthandler.dump_traceback()
        os._exit(1)

    timer = threading.Timer(_EXIT_S, end)
    timer.daemon = True
    timer.start()
