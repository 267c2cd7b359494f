"""The command ``maskstream``. Importing this loads no model and no connector."""

import json
import logging
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from connectors.record import Topic
from pipeline.cli.errors import DEBUG_VARIABLE, FAILED, is_debugging, telling
from pipeline.cli.evaluate import eval_app
from pipeline.cli.flag_groups import refuse_unfit
from pipeline.cli.flags import (
    DEFAULT_STREAM_ID,
    Checkpoint,
    Device,
    Json,
    ModelName,
    OneCamera,
    Overrides,
    apply_overrides,
    config_from_flags,
)
from pipeline.cli.models import models_app
from pipeline.cli.output import Progress, show_summary, write_error, write_line
from pipeline.cli.segment import segment
from pipeline.cli.train import train
from pipeline.cli.world import world
from pipeline.config.loading import load_config
from pipeline.config.run import RunConfig
from pipeline.errors import ConfigError
from pipeline.observe.logs import set_up_logs
from pipeline.observe.metrics import package_version
from pipeline.records.schema import RECORD_TYPES, schema_of

if TYPE_CHECKING:
    from pipeline.engine.engine import Engine


app = typer.Typer(
    name="maskstream",
    help="Camera feeds in, masklets and events out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(models_app, name="models")
app.add_typer(eval_app, name="eval")
app.command()(segment)
app.command()(train)
app.command()(world)

MetricsPort = Annotated[
    int | None, typer.Option(help="Port for /metrics, /healthz, /readyz; 0 switches it off.")
]


def main() -> None:
    """Run the command line."""
    app()


def _show_version(is_wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the flag's value
    if is_wanted:
        typer.echo(f"maskstream {package_version()}")
        raise typer.Exit


@app.callback()
def set_up(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and all logs.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Camera feeds in, masklets and events out."""
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


@app.command()
def run(  # noqa: PLR0913 - one parameter per flag
    context: typer.Context,
    config: Annotated[Path | None, typer.Argument(help="A YAML configuration.")] = None,
    *,
    source: Annotated[
        str | None, typer.Option(help="rtsp://…, a file or folder, kafka://host:port/topic, …")
    ] = None,
    concept: Annotated[
        list[str] | None, typer.Option(help="What to look for; may be given again.")
    ] = None,
    sink: Annotated[
        list[str] | None,
        typer.Option(help="kafka://host:port, jsonl:FOLDER, FILE.mp4, FILE.png, console."),
    ] = None,
    zone: Annotated[
        list[str] | None, typer.Option(help="'gate=0.1,0.2 0.9,0.2 0.5,0.9'; may be given again.")
    ] = None,
    stream_id: Annotated[
        str, typer.Option(help="Name of the stream: camera, or * (every key) for Kafka.")
    ] = DEFAULT_STREAM_ID,
    max_fps: Annotated[float | None, typer.Option(help="Look at no more frames a second.")] = None,
    model: ModelName[str | None] = None,
    checkpoint: Checkpoint = None,
    device: Device[str | None] = None,
    metrics_port: MetricsPort = None,
    json_lines: Json = False,
) -> None:
    """Watch streams until they end: from a configuration, or one camera from flags."""
    overrides = Overrides(
        model=model, checkpoint=checkpoint, device=device, metrics_port=metrics_port
    )
    with telling(json_lines=json_lines):
        if (config is None) == (source is None):
            raise ConfigError(["give either a configuration file or --source (accepted: one)"])
        if config is not None:
            camera = "concept", "sink", "zone", "max_fps", "stream_id"
            refuse_unfit(context, "a configuration", {"a configuration": (), "--source": camera})
            resolved = apply_overrides(load_config(config), overrides)
        else:
            flags = OneCamera(
                source=source or "",
                concepts=concept or (),
                sinks=sink or (),
                zones=zone or (),
                stream_id=stream_id,
                max_fps=max_fps,
                json_lines=json_lines,
            )
            resolved = config_from_flags(flags, overrides)
        _run_to_end(resolved, json_lines=json_lines)


@app.command()
def demo(
    *,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo-out"),
    checkpoint: Checkpoint = None,
    device: Device[str | None] = None,
    json_lines: Json = False,
) -> None:
    """Watch a synthetic meadow: records, an annotated video and a picture, without any set-up."""
    from pipeline.cli.demo import demo_config

    with telling(json_lines=json_lines):
        overrides = Overrides(checkpoint=checkpoint, device=device)
        _run_to_end(apply_overrides(demo_config(out), overrides), json_lines=json_lines)


@app.command()
def check(
    config: Annotated[Path, typer.Argument(help="A YAML configuration.")],
    *,
    json_lines: Json = False,
) -> None:
    """Check a configuration without opening anything."""
    with telling():
        try:
            resolved = load_config(config)
            from pipeline.app import check_concept_model

            check_concept_model(resolved.model.name)
        except ConfigError as error:
            if json_lines:
                write_line("check", ok=False, problems=error.problems)
            raise
        streams, sinks = len(resolved.streams), len(resolved.sinks)
        if json_lines:
            write_line("check", ok=True, streams=streams, sinks=sinks)
        else:
            typer.echo(f"{config}: good: {streams} stream(s), {sinks} sink(s)")


@app.command()
def schema(
    name: Annotated[
        str | None, typer.Argument(help="masklets, tracks, events, status or config.")
    ] = None,
) -> None:
    """Print the JSON Schema of a kind of record, or of the configuration; without a name, all."""
    with telling():
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


def _run_to_end(config: RunConfig, *, json_lines: bool) -> None:
    from pipeline.app import build_app, serve_observations
    from pipeline.cli.demo import list_files

    level = logging.DEBUG if is_debugging() else logging.WARNING
    set_up_logs(style=config.observe.log_format, level=level)
    built = build_app(config)
    with serve_observations(config, built) as port, _stopping_on_signals(built.engine):
        if port is not None:
            address = f"http://{config.observe.host}:{port}/metrics"
            logging.getLogger("maskstream").warning("metrics are at %s", address)
        with Progress(json_lines=json_lines) as progress:

            def on_turn() -> None:
                if progress.is_due():
                    progress.show(built.engine.summary())

            summary = built.engine.run(on_turn)
    show_summary(summary, files=list_files(config), json_lines=json_lines)
    if not summary.is_good:
        for stream in summary.streams:
            if stream.error is not None:
                write_error(stream.error)
        raise typer.Exit(FAILED)


@contextmanager
def _stopping_on_signals(engine: "Engine") -> Generator[None]:
    """Let the first SIGINT or SIGTERM end the run in order, and a second one at once."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(_number: int, _frame: object) -> None:
        engine.stop()
        restore()

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        restore()
