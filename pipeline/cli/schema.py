"""``maskstream schema``: what records and configuration look like, for programs."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from connectors.files.writing import write_whole
from connectors.kafka.config import KafkaSinkConfig, TopicsConfig
from pipeline.cli.errors import reporting_errors
from pipeline.config.loading import load_config
from pipeline.config.run import RunConfig
from pipeline.errors import ConfigError
from pipeline.records.asyncapi import asyncapi_document
from pipeline.records.json_schema import DESCRIBED, DIALECT, kind_of, schema_of
from pipeline.records.schema import RECORD_TYPES

ASYNCAPI = "asyncapi"
AUTH_VARIABLE = "MASKSTREAM_REGISTRY_AUTH"


def schema(
    name: Annotated[
        str | None,
        typer.Argument(help="masklets, tracks, events, status, dlq, config or asyncapi."),
    ] = None,
    *,
    out: Annotated[
        Path | None, typer.Option(help="Write files into this folder instead of printing.")
    ] = None,
    register: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help=f"Register those of records at a schema registry; {AUTH_VARIABLE}=user:password "
            "in the environment, if it asks for them.",
        ),
    ] = None,
    topics_of: Annotated[
        Path | None,
        typer.Option(help="Configuration whose Kafka sinks name the topics, for --register."),
    ] = None,
) -> None:
    """Print the JSON Schema of a kind of record or of the configuration, or the AsyncAPI document.

    Without a name all JSON Schemas are printed as one object; with --out everything is written.
    """
    with reporting_errors():
        if register is not None:
            register_records(register, name, out=out, config=topics_of)
            return
        if topics_of is not None:
            raise ConfigError(["--topics-of goes with --register alone (accepted: both)"])
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


def register_records(url: str, name: str | None, *, out: Path | None, config: Path | None) -> None:
    """Register the schemas of records, or of one kind, under ``<topic>-value``.

    Raises:
        ConfigError: The configuration cannot be used, or the flags do not go together.
        connectors.errors.RegistryError: The registry does not take them.
    """
    kinds = {kind_of(topic): topic for topic in RECORD_TYPES}  # dead letters are any bytes
    if out is not None:
        raise ConfigError(["--out does not go with --register (accepted: one of them)"])
    if name is not None and name not in kinds:
        accepted = ", ".join(kinds)
        raise ConfigError([f"no records {name!r} with a schema on Kafka (accepted: {accepted})"])
    from connectors.kafka.schema_registry import register_schemas

    chosen = kinds.values() if name is None else [kinds[name]]
    ids = register_schemas(
        url,
        {
            f"{topics.name_of(kind)}-value": schema_of(kind)
            for topics in _topics_of(config)
            for kind in chosen
        },
        auth=os.environ.get(AUTH_VARIABLE, ""),
    )
    for subject, number in ids.items():
        typer.echo(f"{subject}: id {number}")


def _topics_of(config: Path | None) -> list[TopicsConfig]:
    if config is None:
        return [TopicsConfig()]
    sinks = [sink for sink in load_config(config).sinks if isinstance(sink, KafkaSinkConfig)]
    if not sinks:
        raise ConfigError([f"{config}: no sink of type kafka (accepted: one at least)"])
    return [sink.topics for sink in sinks]


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
