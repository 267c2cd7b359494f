"""The command ``maskstream``: a table of its commands, each loaded when it is used.

A new command is one module of this package and one row of :data:`COMMANDS`. Loading this module, or
showing ``--help``, imports neither torch nor a connector's library.
"""

import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Any, cast

import typer
import typer.core
import typer.main
from typing_extensions import override

from pipeline.cli.errors import DEBUG_VARIABLE, log_level
from pipeline.cli.output import write_error
from pipeline.cli.stdio import StandardStreamError, empty_stdout, let_readers_leave
from pipeline.errors import ExitCode
from pipeline.observe.logs import set_up_logs
from pipeline.observe.metrics import package_version

# Name of the command to ``module:attribute``: a function for typer, or a Typer of subcommands.
COMMANDS: dict[str, str] = {
    "demo": "pipeline.cli.demo:demo",
    "run": "pipeline.cli.run:run",
    "check": "pipeline.cli.check:check",
    "segment": "pipeline.cli.segment:segment",
    "models": "pipeline.cli.models:models_app",
    "schema": "pipeline.cli.schema:schema",
    "eval": "pipeline.cli.evaluate:eval_app",
    "train": "pipeline.cli.train:train",
    "world": "pipeline.cli.world:world",
}


class CommandTable(typer.core.TyperGroup):
    """The group of all commands; importing one is put off until it is asked for."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401 - typer's own arguments
        super().__init__(**given)
        # typer lists the names and suggests the nearest one from here.
        self.commands = cast("dict[str, Any]", dict.fromkeys(COMMANDS))

    @override
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        target = COMMANDS.get(cmd_name)
        return None if target is None else build_command(cmd_name, target)


def build_command(name: str, target: str) -> Any:  # noqa: ANN401 - a command of typer's own click
    """Import ``module:attribute`` and return it as a command."""
    module, _, attribute = target.partition(":")
    loaded = getattr(import_module(module), attribute)
    if isinstance(loaded, typer.Typer):
        command = typer.main.get_group(loaded)
    else:
        alone = typer.Typer(add_completion=False)
        alone.command(name)(loaded)
        command = typer.main.get_command(alone)
    command.name = name
    return command


app = typer.Typer(
    name="maskstream",
    cls=CommandTable,
    help="Camera feeds in, masklets and events out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line."""
    let_readers_leave()
    try:
        try:
            app()
        except SystemExit as end:
            if not end.code:
                empty_stdout()
            raise
    except StandardStreamError as error:
        write_error(str(error))
        sys.exit(ExitCode.FAILED)
    finally:
        with suppress(StandardStreamError):  # told above, or something worse was
            empty_stdout()


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
    set_up_logs(level=log_level())
