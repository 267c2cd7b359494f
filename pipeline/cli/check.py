"""``maskstream check``: say whether a configuration can be run, without opening anything."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.errors import reporting_errors
from pipeline.cli.flags import Json
from pipeline.cli.output import write_line
from pipeline.config.loading import load_config
from pipeline.errors import ConfigError


def check(
    config: Annotated[Path, typer.Argument(help="A YAML configuration.")],
    *,
    json_lines: Json = False,
) -> None:
    """Check a configuration without opening anything."""
    with reporting_errors():
        try:
            resolved = load_config(config)
        except ConfigError as error:
            if json_lines:
                write_line("check", ok=False, problems=error.problems)
            raise
        streams, sinks = len(resolved.streams), len(resolved.sinks)
        if json_lines:
            write_line("check", ok=True, streams=streams, sinks=sinks)
        else:
            typer.echo(f"{config}: good: {streams} stream(s), {sinks} sink(s)")
