"""``maskstream schema``."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.cli.schema import all_schemas, schema_files
from tests.schema_registry import schema_registry


def call(*words):
    return CliRunner().invoke(app, ["schema", *map(str, words)])


@pytest.mark.parametrize("name", all_schemas())
def test_a_schema_is_printed_by_its_name(name):
    done = call(name)
    assert (done.exit_code, json.loads(done.stdout)) == (0, all_schemas()[name])


def test_without_a_name_all_schemas_are_one_object():
    assert json.loads(call().stdout) == all_schemas()


def test_the_asyncapi_document_is_printed_as_yaml():
    assert yaml.safe_load(call("asyncapi").stdout)["asyncapi"] == "3.0.0"


@pytest.mark.parametrize(
    ("words", "names"), [([], list(schema_files())), (["asyncapi"], ["asyncapi"])]
)
def test_files_are_written_into_a_folder(tmp_path, words, names):
    done = call(*words, "--out", tmp_path / "new")
    assert (done.exit_code, done.stdout) == (0, "")
    written = {
        path.relative_to(tmp_path / "new").as_posix(): path.read_text()
        for path in (tmp_path / "new").rglob("*.*")
    }
    assert written == dict(schema_files()[name] for name in names)


def test_a_name_that_no_schema_has_is_refused_with_those_that_are_there():
    done = call("clips")
    assert done.exit_code == 2
    assert "no schema 'clips' (accepted: masklets, tracks, events, status, dlq, config, " in (
        done.output
    )


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    done = call("--out", tmp_path / "file")
    assert done.exit_code == 1
    assert str(tmp_path / "file") in done.output


KAFKA = """\
streams: [{id: a, source: {type: world}, concepts: [deer]}]
sinks:
  - {type: kafka, name: near, bootstrap: "h:1", topics: {prefix: farm., names: {events: alerts}}}
  - {type: kafka, name: far, bootstrap: "h:2"}
"""


def subjects(*topics):
    return {f"{topic}-value" for topic in topics}


def test_schemas_of_records_are_registered_under_the_names_of_their_topics(tmp_path):
    (tmp_path / "c.yaml").write_text(KAFKA)
    own = [f"maskstream.{kind}.v1" for kind in ("masklets", "tracks", "events", "status")]
    theirs = [f"farm.{name}" for name in ("alerts", own[0], own[1], own[3])]
    with schema_registry() as registry:
        done = call("--register", registry.url)
        assert done.exit_code == 0
        assert set(registry.subjects) == subjects(*own)
        assert "maskstream.events.v1-value: id 3\n" in done.stdout
        call("events", "--register", registry.url, "--topics-of", tmp_path / "c.yaml")
        assert set(registry.subjects) == subjects(*own, "farm.alerts")
        call("--register", registry.url, "--topics-of", tmp_path / "c.yaml")
        assert set(registry.subjects) == subjects(*own, *theirs)
    assert registry.subjects["farm.alerts-value"] == all_schemas()["events"]


def test_user_and_password_of_the_registry_are_in_the_environment(monkeypatch):
    with schema_registry(auth="me:hunter2") as registry:
        done = call("events", "--register", registry.url)
        assert (done.exit_code, "401" in done.stderr) == (1, True)
        monkeypatch.setenv("MASKSTREAM_REGISTRY_AUTH", "me:hunter2")
        assert call("events", "--register", registry.url).exit_code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["dlq", "--register", "http://h"], "accepted: masklets, tracks, events, status"),
        (["--register", "http://h", "--out", "x"], "--out does not go with --register"),
        (["--topics-of", "c.yaml"], "--topics-of goes with --register"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(words, told):
    done = call(*words)
    assert (done.exit_code, told in done.stderr) == (2, True)


def test_a_configuration_without_kafka_names_no_topics(tmp_path):
    (tmp_path / "c.yaml").write_text(KAFKA.partition("sinks")[0] + "sinks: [{type: console}]\n")
    done = call("--register", "http://h", "--topics-of", tmp_path / "c.yaml")
    assert (done.exit_code, "no sink of type kafka" in done.stderr) == (2, True)
