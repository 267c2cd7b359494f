"""What each operation answers, and whom it lets in."""

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

from connectors.record import Topic
from pipeline.streams.result import Scene
from tests.pipeline.api.backends import ROLES, STREAMS, bearer, make_api, make_scene
from tests.pipeline.engine.runs import make_config
from tests.pipeline.fakes import make_frame

PATHS = (
    *(
        "/v1/streams",
        "/v1/streams/cam",
        "/v1/frames/cam",
        "/v1/objects",
        "/v1/concepts",
        "/v1/zones",
    ),
    *("/v1/rules", "/v1/sinks", "/v1/config", "/v1/events", "/v1/openapi.json"),
)


@pytest.fixture
def api():
    api = make_api()
    yield api
    api.pictures.close()


@pytest.fixture
def client(api):
    return TestClient(api.application, headers=bearer("operator"))


def jpeg_of(answer):
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)


def test_streams_are_listed_with_what_they_are_doing(client):
    answer = client.get("/v1/streams").json()
    assert [one["id"] for one in answer["streams"]] == sorted(STREAMS)
    [cam] = [one for one in answer["streams"] if one["id"] == "cam"]
    assert cam == {
        "id": "cam",
        "source": "rtsp",
        "state": "running",
        "since": "2026-01-01T00:00:00.000000Z",
        "error": None,
        "restored": None,
        "state_error": None,
        "counts": {"received": 1, "processed": 0, "gated": 0, "dropped": {}, "waiting": 1},
        "concepts": ["red"],
        "zones": ["right"],
        "rules": ["seen", "in-right"],
        "frame": {
            "stream_epoch": 0,
            "frame_seq": 7,
            "capture_time": "2026-01-01T00:00:00.700000Z",
            "size": {"width": 32, "height": 24},
            "num_tracks": 1,
        },
    }


@pytest.mark.parametrize("path", ["yard/north", "yard%2Fnorth"])
def test_one_stream_is_found_by_its_name(client, path):
    assert client.get(f"/v1/streams/{path}").json()["id"] == "yard/north"
    assert client.get("/v1/streams/new").json()["frame"] is None


@pytest.mark.parametrize(
    "path", ["/v1/streams/nobody", "/v1/frames/nobody", "/v1/zones?stream_id=nobody"]
)
def test_a_stream_that_is_not_there_is_named_with_those_that_are(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "type": "not_found",
        "field": "stream_id",
        "message": "no stream 'nobody'",
        "accepted": "cam, new, yard/north",
    }


def test_objects_are_those_of_the_newest_frames(client):
    objects = client.get("/v1/objects").json()["objects"]
    assert [one["stream_id"] for one in objects] == ["cam", "yard/north"]
    assert (objects[0]["frame_seq"], objects[0]["object"]["concept"]) == (7, "red")
    assert objects[0]["object"]["mask"] is None
    assert client.get("/v1/objects?stream_id=cam").json()["objects"] == objects[:1]
    assert client.get("/v1/objects?stream_id=new").json()["objects"] == []


def test_settings_are_those_of_all_streams_or_of_one(client, api):
    assert len(client.get("/v1/rules").json()["rules"]) == 2 * len(STREAMS)
    [zone] = client.get("/v1/zones?stream_id=cam").json()["zones"]
    assert (zone["stream_id"], zone["zone"]["name"]) == ("cam", "right")
    changed = make_config("cam", concepts=["Blue car"]).streams[0]
    api.backend.live.set_stream("cam", changed)
    [concept] = client.get("/v1/concepts?stream_id=cam").json()["concepts"]
    assert concept == {
        "stream_id": "cam",
        "id": "blue-car",
        "phrase": "Blue car",
        "name": "Blue car",
    }
    rules = client.get("/v1/rules?stream_id=cam").json()["rules"]
    assert [(one["rule"]["type"], one["rule"]["name"]) for one in rules] == [
        ("appear", "seen"),
        ("enter", "in-right"),
    ]
    assert rules[1]["rule"]["zone"] == "right"


def test_sinks_tell_their_state_and_no_password(client):
    [sink] = client.get("/v1/sinks").json()["sinks"]
    assert (sink["name"], sink["type"], sink["state"]) == ("kafka", None, "down")
    assert sink["error"] == "rtsp://***@host is away"


