"""The demo: a synthetic meadow with a path, watched by the model that ships with the package."""

from pathlib import Path

from connectors.config import (
    JsonlSinkConfig,
    PictureSinkConfig,
    VideoSinkConfig,
    WorldSourceConfig,
)
from pipeline.config.run import RunConfig

VIDEO_NAME, PICTURE_NAME = "demo.mp4", "demo.png"


def demo_config(folder: Path) -> RunConfig:
    """Return what ``configs/pipelines/demo.yaml`` says, with results in ``folder``."""
    clearing = [(0.55, 0.45), (1.0, 0.45), (1.0, 1.0), (0.55, 1.0)]
    stream = {
        "id": "meadow",
        "source": WorldSourceConfig(preset="demo"),
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
                JsonlSinkConfig(folder=folder, append=False),
                VideoSinkConfig(path=folder / VIDEO_NAME, fps=10.0),
                PictureSinkConfig(path=folder / PICTURE_NAME),
            ],
        }
    )


def list_files(config: RunConfig) -> list[Path]:
    """Return the files that a run's sinks have left, by name."""
    found: set[Path] = set()
    for sink in config.sinks:
        if isinstance(sink, JsonlSinkConfig):
            found.update(sink.folder.glob("*.jsonl"))
        elif isinstance(sink, VideoSinkConfig | PictureSinkConfig):
            stem, _, _ = sink.path.name.partition("{stream_id}")
            pattern = f"{stem}*{sink.path.suffix}" if stem != sink.path.name else sink.path.name
            found.update(sink.path.parent.glob(pattern))
    return sorted(found)
