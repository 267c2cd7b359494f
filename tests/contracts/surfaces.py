"""Where the frozen surfaces are and how they are read."""

import json
from pathlib import Path

import typer.main

from pipeline.cli.main import app
from pipeline.cli.schema import all_schemas

CONFIGS = Path(__file__).parents[2] / "configs"


def schema_files() -> list[Path]:
    """The generated files: one per kind of record, and the configuration's."""
    records = [name for name in all_schemas() if name != "config"]
    return [*(CONFIGS / "schemas" / f"{name}.json" for name in records), CONFIGS / "schema.json"]


def write_schemas() -> None:
    for path in schema_files():
        name = "config" if path.stem == "schema" else path.stem
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(all_schemas()[name], indent=2) + "\n")


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
