"""What a configuration cannot hold, said before anything is opened."""

import pytest

from pipeline.config.loading import load_config, parse_config
from pipeline.config.sections.model import ModelConfig
from pipeline.errors import ConfigError

STREAM = "streams:\n  - id: a\n    source: {type: world}\n    concepts: [deer]\n"


def problems_of(text):
    with pytest.raises(ConfigError) as found:
        parse_config(text, name="c.yaml")
    return list(found.value.problems)


@pytest.mark.parametrize(
    ("concepts", "told"),
    [
        ('[deer, "  "]', "concepts[1].phrase: is blank (accepted: a noun phrase, such as deer)"),
        ("[deer, Deer]", "concepts: 'deer' and 'Deer' are one concept (accepted: each once)"),
        ('["red  car", "red car "]', "concepts: 'red car' and 'red car' are one concept"),
    ],
)
def test_concepts_are_phrases_and_each_is_there_once(concepts, told):
    text = f"streams:\n  - id: a\n    source: {{type: world}}\n    concepts: {concepts}\n"
    [problem] = problems_of(text)
    assert problem.startswith(f"c.yaml:4: streams[0].{told}")


def test_phrases_have_single_spaces_so_that_rules_find_them():
    rule = '    rules: [{type: appear, name: r, concepts: ["red  car"]}]\n'
    [stream] = parse_config(STREAM.replace("[deer]", '[" red  car"]') + rule).streams
    assert stream.rules[0].concepts == ("red car",)
    assert [one.phrase for one in stream.searched] == ["red car"]


def searched_of(concepts, rule="{type: appear, name: r}"):
    text = STREAM.replace("[deer]", concepts) + f"    rules: [{rule}]\n"
    [stream] = parse_config(text).streams
    found = [(one.concept_id, one.phrase, one.name) for one in stream.searched]
    return found, stream.resolved_rules[0].concepts


def test_concepts_have_ids_of_their_own_or_of_their_phrases():
    found, _ = searched_of("[red fox, {id: red-fox, phrase: vixen}, {phrase: cow, name: Bessy}]")
    assert found == [
        ("red-fox-2", "red fox", "red fox"),
        ("red-fox", "vixen", "vixen"),
        ("cow", "cow", "Bessy"),
    ]


def test_rules_name_concepts_by_phrase_or_id_and_go_by_the_id():
    rule = "{type: appear, name: r, concepts: [red fox, cow]}"
    _, ids = searched_of("[{id: fox, phrase: red fox}, {id: cow, phrase: spotted cow}]", rule)
    assert ids == ("fox", "cow")


@pytest.mark.parametrize(
    ("concepts", "told"),
    [
        (
            "[{id: Red Fox, phrase: fox}]",
            "concepts[0].id: is not safe in keys (accepted: 'red-fox'",
        ),
        ("[{id: a, phrase: x}, {id: a, phrase: y}]", "concepts: concept 'a' is there twice"),
        ("[x, {phrase: y, name: x}]", "concepts: concept named 'x' is there twice"),
        ("[{id: a}]", "concepts[0].phrase: is missing"),
        ("[7]", "concepts[0]: "),
    ],
)
def test_a_concept_that_is_not_accepted_is_named(concepts, told):
    [problem] = problems_of(STREAM.replace("[deer]", concepts))
    assert f"streams[0].{told}" in problem


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("name: yolo", "model.name: unknown model (accepted: sam3-nano, sam3,"),
        ("name: sam2.1-tiny", "model: sam2.1-tiny knows no concepts (accepted: sam3-nano, sam3)"),
        ("options: {life.expiry: 1}", "unknown option 'life.expiry' (did you mean 'life.expiry_s'"),
        (
            "options: {life.expiry_s: yes}",
            "option 'life.expiry_s' is True (accepted: float",
        ),
        ("options: {memory_maps: 2.5}", "option 'memory_maps' is 2.5 (accepted: int as 3)"),
        ("options: {memory_maps: 0}", "memory_maps"),
        ("device: tpu", "model.device: accepted: auto, cpu, cuda, cuda:N or mps."),
    ],
)
def test_models_and_their_options_are_known(model, told):
    [problem] = problems_of(f"{STREAM}model: {{{model}}}\n")
    assert problem.startswith("c.yaml:5: model")
    assert told in problem


