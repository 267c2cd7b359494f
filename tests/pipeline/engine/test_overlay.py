"""Changes over a configuration file, without an engine."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from connectors.video.config import RtspSourceConfig
from pipeline.engine.overlay import Overlay, dump_overlay, merge, read_overlay, with_streams
from pipeline.errors import StateError
from pipeline.records.command import CommandResult
from pipeline.streams.result import Revisions
from tests.pipeline.engine.commands import add, command, remove
from tests.pipeline.engine.runs import CAMERA, RULES, make_config

PATH = Path("overlay.yaml")
FILE = make_config("a", "b", source=CAMERA)
SECRET = RtspSourceConfig(url="rtsp://ann:pass@camera.example/9")


def rules_command(stream_id="a", **fields):
    return command("set_rules", stream_id, rules=RULES[:1], **fields)


def with_rules(config, rules, number=0):
    """The configuration with other rules of one stream."""
    streams = list(config.streams)
    streams[number] = streams[number].model_copy(update={"rules": rules})
    return with_streams(config, streams)


def changed(overlay=None, *, file=FILE, made=None):
    """An overlay behind a change of the rules of stream a."""
    made = made or rules_command()
    now = with_rules(file, made.args.rules).streams[0]
    return (overlay or Overlay()).changed(
        made, file=file.streams[0], before=file.streams[0], now=now
    )


def test_a_change_lies_over_the_file_and_says_who_made_it():
    overlay = changed(made=rules_command(command_id="mine"))
    (change,) = overlay.changes
    assert (change.stream_id, change.field, change.command_id, change.issued_by) == (
        "a",
        "rules",
        "mine",
        "ann",
    )
    merged = merge(FILE, overlay, path=PATH)
    assert [len(stream.rules) for stream in merged.config.streams] == [1, 2]
    assert merged.conflicts == ()


def test_a_change_back_to_what_the_file_says_leaves_nothing():
    back = command("set_rules", "a", rules=RULES)
    assert changed(changed(), made=back).changes == ()


def test_a_change_to_the_same_value_keeps_its_origin():
    overlay = changed(changed(made=rules_command(command_id="first")))
    assert [one.command_id for one in overlay.changes] == ["first"]


def test_a_field_that_the_file_has_changed_too_is_a_conflict_and_the_change_holds():
    overlay = changed()
    other = with_rules(FILE, ())
    merged = merge(other, overlay, path=PATH)
    assert [one.field for one in merged.conflicts] == ["rules"]
    assert len(merged.config.streams[0].rules) == 1


def test_a_file_that_says_the_same_by_now_is_no_conflict():
    overlay = changed()
    same = with_rules(FILE, rules_command().args.rules)
    assert merge(same, overlay, path=PATH).conflicts == ()


def test_added_and_removed_streams_lie_over_the_file():
    late = make_config("late", source=SECRET).streams[0]
    overlay = Overlay().changed(add(late), file=None, before=None, now=late)
    overlay = overlay.changed(remove("a"), file=FILE.streams[0], before=FILE.streams[0], now=None)
    merged = merge(FILE, overlay, path=PATH)
    assert [stream.id for stream in merged.config.streams] == ["b", "late"]
    assert merged.config.streams[1] == late
    assert (
        overlay.changed(remove("late"), file=None, before=late, now=None).changes
        == overlay.changes[-1:]
    )


def test_a_removed_stream_that_comes_back_as_it_was_leaves_nothing():
    file = FILE.streams[0]
    overlay = Overlay().changed(remove("a"), file=file, before=file, now=None)
    assert overlay.changed(add(file), file=file, before=None, now=file).changes == ()


def test_an_overlay_is_the_same_behind_its_file(tmp_path):
    late = make_config("late", source=SECRET).streams[0]
    overlay = changed().changed(add(late), file=None, before=None, now=late)
    overlay = overlay.answer(rules_command(), CommandResult(command_id="x", ok=True))
    path = tmp_path / "overlay.yaml"
    path.write_bytes(dump_overlay(overlay))
    assert read_overlay(path) == overlay
    source = merge(FILE, read_overlay(path), path=path).config.streams[-1].source
    assert source.password == SecretStr("pass")


def test_no_file_is_an_empty_overlay(tmp_path):
    assert read_overlay(tmp_path / "overlay.yaml") == Overlay()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"changes: [", "is not YAML"),
        (b"\xff\xfe\x00", "is not YAML"),
        (b"version: 2\n", "version"),
        (b"changes: [{stream_id: a}]\n", "changes[0].field"),
        (b"- 1\n", "config"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path, text, words):
    path = tmp_path / "overlay.yaml"
    path.write_bytes(text)
    with pytest.raises(StateError, match=r"overlay\.yaml") as caught:
        read_overlay(path)
    assert words in caught.value.reason


def test_changes_that_do_not_fit_the_file_are_named():
    alone = make_config("a", source=CAMERA)
    overlay = Overlay().changed(
        remove("a"), file=alone.streams[0], before=alone.streams[0], now=None
    )
    with pytest.raises(StateError, match="streams"):
        merge(alone, overlay, path=PATH)
    bad = changed().changes[0].model_copy(update={"value": [{"type": "appear"}]})
    with pytest.raises(StateError, match=r"stream 'a': rules\[0\].name"):
        merge(FILE, Overlay(changes=(bad,)), path=PATH)


def test_answers_are_found_by_their_command_and_the_oldest_forgotten():
    overlay = Overlay()
    made = [rules_command(command_id=f"n{number}") for number in range(300)]
    for one in made:
        overlay = overlay.answer(one, CommandResult(command_id=one.command_id, ok=True))
    assert overlay.find_answer(made[0]) is None
    assert overlay.find_answer(made[-1]).command_id == "n299"
    assert len(overlay.answered) == 256
    with pytest.raises(KeyError):
        overlay.find_answer(rules_command("b", command_id="n299"))


def test_revisions_number_what_has_changed_and_never_come_twice():
    a, b = FILE.streams
    quiet = a.model_copy(update={"rules": ()})
    overlay = Overlay().changed(rules_command(), file=a, before=a, now=quiet)
    assert overlay.revisions == {"a": Revisions(rule=1)}
    faster = b.model_copy(update={"max_fps": 5.0})
    overlay = overlay.changed(add(faster), file=b, before=b, now=faster)
    assert overlay.revisions == {"a": Revisions(rule=1)}
    overlay = overlay.changed(remove("a"), file=a, before=quiet, now=None)
    assert overlay.revisions == {}
    overlay = overlay.changed(add(a), file=a, before=None, now=a)
    assert overlay.revisions == {"a": Revisions(prompt=2, rule=2)}