def test_the_configuration_gives_no_secret_away(client):
    text = client.get("/v1/config").text
    assert '"requests_per_s":10000.0' in text
    assert "camera.example/1?auth=***&channel=2" in text
    assert "hunter" not in text
    digest = make_api().backend.file.api.tokens[0].sha256.get_secret_value()
    assert digest not in text


def test_the_newest_frame_is_a_jpeg_of_its_own_size(client):
    plain = jpeg_of(client.get("/v1/frames/cam"))
    assert plain.shape == (24, 32, 3)
    assert plain[11, 7, 2] > 150  # the red blob; OpenCV's order is blue, green, red
    drawn = jpeg_of(client.get("/v1/frames/cam?masks=true"))
    assert drawn.shape == plain.shape
    assert np.abs(drawn.astype(int) - plain).max() > 60


def test_a_frame_without_a_model_is_shown_too(client, api):
    api.backend.live.show(Scene.bare(make_frame(9)))
    assert jpeg_of(client.get("/v1/frames/cam?masks=true")).max() < 60


def test_a_frame_that_a_client_has_is_not_sent_again(client, api):
    first = client.get("/v1/frames/cam")
    same = client.get("/v1/frames/cam", headers={"If-None-Match": first.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    drawn = client.get(
        "/v1/frames/cam?masks=true", headers={"If-None-Match": first.headers["etag"]}
    )
    assert drawn.status_code == 200
    api.backend.live.show(make_scene(8))
    newer = client.get("/v1/frames/cam", headers={"If-None-Match": first.headers["etag"]})
    assert newer.status_code == 200
    assert newer.headers["etag"] != first.headers["etag"]
    assert newer.headers["x-capture-time"] == "2026-01-01T00:00:00.800000Z"


def test_a_stream_without_a_frame_has_none_yet(client):
    answer = client.get("/v1/frames/new")
    assert (answer.status_code, answer.headers["retry-after"]) == (404, "1")
    assert answer.json()["error"]["message"] == "no frame of 'new' yet"


@pytest.mark.parametrize("path", [*PATHS, "/", "/v1/nothing", "/v2"])
@pytest.mark.parametrize("headers", [{}, bearer("nobody"), {"X-Forwarded-User": "admin"}])
def test_nobody_sees_anything_without_a_token(api, path, headers):
    answer = TestClient(api.application).get(path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["type"] == "unauthorized"


@pytest.mark.parametrize("path", [path for path in PATHS if path != "/v1/events"])
@pytest.mark.parametrize("role", ROLES)
def test_roles_may_look_at_what_is_theirs(api, path, role):
    answer = TestClient(api.application).get(path, headers=bearer(role))
    is_forbidden = role == "viewer" and path == "/v1/config"
    assert answer.status_code == (403 if is_forbidden else 200)
    assert answer.headers["x-content-type-options"] == "nosniff"
    if is_forbidden:
        assert answer.json()["error"]["accepted"] == "a token with the role operator"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", PATHS)
def test_what_can_only_be_looked_at_takes_no_other_method(client, path, method):
    answer = client.request(method, path, content=b"{}")
    assert (answer.status_code, answer.json()["error"]["type"]) == (405, "method_not_allowed")


def test_unknown_paths_say_where_the_known_ones_are(client):
    error = client.get("/v1/nothing").json()["error"]
    assert (error["type"], error["accepted"]) == ("not_found", "a path of /v1/openapi.json")


def test_bad_values_name_their_field(client):
    answer = client.get("/v1/frames/cam?masks=perhaps")
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "query.masks")


def test_parameters_that_are_not_known_are_errors(client):
    answer = client.get("/v1/zones?stream=cam")
    assert answer.status_code == 422
    assert answer.json()["error"] == {
        "type": "invalid",
        "field": "query.stream",
        "message": "unknown parameter 'stream'",
        "accepted": "stream_id",
    }


def test_who_asks_too_often_waits_and_others_do_not():
    api = make_api(requests_per_s=5)
    client = TestClient(api.application)
    codes = [client.get("/v1/sinks", headers=bearer("viewer")).status_code for _ in range(30)]
    assert codes[:5] == [200] * 5
    assert codes.count(429) >= 20
    assert client.get("/v1/sinks", headers=bearer("admin")).status_code == 200


def test_topics_of_the_feed_are_those_that_are_shown():
    from pipeline.api import feed
    from pipeline.observe import live

    assert feed._NAMES.keys() == live._TOPICS == {Topic.EVENTS, Topic.STATUS}
