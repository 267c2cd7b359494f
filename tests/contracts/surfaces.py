"""Where the frozen surfaces are and how they are read."""

import json
from pathlib import Path

import typer.main

from pipeline.cli.main import app
from pipeline.cli.schema import schema_files
from pipeline.records.codec import encode_record
from pipeline.records.examples import EXAMPLES
from pipeline.records.schema import RECORD_TYPES

CONFIGS = Path(__file__).parents[2] / "configs"
GOLDEN = Path(__file__).parent / "golden"
RECORDS = {topic.value.split(".")[1]: topic for topic in RECORD_TYPES}


def write_schemas() -> None:
    for place, text in schema_files().values():
        (CONFIGS / place).write_text(text)


def make_example(name: str, **changes):
    """The example of a kind of record, changed and checked anew."""
    topic = RECORDS[name]
    return RECORD_TYPES[topic].model_validate(EXAMPLES[topic] | changes)


def example_record(name: str):
    """The example of a kind of record, as its model and as bytes with headers."""
    model = make_example(name)
    return model, encode_record(model, deployment="site 1")


def golden_text(name: str) -> str:
    """What of a record its consumers see, as the text of a golden file."""
    record = example_record(name)[1]
    seen = {
        "topic": record.topic,
        "key": record.key,
        "timestamp_ms": record.timestamp_ms,
        "headers": {key: value.decode() for key, value in record.headers},
        "value": record.value.decode(),
    }
    return json.dumps(seen, indent=2) + "\n"


def write_golden() -> None:
    for name in RECORDS:
        (GOLDEN / "records" / f"{name}.json").write_text(golden_text(name))


def cli_options() -> dict[str, list[str]]:
    """Options and arguments of every command, by its name."""
    found: dict[str, list[str]] = {}

    def visit(command, name: str) -> None:
        names = command.list_commands(None) if hasattr(command, "list_commands") else []
        children = [command.get_command(None, child) for child in names]
        names = sorted(
            option.opts[-1] if option.opts[-1].startswith("--") else option.name
            for option in command.params
        )
        if names or not children:
            found[name] = names
        for child in children:
            visit(child, f"{name} {child.name}".strip())

    visit(typer.main.get_command(app), "")
    return found
