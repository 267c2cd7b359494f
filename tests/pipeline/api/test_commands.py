"""Commands over HTTP: who may issue which, what they are answered, and what is no command."""

import pytest
from starlette.testclient import TestClient

from pipeline.api.routes import commands as module
from pipeline.records.command import COMMAND_NAMES, CommandResult, command_error
from tests.pipeline.api.backends import ROLES, bearer, make_api

ZONE = {"name": "gate", "polygon": [(0, 0), (1, 0), (1, 1)]}
STREAM = {"source": {"type": "rtsp", "url": "rtsp://camera.example/1"}, "concepts": ["deer"]}
ARGS = {
    "add_stream": STREAM,
    "change_stream": STREAM,
    "add_concept": {"phrase": "fox"},
    "rename_concept": {"concept_id": "fox", "name": "Fox"},
    "remove_concept": {"concept_id": "fox"},
    "set_rules": {"rules": [{"type": "appear", "name": "seen"}]},
    "set_zones": {"zones": [ZONE]},
}
FOR_ADMINS = {"add_stream", "change_stream", "remove_stream", "reload"}


def body_of(name="set_zones", **fields):
    about = {} if name == "reload" else {"stream_id": "cam"}
    return {"command": name, "args": ARGS.get(name, {}), **about, **fields}


def post(api, body, *, role="operator", **fields):
    client = TestClient(api.application, headers=bearer(role))
    return client.post("/v1/commands", **({"json": body} | fields))


def failing(kind):
    def answer(command):
        error = command_error(kind, "no (accepted: yes)", field="stream_id")
        return CommandResult(command_id=command.command_id, ok=False, error=error, worker="w")

    return answer


def test_a_command_is_carried_out_in_the_name_of_who_sends_it():
    api = make_api()
    answer = post(api, body_of(command_id="one"))
    assert answer.status_code == 200
    assert answer.json() == {
        "command_id": "one",
        "ok": True,
        "first_frame": {"stream_epoch": 1, "frame_seq": 7},
        "is_kept": False,
        "worker": "w",
    }
    [command] = api.backend.engine.commands
    assert (command.issued_by, command.command, command.stream_id) == (
        "operator",
        "set_zones",
        "cam",
    )
    assert command.args.zones[0].name == "gate"


def test_a_command_without_an_id_gets_one_of_its_own():
    api = make_api()
    ids = {post(api, body_of()).json()["command_id"] for _ in range(3)}
    assert ids == {command.command_id for command in api.backend.engine.commands}
    assert len(ids) == 3


@pytest.mark.parametrize("name", COMMAND_NAMES)
@pytest.mark.parametrize("role", ROLES)
def test_roles_may_issue_what_is_theirs(role, name):
    api = make_api()
    is_allowed = role == "admin" or (role == "operator" and name not in FOR_ADMINS)
    answer = post(api, body_of(name), role=role)
    assert answer.status_code == (200 if is_allowed else 403)
    assert len(api.backend.engine.commands) == is_allowed


def test_nobody_issues_a_command_without_a_token():
    api = make_api()
    answer = TestClient(api.application).post("/v1/commands", json=body_of())
    assert answer.status_code == 401
    assert not api.backend.engine.commands


@pytest.mark.parametrize(
    ("changes", "field", "told"),
    [
        ({"command": "explode"}, "command", "unknown command 'explode'"),
        ({"command": None}, "command", "unknown command None"),
        ({"stream_id": ""}, "stream_id", "at least 1 character"),
        ({"command_id": 7}, "command_id", "valid string"),
        ({"args": {"zones": [{"name": "a", "polygon": []}]}}, "args.zones[0].polygon", "3 items"),
        ({"args": {"zones": [], "lines": []}}, "args.lines", "not permitted"),
        ({"issued_by": "root"}, "issued_by", "is set here"),
        ({"issued_at": "2026-01-01T00:00:00Z"}, "issued_at", "is set here"),
    ],
)
def test_what_is_not_accepted_is_named(changes, field, told):
    api = make_api()
    answer = post(api, body_of() | changes)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["field"]) == (422, "invalid", field)
    assert told in error["message"]
    assert not api.backend.engine.commands


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff",
        b"[" * 100_000,
        b'{"a": NaN}',
        b'{"a": "\\ud800"}',
    ],
)
def test_bodies_that_are_no_object_are_refused(content):
    headers = {"Content-Type": "application/json"}
    answer = post(make_api(), None, content=content, headers=headers, json=None)
    assert (answer.status_code, answer.json()["error"]["type"]) == (422, "invalid")


def test_a_body_of_another_type_is_refused():
    answer = post(
        make_api(), None, json=None, content=b"{}", headers={"Content-Type": "text/plain"}
    )
    assert (answer.status_code, answer.json()["error"]["type"]) == (415, "unsupported_media_type")


def test_a_body_of_more_than_a_mebibyte_is_refused():
    answer = post(make_api(), body_of(args={"zones": [], "pad": "x" * 1024 * 1024}))
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("invalid", 422),
        ("unknown_stream", 404),
        ("unknown_concept", 404),
        ("model_refused", 422),
        ("stream_exists", 409),
        ("stream_limit", 422),
        ("id_taken", 409),
        ("busy", 429),
        ("stopped", 503),
        ("internal", 500),
    ],
)
def test_what_the_engine_refuses_is_answered_with_why(kind, status):
    answer = post(make_api(answer=failing(kind)), body_of(command_id="one"))
    assert answer.status_code == status
    assert ("retry-after" in answer.headers) == (kind == "busy")
    body = answer.json()
    assert (body["command_id"], body["ok"]) == ("one", False)
    assert body["error"] == {
        "type": kind,
        "field": "stream_id",
        "message": "no",
        "accepted": "yes",
    }


def test_a_command_that_takes_long_is_answered_before_it_is_done(monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_S", 0.01)
    answer = post(make_api(answer=None), body_of(command_id="one"))
    assert (answer.status_code, answer.json()) == (202, {"command_id": "one"})


def test_no_command_is_taken_before_there_is_an_engine():
    api = make_api()
    api.backend.engine = None
    answer = post(api, body_of())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
