"""Configurations that are right, and errors that say where and what instead."""

from pathlib import Path

import pytest

from connectors.video.config import RtspSourceConfig
from pipeline.config.loading import load_config, parse_config
from pipeline.errors import ConfigError

GOOD = """\
streams:
  - id: gate
    source:
      type: rtsp
      url: rtsp://${HOST}/1
      password: ${PW:-}
    concepts: [deer]
    zones:
      - {name: path, polygon: [[0, 0], [1, 0], [1, 1]]}
    rules:
      - {type: enter, name: comes, zone: path}
"""
ENVIRON = {"HOST": "camera"}


def problems_of(text, environ=ENVIRON):
    with pytest.raises(ConfigError) as caught:
        parse_config(text, name="c.yaml", environ=environ)
    return caught.value.problems


def test_a_good_file_is_read(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(GOOD)
    config = load_config(path, environ=ENVIRON)
    assert isinstance(config.streams[0].source, RtspSourceConfig)
    assert config.streams[0].source.url == "rtsp://camera/1"
    assert config.streams[0].source.password is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("url:", "ulr:", ["c.yaml:5: streams[0].source.ulr", "did you mean 'url'"]),
        ("type: rtsp", "type: rtps", ["c.yaml:3: streams[0].source.type", "'rtps'", "'rtsp'"]),
        ("type: rtsp", "kind: rtsp", ["c.yaml:3: streams[0].source", "no type"]),
        ("concepts: [deer]", "concepts: []", ["c.yaml:7: streams[0].concepts"]),
        ("    concepts: [deer]\n", "", ["c.yaml:2: streams[0].concepts: is missing"]),
        ("[1, 1]", "[1, 1.5]", ["c.yaml:9", "polygon[2][1]", "less than or equal to 1", "1.5"]),
        ("zone: path", "zone: road", ["c.yaml:2: streams[0]", "'road'", "accepted: 'path'"]),
        ("[deer]", "[deer, deer]", ["'deer' and 'deer' are one concept"]),
        ("zone: path", "zone: path, concepts: [cow]", ["'cow'", "accepted: 'deer'"]),
        ("${HOST}", "${NO_HOST}", ["c.yaml:5", "NO_HOST is not set"]),
        ("rtsp://${HOST}/1", "http://x", ["streams[0].source.url", "rtsp://host"]),
        ("id: gate", "id: gate\n    id: yard", ["c.yaml:3: streams[0].id: twice"]),
    ],
)
def test_an_error_names_line_field_and_what_is_accepted(old, new, words):
    text = "\n".join(problems_of(GOOD.replace(old, new)))
    assert [word for word in words if word not in text] == []


def test_all_problems_are_told_at_once():
    text = GOOD.replace("url:", "ulr:").replace("zone: path", "zon: path")
    assert {problem.partition(": ")[0] for problem in problems_of(text)} >= {
        "c.yaml:5",
        "c.yaml:11",
    }


@pytest.mark.parametrize(
    "text", ["a: [", "\t- x", "a: !!python/object:os.system {}", "&a [*a]", "a: 2026-99-99", ""]
)
def test_text_that_is_no_configuration_is_a_config_error(text):
    assert problems_of(text)


def test_binary_and_missing_files_are_config_errors(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    for bad in (path, tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match=str(bad)):
            load_config(bad)


def test_secrets_never_appear_in_errors_or_repr():
    text = GOOD.replace("rtsp://${HOST}/1", "rtsp://bob:${PW}@camera/1")
    config = parse_config(text, environ={"PW": "hunter2"})
    bad = text.replace("type: rtsp", "type: rtsp\n      open_timeout_s: ${PW}")
    told = "\n".join(problems_of(bad, environ={"PW": "hunter2"}))
    assert "hunter2" not in repr(config)
    assert "open_timeout_s" in told
    assert "hunter2" not in told


def test_numbers_may_come_from_the_environment():
    text = GOOD + "engine: {max_batch: '${BATCH}'}\n"
    config = parse_config(text, environ=ENVIRON | {"BATCH": "3"})
    assert config.engine.max_batch == 3


def test_a_large_file_is_refused(tmp_path):
    path = Path(tmp_path / "c.yaml")
    path.write_bytes(b"# " + b"x" * (4 * 1024 * 1024))
    with pytest.raises(ConfigError, match="larger"):
        load_config(path)


def test_a_sink_is_named_by_its_type_unless_that_name_is_taken():
    video = "  - {type: video, path: a.mp4}\n"
    second = video.replace("a.mp4", "b.mp4")
    [problem] = problems_of(f"{GOOD}sinks:\n{video}{second}")
    assert "sinks[1].name: a sink named 'video' is there already" in problem
    assert problem.startswith("c.yaml:14")
    named = second.replace("{", "{name: small, ")
    config = parse_config(f"{GOOD}sinks:\n{video}{named}", environ=ENVIRON)
    assert [sink.name for sink in config.sinks] == ["video", "small"]
    [problem] = problems_of(f"{GOOD}sinks:\n{named.replace('small', 'a/b')}")
    assert "sinks[0].name: accepted: 1 to 60 letters" in problem


@pytest.mark.parametrize("sinks", ["{type: jsonl, folder: out}", "{type: video, path: out/a.mp4}"])
def test_two_sinks_on_one_path_are_refused(sinks):
    twice = sinks.replace("out", "./out/../out").replace("{", "{name: second, ")
    [problem] = problems_of(f"{GOOD}sinks: [{sinks}, {twice}]\n")
    assert "c.yaml" in problem
    assert "sinks: sink path" in problem
    assert "twice" in problem
