"""``maskstream train``: trains or fine-tunes a model by a recipe."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from connectors.errors import NotWritableError
from pipeline.cli.errors import reporting_errors
from pipeline.cli.flags import Device, Json, ModelFlags
from pipeline.cli.output import write_line
from pipeline.errors import ConfigError
from pipeline.lab.training.recipe import Recipe

if TYPE_CHECKING:
    from pipeline.lab.training.report import TrainingDisplay


def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe, see configs/recipes.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder of checkpoints, log and pictures.")],
    device: Device[str | None] = None,
    curves: Annotated[bool, typer.Option("--curves", help="Write TensorBoard curves too.")] = False,
    json_lines: Json = False,
) -> None:
    """Train or fine-tune by a recipe; started again, it goes on where it was stopped.

    The averaged weights are in OUT/model.safetensors at every moment, to be given as --checkpoint.
    On several GPUs: torchrun --nproc-per-node N -m pipeline train RECIPE --out OUT.
    """
    with reporting_errors(json_lines=json_lines):
        run_recipe(recipe, out=out, device=device, curves=curves, json_lines=json_lines)


def run_recipe(
    path: Path, *, out: Path, device: str | None, curves: bool, json_lines: bool
) -> None:
    """Run a recipe to its end.

    Raises:
        ConfigError: If it cannot be run, or its state cannot be written.
    """
    from models.catalogue import VOCABULARY_FILE
    from models.sam3.vocabulary import open_vocabulary
    from pipeline.lab.training.build import build_run, make_panel, vocabulary_folder
    from pipeline.lab.training.distributed import join_processes
    from pipeline.lab.training.loop import train as train_run
    from pipeline.lab.training.report import Reporter
    from pipeline.model_building import choose_device

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe, text = Recipe.load(path), path.read_text(encoding="utf-8")
    # Left out, every process of a group takes its own.
    chosen = None if device is None else choose_device(ModelFlags(device=device).to_config().device)
    with join_processes(chosen) as group:
        run = build_run(recipe, out=out, group=group, text=text)
        report = Reporter(
            out=out,
            panel=make_panel(run),
            has_curves=curves,
            display=_choose_display(json_lines=json_lines),
            is_quiet=not group.is_leader,
        )
        try:
            if group.is_leader:
                out.mkdir(parents=True, exist_ok=True)
                # Weights are of use with their vocabulary beside them only.
                vocabulary = open_vocabulary(vocabulary_folder(recipe))
                vocabulary.save(str(out / VOCABULARY_FILE))
            train_run(run, report)
            if group.is_leader:
                _report_end(recipe, out, json_lines=json_lines)
        except (OSError, NotWritableError) as error:
            raise ConfigError(
                [f"cannot write to {str(out)!r}: {error}; the last whole checkpoint is still there"]
            ) from error
        finally:
            report.end()


def _report_end(recipe: Recipe, out: Path, *, json_lines: bool) -> None:
    from models.catalogue import WEIGHTS_FILE

    if json_lines:
        write_line("trained", steps=recipe.total_steps, weights=out / WEIGHTS_FILE)
    else:
        typer.echo(f"{recipe.total_steps} steps: {out / WEIGHTS_FILE}")


class _JsonProgress:
    """Rows of the log as JSON lines on stdout."""

    def begin(self, *, step: int, total: int) -> None:
        write_line("begin", step=step, total=total)

    def show(self, step: int, row: Mapping[str, object]) -> None:
        write_line("training", **{"step": step, **row})

    def end(self) -> None:
        """Leave stdout open."""


class _BarProgress:
    """A bar on a terminal's stderr."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
        )

    def begin(self, *, step: int, total: int) -> None:
        self._bar.start()
        self._bar.add_task("training", total=total, completed=step)

    def show(self, step: int, row: Mapping[str, object]) -> None:
        shown = f"{row['stage']} loss {row['loss']:.3f}"
        self._bar.update(self._bar.task_ids[0], completed=step, description=shown)

    def end(self) -> None:
        self._bar.stop()


def _choose_display(*, json_lines: bool) -> "TrainingDisplay":
    from pipeline.lab.training.report import LoggedProgress

    console = Console(stderr=True)
    if json_lines:
        return _JsonProgress()
    return _BarProgress(console) if console.is_terminal else LoggedProgress()
