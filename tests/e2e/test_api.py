"""A running engine seen through its API: cameras in, pictures and events out over HTTP."""

import json
import threading
import urllib.request
from contextlib import closing, contextmanager
from hashlib import sha256
from urllib.error import HTTPError

import cv2
import numpy as np
import pytest

from pipeline.api.running import serve_api
from pipeline.app import build_observations
from pipeline.config.run import RunConfig
from tests.e2e.cameras import watch_cameras
from tests.pipeline.engine.runs import RULES, ZONES, wait_until

TOKEN = "see-but-touch-nothing"  # noqa: S105 - of a test
ADMIN_TOKEN = "touch-all"  # noqa: S105 - of a test
SOURCE = {"type": "rtsp", "url": "rtsp://camera.example/1"}
PATIENCE_S = 30.0


def make_config(folder):
    stream = {"source": SOURCE, "concepts": ["red", "blue"], "zones": ZONES, "rules": RULES}
    tokens = [
        {"name": name, "role": role, "sha256": sha256(token.encode()).hexdigest()}
        for name, role, token in (("anna", "viewer", TOKEN), ("bert", "admin", ADMIN_TOKEN))
    ]
    return RunConfig.model_validate(
        {
            "streams": [{"id": "gate", **stream}, {"id": "yard", **stream}],
            "state": {"folder": folder},
            "api": {"port": 0, "tokens": tokens},
            "status": {"every_s": 0.5},
        }
    )


def ask(url, body=None, *, token=TOKEN):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers=headers)  # noqa: S310 - our own
    return urllib.request.urlopen(request, timeout=PATIENCE_S)  # noqa: S310 - our own


def read_json(url):
    with closing(ask(url)) as answer:
        return json.load(answer)


def read_events(answer, num):
    """Return the next ``num`` records of a stream of events, as (name, record)."""
    found, name = [], None
    while len(found) < num:
        line = answer.readline().decode()
        if line.startswith("event: "):
            name = line[7:].strip()
        elif line.startswith("data: "):
            found.append((name, json.loads(line[6:])))
    return found


@contextmanager
def running(folder):
    """Cameras that are watched, and the address of their API."""
    config = make_config(folder)
    seen = build_observations(config)
    with serve_api(config, seen) as server:
        app = watch_cameras(config, observations=seen)
        server.backend.engine = app.engine
        engine = threading.Thread(target=app.engine.run)
        engine.start()
        try:
            wait_until(lambda: len(seen.live.streams) == 2)
            wait_until(lambda: all(one.scene for one in seen.live.streams.values()))
            yield server.url, seen.live
        finally:
            app.engine.stop()
            engine.join(PATIENCE_S)
        assert not engine.is_alive()
        assert seen.live.streams == {}


def command(url, name, stream_id, *, command_id=None, token=ADMIN_TOKEN, **args):
    body = {"command": name, "stream_id": stream_id, "args": args}
    body |= {} if command_id is None else {"command_id": command_id}
    with closing(ask(f"{url}/v1/commands", body, token=token)) as answer:
        return json.load(answer)


def refusal(url, *words, **fields):
    """Return the status of a command that is not carried out."""
    with pytest.raises(HTTPError) as caught:
        command(url, *words, **fields)
    with caught.value as answer:
        return answer.status


def test_cameras_are_seen_over_http_while_they_run(tmp_path):
    with running(tmp_path / "state") as (url, _):
        streams = read_json(f"{url}/v1/streams")["streams"]
        assert [one["id"] for one in streams] == ["gate", "yard"]
        assert streams[0]["frame"]["num_tracks"] >= 1
        with closing(ask(f"{url}/v1/frames/gate?masks=true")) as answer:
            drawn = cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_COLOR)
        size = streams[0]["frame"]["size"]
        assert drawn.shape[:2] == (size["height"], size["width"])
        with closing(ask(f"{url}/v1/events?stream_id=gate")) as answer:
            told = read_events(answer, 6)
        assert {name for name, _ in told} == {"event", "status"}
        assert {record["stream_id"] for _, record in told} == {"gate"}
        assert all(record["ce_id"] for _, record in told)


def test_cameras_are_changed_over_http_while_they_run(tmp_path):
    with running(tmp_path / "state") as (url, live):
        left = {"name": "right", "polygon": [(0, 0), (0.5, 0), (0.5, 1), (0, 1)]}
        changed = command(url, "set_zones", "gate", zones=[left], command_id="once")
        assert changed["ok"]
        assert changed["is_kept"]
        first = changed["first_frame"]["frame_seq"]
        wait_until(lambda: live.streams["gate"].scene.frame.frame_seq >= first)
        assert live.streams["gate"].scene.zones[0].polygon[1] == (0.5, 0.0)
        [zone] = read_json(f"{url}/v1/zones?stream_id=gate")["zones"]
        assert zone["zone"]["polygon"][1] == [0.5, 0.0]
        # A client that has not heard the answer sends the command again.
        assert command(url, "set_zones", "gate", zones=[left], command_id="once") == changed
        assert refusal(url, "set_zones", "gate", zones=[], token=TOKEN) == 403


def test_cameras_come_and_go_over_http_while_others_run(tmp_path):
    with running(tmp_path / "state") as (url, live):
        assert command(url, "add_stream", "lane", source=SOURCE, concepts=["red"])["ok"]
        wait_until(lambda: "lane" in live.streams and live.streams["lane"].scene)
        with closing(ask(f"{url}/v1/config?origin=true", token=ADMIN_TOKEN)) as answer:
            found = json.load(answer)
        assert [one["id"] for one in found["config"]["streams"]] == ["gate", "yard", "lane"]
        assert ("lane", "present", "bert") in {
            (one["stream_id"], one["field"], one["issued_by"]) for one in found["origin"]
        }
        assert command(url, "remove_stream", "lane")["ok"]
        assert "lane" not in live.streams
        assert refusal(url, "remove_stream", "lane") == 404
