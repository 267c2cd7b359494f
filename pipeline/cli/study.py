"""``maskstream eval study``: tables and plots of what decides about quality."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from connectors.files.writing import write_whole
from pipeline.cli.errors import reporting_errors
from pipeline.cli.flag_groups import with_flag_groups
from pipeline.cli.flags import Json, ModelFlags
from pipeline.cli.output import progress_bar, write_line
from pipeline.errors import ConfigError
from pipeline.lab.data.worlds import HeldOutWorld
from pipeline.lab.studies.registry import ALL, STUDIES, StudyEntry, chosen_studies

if TYPE_CHECKING:
    from pipeline.config.sections.model import ModelConfig
    from pipeline.lab.studies.study import StudyResult

_NAMES = ", ".join(entry.name for entry in STUDIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFlags:
    """Flags that choose what a study is measured on."""

    seeds: Annotated[str, typer.Option(help="Held-out sets, such as 0,1,2.")] = "0,1,2"
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures or clips per setting and seed; each study has its own."),
    ] = None
    world: Annotated[
        HeldOutWorld | None,
        typer.Option(help="Which world, for studies that do not compare worlds."),
    ] = None


@with_flag_groups
def study(
    names: Annotated[list[str], typer.Argument(help=f"Some of {_NAMES}; or {ALL}.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for NAME.json, NAME.md and NAME.png.")],
    model: ModelFlags,
    scope: StudyFlags,
    json_lines: Json = False,
) -> None:
    """Tables and plots: presence, exemplars, size, light, held-out phrases and more."""
    with reporting_errors(json_lines=json_lines):
        for entry in chosen_studies(tuple(names)):
            run_study(entry, model, scope, out, json_output=json_lines)


def run_study(
    entry: StudyEntry, model: ModelFlags, scope: StudyFlags, out: Path, *, json_output: bool = False
) -> "StudyResult":
    """Run one study, write its files and show its table on stdout, or one line of JSON.

    Raises:
        ConfigError: If a flag, the model or its weights cannot be used.
        NotWritableError: If a file cannot be written.
    """
    from pipeline.lab.studies.plots import load_matplotlib
    from pipeline.lab.studies.study import StudyContext
    from pipeline.lab.studies.tables import to_fields

    load_matplotlib()
    seeds, chosen = _read_seeds(scope.seeds), model.to_config()
    with progress_bar(entry.name) as on_total:
        context = StudyContext(
            model=chosen, seeds=seeds, samples=scope.samples, world=scope.world, on_total=on_total
        )
        result = entry.load()(context)
    files = write_study(result, chosen, out)
    if json_output:
        write_line("study", **to_fields(result, chosen), files=[str(path) for path in files])
    else:
        _show(result, files)
    return result


def write_study(result: "StudyResult", model: "ModelConfig", out: Path) -> list[Path]:
    """Write ``NAME.json``, ``NAME.md`` and ``NAME.png``, and return their paths.

    Raises:
        NotWritableError: If a file cannot be written.
    """
    from connectors.pictures.stills import write_picture
    from pipeline.lab.studies.plots import draw_plot
    from pipeline.lab.studies.tables import to_json, to_markdown

    numbers, table, picture = (out / f"{result.name}{end}" for end in (".json", ".md", ".png"))
    write_whole(numbers, to_json(result, model).encode())
    write_whole(table, to_markdown(result).encode())
    if result.sheet is None:
        write_whole(picture, draw_plot(result))
    else:
        write_picture(picture, result.sheet)
    return [numbers, table, picture]


def _read_seeds(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise ConfigError([f"--seeds {text!r} (accepted: different numbers from 0, as in 0,1,2)"])
    return tuple(int(part) for part in parts)


def _show(result: "StudyResult", files: list[Path]) -> None:
    from pipeline.lab.studies.tables import to_markdown

    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(to_markdown(result))
    for path in files:
        console.print(f"  {path}")