def test_a_checkpoint_must_be_there_where_the_configuration_is_read(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(f"{STREAM}model: {{checkpoint: {tmp_path / 'none.pt'}}}\n")
    with pytest.raises(ConfigError, match=r"c\.yaml:5: model\.checkpoint: nothing is there .*\.pt"):
        load_config(path)
    (tmp_path / "none.pt").touch()
    assert load_config(path).model.checkpoint == tmp_path / "none.pt"


def test_options_are_put_into_the_size_that_they_are_for():
    options = ModelConfig(options={"life.expiry_s": 7, "memory_maps": 2}).session_options()
    assert (options.life.expiry_s, options.memory_maps) == (7.0, 2)
    assert options.association == ModelConfig().session_options().association


def test_masklets_live_as_long_as_tracks_unless_the_options_say_otherwise():
    assert ModelConfig().session_options(expiry_s=12.0).life.expiry_s == 12.0
    spoken = ModelConfig(options={"life.expiry_s": 7})
    assert spoken.session_options(expiry_s=12.0).life.expiry_s == 7.0


@pytest.mark.parametrize(
    ("sink", "told"),
    [
        ("type: jsonl, folder: 'out/{nope}'", "folder: placeholder {nope} in 'out/{nope}'"),
        (
            "type: video, path: '{nope}.mp4'",
            "path: placeholder {nope} in '{nope}.mp4'",
        ),
        ("type: jsonl, folder: ''", "folder: is empty; accepted: a path"),
    ],
)
def test_paths_of_sinks_are_names_that_can_be_meant(sink, told):
    [problem] = problems_of(f"{STREAM}sinks:\n  - {{{sink}}}\n")
    assert problem.startswith(f"c.yaml:6: sinks[0].{told}")
    assert "accepted: " in problem


def test_an_empty_state_folder_is_refused():
    [problem] = problems_of(f"{STREAM}state: {{folder: ''}}\n")
    assert problem.startswith("c.yaml:5: state.folder: is empty; accepted: a path")


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("{type: jsonl, folder: FILE}", "folder: 'FILE' is no folder; accepted: a folder"),
        ("{type: jsonl, folder: FILE/a/b}", "folder: 'FILE' is no folder"),
        ("{type: video, path: FILE/a/b.mp4}", "path: 'FILE' is no folder"),
        ("{type: picture, path: FOLDER/d.png}", "path: 'FOLDER/d.png' is a folder; accepted: a"),
        ("{type: plugin, entry_point: mqtt}", "entry_point: no connector plugin named 'mqtt'"),
        ("{type: kafka, bootstrap: 'h:1', ssl_cafile: FOLDER/n}", "ssl_cafile: no file"),
        (
            "{type: kafka, bootstrap: 'h:1', options: {linger: 1, max_in_flight_requests: 1}}",
            "options: unknown option",
        ),
        (
            "{type: frames, bootstrap: 'h:1', options: {max_poll_records: 1}}",
            "options: unknown option 'max_poll_records'",
        ),
    ],
)
def test_what_a_sink_would_refuse_here_is_said_where_its_file_is_read(tmp_path, section, told):
    file, path = tmp_path / "file", tmp_path / "c.yaml"
    file.touch()
    (tmp_path / "d.png").mkdir()

    def filled(text):
        return text.replace("FILE", str(file)).replace("FOLDER", str(tmp_path))

    path.write_text(f"{STREAM}sinks:\n  - {filled(section)}\n")
    with pytest.raises(ConfigError) as found:
        load_config(path)
    [problem] = found.value.problems
    assert problem.startswith(f"{path}:6: sinks[0].{filled(told)}")
    assert "accepted" in problem
    parse_config(path.read_text())  # read for another machine


def test_what_a_source_would_refuse_here_is_said_where_its_file_is_read(tmp_path):
    path = tmp_path / "c.yaml"
    source = "{type: kafka, bootstrap: 'h:1', options: {max_pol_records: 1}}"
    path.write_text(STREAM.replace("{type: world}", source))
    told = r"streams\[0\]\.source\.options: unknown option 'max_pol_records'; did you mean"
    with pytest.raises(ConfigError, match=told):
        load_config(path)
    path.write_text(path.read_text().replace("max_pol_", "max_poll_"))
    load_config(path)


def test_a_state_folder_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(f"{STREAM}state: {{folder: {path}}}\n")
    with pytest.raises(ConfigError, match=r"c\.yaml:5: state\.folder: .* is no folder; accepted"):
        load_config(path)


