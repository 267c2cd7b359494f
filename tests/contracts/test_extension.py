"""What is added from outside: one module and one row."""

import sys
import textwrap

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import COMMANDS, app


@pytest.fixture
def new_module(tmp_path, monkeypatch):
    """Write a module that can be imported for the time of the test."""

    def write(name: str, code: str) -> str:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


def test_a_command_is_one_module_and_one_row(new_module, monkeypatch):
    name = new_module(
        "added_command",
        '''
        import typer

        def greet(name: str, *, loud: bool = False) -> None:
            """Greet somebody."""
            typer.echo(f"hello {name}{'!' if loud else ''}")
        ''',
    )
    monkeypatch.setitem(COMMANDS, "greet", f"{name}:greet")
    done = CliRunner().invoke(app, ["greet", "Ada", "--loud"])
    assert (done.exit_code, done.stdout) == (0, "hello Ada!\n")
    assert "Greet somebody." in CliRunner().invoke(app, ["--help"]).stdout
