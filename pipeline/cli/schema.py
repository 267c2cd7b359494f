"""``maskstream schema``: the JSON Schemas of records and configuration."""

import json
from typing import Annotated

import typer

from connectors.record import Topic
from pipeline.cli.errors import reporting_errors
from pipeline.config.run import RunConfig
from pipeline.errors import ConfigError
from pipeline.records.json_schema import schema_of
from pipeline.records.schema import RECORD_TYPES


def schema(
    name: Annotated[
        str | None, typer.Argument(help="masklets, tracks, events, status or config.")
    ] = None,
) -> None:
    """Print the JSON Schema of a kind of record, or of the configuration; without a name, all."""
    with reporting_errors():
        schemas = all_schemas()
        if name is not None and name not in schemas:
            raise ConfigError([f"no schema {name!r} (accepted: {', '.join(schemas)})"])
        typer.echo(json.dumps(schemas if name is None else schemas[name], indent=2))


def all_schemas() -> dict[str, dict[str, object]]:
    """Return the JSON Schemas of all records and of the configuration, by short name."""
    schemas = {topic.value.split(".")[1]: schema_of(Topic(topic)) for topic in RECORD_TYPES}
    body = RunConfig.model_json_schema()
    schemas["config"] = {"$schema": "https://json-schema.org/draft/2020-12/schema", **body}
    return schemas
