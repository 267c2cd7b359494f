from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from pipeline.cli.flag_groups import refuse_unfit, with_flag_groups
from pipeline.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Colours:
    ink: Annotated[str, typer.Option(help="Of the pen.")] = "black"
    pages: Annotated[int, typer.Option(min=1)] = 1


def invoke(*given: str):
    app = typer.Typer()

    @app.command()
    @with_flag_groups
    def write(*, title: str, colours: Colours, loud: bool = False) -> None:
        typer.echo(f"{title} {colours.ink} {colours.pages} {loud}")

    return CliRunner().invoke(app, list(given))


def test_fields_of_a_group_are_flags_with_their_defaults_and_bounds() -> None:
    assert invoke("A").output == "A black 1 False\n"
    assert invoke("A", "--ink", "red", "--pages", "3", "--loud").output == "A red 3 True\n"
    assert invoke("A", "--pages", "0").exit_code == 2
    assert "Of the pen." in invoke("--help").output


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["dry"], ""),
        (["wet", "--water", "1", "--brush", "a"], ""),
        (["dry", "--water", "0"], "--water: not with dry (accepted: wet)"),
        (["oil", "--water", "0"], "--water: not with oil (accepted: wet)"),
        (["dry", "--brush", "a"], "--brush: not with dry (accepted: wet, oil)"),
    ],
)
def test_flags_given_where_they_mean_nothing_are_refused(given: list[str], told: str) -> None:
    app = typer.Typer()

    @app.command()
    def paint(context: typer.Context, way: str, *, water: int = 0, brush: str = "a") -> None:
        refuse_unfit(context, way, {"wet": {"water", "brush"}, "dry": (), "oil": ["brush"]})

    error = CliRunner().invoke(app, given).exception
    assert (str(error) if isinstance(error, ConfigError) else "") == told
