"""The port of the API over real sockets; it is not there unless it is asked for."""

import json
import subprocess
import sys
import threading
import urllib.request
from contextlib import ExitStack, closing, contextmanager

import pytest

from pipeline.api.running import open_app, serve_api
from pipeline.api.server import ApiServer
from pipeline.app import build_observations
from pipeline.config.loading import parse_config
from pipeline.errors import ConfigError
from tests.pipeline.api.backends import bearer, event_of, make_backend
from tests.pipeline.engine.runs import make_config, wait_until

PATIENCE_S = 30.0


@contextmanager
def serving(**fields):
    backend = make_backend()
    server = ApiServer(backend, **fields)
    server.start()
    try:
        yield server, backend
    finally:
        server.stop()


def ask(url, role="viewer"):
    request = urllib.request.Request(url, headers=bearer(role))  # noqa: S310 - our own
    return urllib.request.urlopen(request, timeout=PATIENCE_S)  # noqa: S310 - our own


def test_it_answers_over_a_socket():
    with serving() as (server, _), ask(f"{server.url}/v1/streams") as answer:
        assert answer.status == 200
        assert answer.headers["cache-control"] == "no-store"
        assert len(json.load(answer)["streams"]) == 3


def test_events_are_followed_for_longer_than_a_request_may_take():
    with serving(timeout_s=0.2) as (server, backend), ExitStack() as stack:
        url = f"{server.url}/v1/events?kind=event&stream_id=cam"
        answer = stack.enter_context(closing(ask(url)))
        assert answer.readline() == b"retry: 2000\n"
        for number in range(4):
            backend.live.add_records([event_of(number, "yard/north"), event_of(number)])
            while not (line := answer.readline()).startswith(b"data: "):
                pass
            assert json.loads(line.removeprefix(b"data: "))["number"] == number
            threading.Event().wait(0.1)  # four of these are twice the time for a request


def test_a_stop_waits_for_no_viewer():
    num_threads = threading.active_count()
    with serving() as (server, _):
        viewers = [ask(f"{server.url}/v1/events") for _ in range(3)]
        ask(f"{server.url}/v1/frames/cam?masks=true").close()
    for viewer in viewers:
        viewer.close()
    wait_until(lambda: threading.active_count() == num_threads)


def test_a_port_in_use_is_named_with_its_field():
    with serving() as (server, _):
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(
            ConfigError, match=rf"^api\.port: cannot listen on 127\.0\.0\.1:{port}: "
        ):
            ApiServer(make_backend(port=port))


def test_nothing_listens_where_nobody_may_use_it(caplog):
    config = make_config().model_copy(update={"api": make_backend(tokens=[]).file.api})
    seen = build_observations(config)
    with serve_api(config, seen) as server:
        assert server is None
    assert seen.live is None
    assert "api.port: nothing listens" in caplog.text


def test_a_run_without_the_port_pays_nothing_for_it():
    code = (
        "import sys\n"
        "from pipeline.api.running import build_observations, serve_api\n"
        "from pipeline.config.loading import parse_config\n"
        "config = parse_config('streams: [{id: a, source: {type: world}, concepts: [deer]}]')\n"
        "with serve_api(config, build_observations(config)):\n"
        "    print([m for m in ('fastapi', 'uvicorn', 'starlette') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_run_with_the_port_takes_commands(caplog):
    caplog.set_level("INFO", logger="maskstream.api")
    digest = make_backend().file.api.tokens[2].sha256.get_secret_value()
    config = parse_config(
        "streams: [{id: a, source: {type: world, width: 96, height: 96, fps: 5, duration_s: 600},"
        " concepts: [deer]}]\n"
        f"api: {{port: 0, tokens: [{{name: anna, role: admin, sha256: {digest!r}}}]}}"
    )
    body = {"command": "pause_stream", "stream_id": "a"}
    with open_app(config) as app:
        engine = threading.Thread(target=app.engine.run)
        engine.start()
        [url] = [one.args[0] for one in caplog.records if "the API is at" in one.msg]
        request = urllib.request.Request(  # noqa: S310 - our own
            f"{url}/v1/commands",
            json.dumps(body).encode(),
            headers={**bearer("admin"), "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
            assert json.load(answer)["ok"]
        app.engine.stop()
        engine.join(PATIENCE_S)
    assert not engine.is_alive()
