"""No function over 60 lines, no file over 500. Run as a module, this prints the size table."""

import ast
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("pipeline", "models", "connectors", "tests")
FUNCTION_LINES = 60
FILE_LINES = 500


def _files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, its docstring not counted."""
    assert node.end_lineno is not None
    docstring = node.body[0] if ast.get_docstring(node) else None
    documented = (
        docstring.end_lineno - docstring.lineno + 1 if docstring and docstring.end_lineno else 0
    )
    return node.end_lineno - node.lineno + 1 - documented


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", _length(node)


def _num_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("folder", FOLDERS)
def test_functions_stay_short(folder: str) -> None:
    lengths = dict(row for path in _files(folder) for row in _functions(path))
    assert lengths
    assert {name: n for name, n in lengths.items() if n > FUNCTION_LINES} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_stay_short(folder: str) -> None:
    assert {
        str(p.relative_to(ROOT)): n for p in _files(folder) if (n := _num_lines(p)) > FILE_LINES
    } == {}


def _table() -> Iterator[str]:
    columns = (
        "folder",
        "files",
        "lines",
        "file median",
        "file max",
        "functions",
        "function median",
        "function max",
    )
    yield "  ".join(columns)
    for folder in FOLDERS:
        files = [_num_lines(path) for path in _files(folder)]
        functions = [length for path in _files(folder) for _, length in _functions(path)]
        middles = int(statistics.median(files)), int(statistics.median(functions))
        row = (
            folder,
            len(files),
            sum(files),
            middles[0],
            max(files),
            len(functions),
            middles[1],
            max(functions),
        )
        yield "  ".join(str(cell).rjust(len(name)) for cell, name in zip(row, columns, strict=True))


if __name__ == "__main__":
    sys.stdout.write("\n".join(_table()) + "\n")
