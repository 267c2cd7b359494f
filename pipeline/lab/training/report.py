"""What a training run tells while it goes on: a log, pictures of predictions, curves."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from connectors.files.writing import write_whole
from connectors.pictures.stills import write_picture
from models.sam3.network.model import Sam3
from pipeline.cli.output import write_line
from pipeline.errors import ConfigError
from pipeline.lab.evaluation.gallery import lay_out
from pipeline.lab.training.recipe import Stage
from pipeline.lab.training.weight_metadata import LOG_FILE, read_rows

log = logging.getLogger("maskstream.training")
CURVES_FOLDER = "tensorboard"
COLUMNS = 4
Panel = Callable[[Sam3, Stage], list[NDArray[np.uint8]]]


@dataclass(slots=True, kw_only=True)
class Reporter:
    """Writes ``log.jsonl``, ``pictures/``, TensorBoard curves if asked, and progress for people.

    Attributes:
        out: Folder of the run.
        panel: Draws what the model predicts at present.
        has_curves: Whether to write TensorBoard curves.
        json_lines: Whether to tell progress as JSON lines on stdout.
        is_quiet: Whether this process is not the one that tells.
    """

    out: Path
    panel: Panel
    has_curves: bool = False
    json_lines: bool = False
    is_quiet: bool = False
    _curves: Any = None
    _bar: Progress | None = None

    def begin(self, *, step: int, total: int) -> None:
        """Open everything; rows of the log beyond ``step`` were lost with the steps they tell of.

        Raises:
            ConfigError: If curves are asked for and TensorBoard is not installed.
        """
        if self.is_quiet:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / LOG_FILE
        if path.is_file():
            kept = "".join(f"{json.dumps(row)}\n" for row in read_rows(path, upto=step))
            write_whole(path, kept.encode())
        if self.has_curves:
            self._curves = _open_curves(self.out / CURVES_FOLDER, step)
        console = Console(stderr=True)
        if console.is_terminal and not self.json_lines:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=console,
            )
            self._bar.start()
            self._bar.add_task("training", total=total, completed=step)

    def log(self, step: int, stage: Stage, means: Mapping[str, float]) -> None:
        """Tell the means of the last steps."""
        if self.is_quiet:
            return
        row = {"step": step, "stage": stage.name} | {n: round(v, 5) for n, v in means.items()}
        with (self.out / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self._curves is not None:
            for name, value in means.items():
                self._curves.add_scalar(f"{stage.task}/{name}", value, step)
        if self.json_lines:
            write_line("training", **row)
        elif self._bar is not None:
            shown = f"{stage.name} loss {means['loss']:.3f}"
            self._bar.update(self._bar.task_ids[0], completed=step, description=shown)
        else:
            log.info("%s", json.dumps(row))

    def show(self, step: int, stage: Stage, model: Sam3) -> None:
        """Draw what the model predicts now into ``pictures/``."""
        if self.is_quiet:
            return
        sheet = lay_out(self.panel(model, stage), COLUMNS)
        write_picture(self.out / "pictures" / f"{step:07d}.png", sheet)
        if self._curves is not None:
            self._curves.add_image(stage.task, sheet, step, dataformats="HWC")

    def end(self) -> None:
        """Close everything."""
        if self._bar is not None:
            self._bar.stop()
        if self._curves is not None:
            self._curves.close()


def _open_curves(folder: Path, step: int) -> Any:  # noqa: ANN401 - its type is an optional package's
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            ["--curves needs TensorBoard, which is not installed (accepted: maskstream[curves])"]
        ) from error
    # What was told of this step itself stays.
    return SummaryWriter(str(folder), purge_step=step + 1)
