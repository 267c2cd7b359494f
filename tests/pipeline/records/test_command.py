"""Commands as they come in, and what is said of those that are none."""

import pytest

from pipeline.records.command import (
    COMMAND,
    CommandRefusedError,
    RemoveStream,
    SetRules,
    command_error,
    parse_command,
)
from tests.pipeline.engine.commands import ISSUED, command, reload

HEAD = {"command_id": "c", "stream_id": "cam", **ISSUED}
CAMERA = {"type": "rtsp", "url": "rtsp://gate.example/1"}


def refusal_of(body):
    with pytest.raises(CommandRefusedError) as caught:
        parse_command(body)
    return caught.value.error


@pytest.mark.parametrize(
    "made",
    [
        command("add_stream", source=CAMERA, concepts=["deer"]),
        command("change_stream", source=CAMERA, concepts=["deer"]),
        reload(force=True),
        *(command(name) for name in ("remove_stream", "pause_stream", "resume_stream")),
        command("set_rules", rules=[{"type": "appear", "name": "seen"}]),
        command("set_zones", zones=[{"name": "z", "polygon": [(0, 0), (1, 0), (1, 1)]}]),
    ],
    ids=lambda made: made.command,
)
def test_a_command_is_the_same_behind_json(made):
    assert COMMAND.validate_json(COMMAND.dump_json(made)) == made


def test_a_stream_is_called_as_its_command_says():
    assert command("add_stream", "gate", source=CAMERA).args.id == "gate"
    error = refusal_of({**HEAD, "command": "add_stream", "args": {"id": "b", "source": CAMERA}})
    assert (error.type, error.accepted) == ("invalid", "'cam'")


def test_an_unknown_command_is_refused_with_those_that_are_known():
    error = refusal_of({**HEAD, "command": "explode", "args": {}})
    assert (error.type, error.field, error.message) == (
        "invalid",
        "command",
        "unknown command 'explode'",
    )
    assert "set_rules" in error.accepted


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"command": "remove_stream", "arg": {}}, "arg"),
        ({"command": "set_rules"}, "args"),
        ({"command": "set_rules", "args": {"rules": [{"type": "appear"}]}}, "args.rules[0].name"),
        ({"command": "set_zones", "args": {"zones": [{"name": "z"}]}}, "args.zones[0].polygon"),
        ({"command": "add_stream", "args": {"source": {"type": "rtsp"}}}, "args.source.url"),
    ],
)
def test_what_is_at_fault_is_named_by_its_place(body, field):
    assert refusal_of({**HEAD, **body}).field == field


@pytest.mark.parametrize("text", ["bad; accepted: a (b)", "bad (accepted: a (b))"])
def test_a_text_is_split_from_what_it_says_is_accepted(text):
    error = command_error("invalid", text)
    assert (error.message, error.accepted) == ("bad", "a (b)")


def test_a_text_without_what_is_accepted_stays_whole():
    error = refusal_of({**HEAD, "command": "set_rules", "args": None})
    assert error.accepted is None
    assert error.message


def test_commands_that_differ_in_one_field_are_others():
    first = command("remove_stream", command_id="c")
    assert isinstance(first, RemoveStream)
    assert first != command("remove_stream", "other", command_id="c")
    assert isinstance(command("set_rules", rules=[]), SetRules)