KAFKA = STREAM.replace("type: world", "type: kafka, bootstrap: h:1")
CAMERA = STREAM.replace("type: world", "type: rtsp, url: rtsp://h/1")


def test_a_topic_for_state_is_for_streams_from_kafka():
    topic = "state:\n  topic: {bootstrap: h:1}\n"
    assert parse_config(KAFKA + topic).state.topic.topic == "maskstream.state.v1"
    [problem] = problems_of(CAMERA + topic)
    assert problem.startswith("c.yaml:5: state: a topic where 'a' is a camera (accepted:")


def test_what_a_client_of_the_topic_for_state_does_not_know_is_refused(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(f"{KAFKA}state:\n  topic: {{bootstrap: h:1, options: {{linger_ms: 1}}}}\n")
    with pytest.raises(ConfigError) as found:
        load_config(path)
    [problem] = found.value.problems
    assert "unknown option 'linger_ms'" in problem


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (STREAM.replace("id: a", 'id: "a;b"'), "c.yaml:2: streams[0].id: accepted: letters, "),
        (f"deployment: 100%\n{STREAM}", "c.yaml:1: deployment: accepted: letters, digits, "),
        (f"worker: 'w;'\n{STREAM}", "c.yaml:1: worker: accepted: letters, digits, blanks and _ "),
    ],
)
def test_a_name_says_of_which_characters_it_may_be(text, told):
    [problem] = problems_of(text)
    assert problem.startswith(told)


FRAMES = STREAM.replace("type: world", "type: kafka, bootstrap: 'h:1,H:2', topic: t")


@pytest.mark.parametrize(
    ("stream", "sinks", "told"),
    [
        (
            FRAMES,
            ["type: frames, bootstrap: 'h:3, h:2', topic: t"],
            "sinks[0]: streams[0] reads the topic h:2/t already (accepted: another topic)",
        ),
        (
            FRAMES,
            ["type: kafka, bootstrap: 'h:1', topics: {names: {dlq: t}}"],
            "sinks[0]: streams[0] reads the topic h:1/t already",
        ),
        (
            STREAM,
            ["type: kafka, bootstrap: 'h:1'", "type: kafka, name: b, bootstrap: 'h:1'"],
            "sinks[1]: sinks[0] writes the topic h:1/maskstream.dlq.v1 already",
        ),
    ],
)
def test_a_circle_and_a_second_writer_of_a_topic_are_refused(stream, sinks, told):
    listed = "".join(f"  - {{{sink}}}\n" for sink in sinks)
    [problem] = problems_of(f"{stream}sinks:\n{listed}")
    assert problem.startswith(f"c.yaml:{5 + len(sinks)}: {told}")


@pytest.mark.parametrize(
    ("topic", "owner"),
    [("t", "streams[0] reads"), ("maskstream.events.v1", "sinks[0] writes")],
)
def test_a_topic_for_state_is_no_other_one(topic, owner):
    sinks = "sinks: [{type: kafka, bootstrap: 'h:1'}]\n"
    state = f"state:\n  topic: {{bootstrap: 'h:1', topic: {topic}}}\n"
    [problem] = problems_of(f"{FRAMES}{sinks}{state}")
    assert problem.startswith(f"c.yaml:7: state.topic: {owner} the topic h:1/{topic} already")


@pytest.mark.parametrize(
    "sinks",
    [
        ["type: frames, bootstrap: 'h:3', topic: t"],
        ["type: frames, bootstrap: 'h:1', topic: t2", "type: kafka, bootstrap: 'h:1'"],
        [
            "type: kafka, bootstrap: 'h:1'",
            "type: kafka, name: b, bootstrap: 'h:1', topics: {prefix: b.}",
        ],
    ],
)
def test_topics_of_their_own_are_taken(sinks):
    listed = "".join(f"  - {{{sink}}}\n" for sink in sinks)
    parse_config(f"{FRAMES}sinks:\n{listed}")


def test_two_readers_in_one_group_are_refused():
    second = FRAMES.partition("\n")[2].replace("id: a", "id: b")
    [problem] = problems_of(f"{FRAMES}{second}")
    assert problem.startswith("c.yaml:6: streams[1].source: streams[0] reads h:1/t as group ")
    parse_config(f"{FRAMES}{second.replace('topic: t', 'topic: t, group_id: other')}")
    parse_config(f"{FRAMES}{second.replace('topic: t', 'topic: u')}")
