"""``maskstream schema``."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.cli.schema import all_schemas, schema_files


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
