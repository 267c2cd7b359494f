"""``maskstream demo``: a synthetic meadow, watched by the model that ships with the package."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.errors import reporting_errors
from pipeline.cli.flags import Checkpoint, Device, Json, Overrides, apply_overrides
from pipeline.cli.run import run_to_end
from pipeline.config.run import RunConfig

VIDEO_NAME, PICTURE_NAME = "demo.mp4", "demo.png"


def demo(
    *,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo-out"),
    checkpoint: Checkpoint = None,
    device: Device[str | None] = None,
    json_lines: Json = False,
) -> None:
    """Watch a synthetic meadow: records, an annotated video and a picture, without any set-up."""
    with reporting_errors(json_lines=json_lines):
        overrides = Overrides(checkpoint=checkpoint, device=device)
        config = apply_overrides(demo_config(out), overrides)
        # Nothing is connected that could be lost: the progress line says all there is.
        run_to_end(config, json_lines=json_lines, level=logging.WARNING)


def demo_config(folder: Path) -> RunConfig:
    """Return what ``configs/pipelines/demo.yaml`` says, with results in ``folder``."""
    clearing = [(0.55, 0.45), (1.0, 0.45), (1.0, 1.0), (0.55, 1.0)]
    stream = {
        "id": "meadow",
        "source": {"type": "world", "preset": "demo"},
        "concepts": ["deer", "car", "turkey"],
        "zones": [{"name": "clearing", "polygon": clearing}],
        "rules": [
            {"type": "appear", "name": "seen"},
            {"type": "disappear", "name": "out of sight", "after_s": 0.5},
            {"type": "enter", "name": "enters clearing", "zone": "clearing"},
            {"type": "leave", "name": "leaves clearing", "zone": "clearing"},
            {"type": "dwell", "name": "stays in clearing", "zone": "clearing", "dwell_s": 3.0},
        ],
    }
    return RunConfig.model_validate(
        {
            "deployment": "demo",
            "streams": [stream],
            "sinks": [
                {"type": "jsonl", "folder": folder, "append": False},
                {"type": "video", "path": folder / VIDEO_NAME, "fps": 10.0, "overwrite": True},
                {"type": "picture", "path": folder / PICTURE_NAME, "overwrite": True},
            ],
        }
    )
