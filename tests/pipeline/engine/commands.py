"""Commands as a door would hand them over."""

from itertools import count

from pipeline.records.command import (
    AddStream,
    ChangeStream,
    Reload,
    RemoveStream,
    parse_command,
)

_NUMBERS = count(1)
ISSUED = {"issued_by": "ann", "issued_at": "2026-11-29T12:00:00Z"}


def command(name, stream_id="cam", /, *, command_id=None, **args):
    """A command with an id of its own, and arguments as JSON or as models."""
    return parse_command(
        {
            "command_id": command_id or f"c-{next(_NUMBERS)}",
            "command": name,
            "stream_id": stream_id,
            "args": args,
            **ISSUED,
        }
    )


def _issued(stream_id):
    return {"command_id": f"c-{next(_NUMBERS)}", "stream_id": stream_id, **ISSUED}


def add(config):
    return AddStream(**_issued(config.id), args=config)


def change(config):
    return ChangeStream(**_issued(config.id), args=config)


def remove(stream_id):
    return RemoveStream(**_issued(stream_id))


def reload(**args):
    return Reload(command_id=f"c-{next(_NUMBERS)}", args=args, **ISSUED)
