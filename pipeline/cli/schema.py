"""``maskstream schema``: what records and configuration look like, for programs."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from connectors.files.writing import write_whole
from pipeline.cli.errors import reporting_errors
from pipeline.config.run import RunConfig
from pipeline.errors import ConfigError
from pipeline.records.asyncapi import asyncapi_document
from pipeline.records.json_schema import DESCRIBED, DIALECT, kind_of, schema_of

ASYNCAPI = "asyncapi"


def schema(
    name: Annotated[
        str | None,
        typer.Argument(help="masklets, tracks, events, status, dlq, config or asyncapi."),
    ] = None,
    *,
    out: Annotated[
        Path | None, typer.Option(help="Write files into this folder instead of printing.")
    ] = None,
) -> None:
    """Print the JSON Schema of a kind of record or of the configuration, or the AsyncAPI document.

    Without a name all JSON Schemas are printed as one object; with --out everything is written.
    """
    with reporting_errors():
        files = schema_files()
        if name is not None and name not in files:
            raise ConfigError([f"no schema {name!r} (accepted: {', '.join(files)})"])
        chosen = files if name is None else {name: files[name]}
        if out is not None:
            for place, text in chosen.values():
                path = out / place
                write_whole(path, text.encode())
        elif name is None:
            typer.echo(json.dumps(all_schemas(), indent=2))
        else:
            typer.echo(files[name][1], nl=False)


def all_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schemas of all records and of the configuration, by short name."""
    schemas = {kind_of(topic): schema_of(topic) for topic in DESCRIBED}
    schemas["config"] = {"$schema": DIALECT, **RunConfig.model_json_schema()}
    return schemas


def schema_files() -> dict[str, tuple[str, str]]:
    """Return by short name each file's place in a folder, and its text."""
    files = {
        name: (
            "schema.json" if name == "config" else f"schemas/{name}.json",
            json.dumps(body, indent=2) + "\n",
        )
        for name, body in all_schemas().items()
    }
    text = yaml.safe_dump(asyncapi_document(), sort_keys=False, width=100, allow_unicode=True)
    files[ASYNCAPI] = ("asyncapi.yaml", text)
    return files
