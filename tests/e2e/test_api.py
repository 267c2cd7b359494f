"""A running engine seen through its API: cameras in, pictures and events out over HTTP."""

import json
import threading
import urllib.request
from contextlib import closing
from hashlib import sha256

import cv2
import numpy as np

from pipeline.api.running import serve_api
from pipeline.app import build_observations
from pipeline.config.run import RunConfig
from tests.e2e.cameras import watch_cameras
from tests.pipeline.engine.runs import RULES, ZONES, wait_until

TOKEN = "see-but-touch-nothing"  # noqa: S105 - of a test
PATIENCE_S = 30.0


def make_config(folder):
    source = {"type": "rtsp", "url": "rtsp://camera.example/1"}
    stream = {"source": source, "concepts": ["red", "blue"], "zones": ZONES, "rules": RULES}
    token = {"name": "anna", "role": "viewer", "sha256": sha256(TOKEN.encode()).hexdigest()}
    return RunConfig.model_validate(
        {
            "streams": [{"id": "gate", **stream}, {"id": "yard", **stream}],
            "state": {"folder": folder},
            "api": {"port": 0, "tokens": [token]},
            "status": {"every_s": 0.5},
        }
    )


def ask(url):
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})  # noqa: S310
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


def test_cameras_are_seen_over_http_while_they_run(tmp_path):
    config = make_config(tmp_path / "state")
    seen = build_observations(config)
    with serve_api(config, seen) as url:
        app = watch_cameras(config, observations=seen)
        engine = threading.Thread(target=app.engine.run)
        engine.start()
        try:
            wait_until(lambda: len(seen.live.streams) == 2)
            wait_until(lambda: all(one.scene for one in seen.live.streams.values()))
            streams = read_json(f"{url}/v1/streams")["streams"]
            assert [one["id"] for one in streams] == ["gate", "yard"]
            assert streams[0]["frame"]["num_tracks"] >= 1
            with closing(ask(f"{url}/v1/frames/gate?masks=true")) as answer:
                drawn = cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_COLOR)
            assert drawn.shape[:2] == tuple(
                streams[0]["frame"]["size"][side] for side in ("height", "width")
            )
            with closing(ask(f"{url}/v1/events?stream_id=gate")) as answer:
                told = read_events(answer, 6)
            assert {name for name, _ in told} == {"event", "status"}
            assert {record["stream_id"] for _, record in told} == {"gate"}
            assert all(record["ce_id"] for _, record in told)
        finally:
            app.engine.stop()
            engine.join(PATIENCE_S)
        assert not engine.is_alive()
        assert read_json(f"{url}/v1/streams")["streams"][0]["state"] == "ended"
        assert seen.live.streams == {}
