"""The reports of a training run: a log, pictures of predictions, curves."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from connectors.files.writing import write_whole
from connectors.pictures.stills import write_picture
from models.sam3.network.model import Sam3
from pipeline.lab.evaluation.gallery import lay_out
from pipeline.lab.training.recipe import Stage
from pipeline.lab.training.weight_metadata import LOG_FILE, read_rows

log = logging.getLogger("maskstream.training")
CURVES_FOLDER = "tensorboard"
COLUMNS = 4
Panel = Callable[[Sam3, Stage], list[NDArray[np.uint8]]]


class TrainingDisplay(Protocol):
    """Shows a run's progress to whoever started it."""

    def begin(self, *, step: int, total: int) -> None:
        """Take the step to begin behind, and the last one."""

    def show(self, step: int, row: Mapping[str, object]) -> None:
        """Take a row of the log: step, stage and the means since the row before."""

    def end(self) -> None:
        """Take leave; called once, also after an error."""


class LoggedProgress:
    """Writes rows to the log: the display where nobody watches."""

    def begin(self, *, step: int, total: int) -> None:
        """Log where the run stands."""
        log.info("step %d of %d", step, total)

    def show(self, step: int, row: Mapping[str, object]) -> None:
        """Log a row."""
        log.info("%s", json.dumps({"step": step} | dict(row)))

    def end(self) -> None:
        """Leave the log open."""


@dataclass(slots=True, kw_only=True)
class Reporter:
    """Writes ``log.jsonl``, ``pictures/``, TensorBoard curves if asked, and feeds a display.

    Attributes:
        out: Folder of the run.
        panel: Draws what the model predicts at present.
        has_curves: Whether to write TensorBoard curves.
        display: Shows the progress.
        is_quiet: Whether another process of the group reports.
    """

    out: Path
    panel: Panel
    has_curves: bool = False
    display: TrainingDisplay = field(default_factory=LoggedProgress)
    is_quiet: bool = False
    _curves: Any = None

    def begin(self, *, step: int, total: int) -> None:
        """Open everything; rows of the log beyond ``step`` were lost with the steps they tell of.

        Raises:
            ModuleNotFoundError: If curves are asked for and TensorBoard is not installed; it comes
                with the extra ``lab``.
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
        self.display.begin(step=step, total=total)

    def log(self, step: int, stage: Stage, means: Mapping[str, float]) -> None:
        """Write the means of the last steps."""
        if self.is_quiet:
            return
        row = {"step": step, "stage": stage.name} | {n: round(v, 5) for n, v in means.items()}
        with (self.out / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self._curves is not None:
            for name, value in means.items():
                self._curves.add_scalar(f"{stage.task}/{name}", value, step)
        self.display.show(step, row)

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
        self.display.end()
        if self._curves is not None:
            self._curves.close()


def _open_curves(folder: Path, step: int) -> Any:  # noqa: ANN401 - its type is an optional package's
    from torch.utils.tensorboard.writer import SummaryWriter

    # What was told of this step itself stays.
    return SummaryWriter(str(folder), purge_step=step + 1)
