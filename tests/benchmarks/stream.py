"""``make bench-stream``: a whole run on one camera's film, decoding and records included."""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import av
import numpy as np
from rich.console import Console

from connectors.files.jsonl import JsonlSinkConfig, file_name
from connectors.record import Topic
from connectors.video.config import FileSourceConfig
from connectors.world.scene import World, WorldConfig
from pipeline.app import build_app
from pipeline.config.run import RunConfig
from tests.benchmarks.timing import machine

CONCEPTS = ("deer", "cow")
NUM_OBJECTS = 3
WARM_UP = 20
FPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTiming:
    """One film.

    Attributes:
        seed: Of its world.
        frames: That were processed.
        objects: Masklets on a frame, mean.
        frames_per_s: Over the whole run but for its first frames, which warm up.
    """

    seed: int
    frames: int
    objects: float
    frames_per_s: float


def main() -> None:
    """Measure several films and print each, then the median."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="number of films")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of a film")
    parser.add_argument("--json", action="store_true", help="lines of JSON")
    options = parser.parse_args()
    console = Console()
    timings: list[StreamTiming] = []
    for seed in range(options.seeds):
        with TemporaryDirectory() as folder:
            film = write_film(Path(folder) / "film.mp4", seed, options.seconds)
            timings.append(time_run(film, Path(folder) / "out", seed))
        if options.json:
            console.print_json(json.dumps({**machine(), **asdict(timings[-1])}), indent=None)
        else:
            console.print(timings[-1])
    if not options.json:
        rate = median(timing.frames_per_s for timing in timings)
        console.print(f"median {rate:.1f} frames/s, 640 x 360, 2 concepts:", machine())


def write_film(path: Path, seed: int, seconds: float) -> Path:
    """Draw a world with three objects of two concepts and encode it as H.264."""
    world = World(
        WorldConfig(
            seed=seed,
            width=640,
            height=360,
            fps=FPS,
            duration_s=seconds,
            min_objects=NUM_OBJECTS,
            max_objects=NUM_OBJECTS,
            concepts=CONCEPTS,
            night_probability=0.0,
            empty_probability=0.0,
        )
    )
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", FPS)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for number in range(world.num_frames):
            frame = av.VideoFrame.from_ndarray(world.render(number).pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def time_run(film: Path, out: Path, seed: int) -> StreamTiming:
    """Run the engine over a film as ``maskstream run`` does, and look at when results came."""
    config = RunConfig.model_validate(
        {
            "streams": [
                {"id": "camera", "source": FileSourceConfig(path=film), "concepts": [*CONCEPTS]}
            ],
            "sinks": [JsonlSinkConfig(folder=out)],
        }
    )
    app = build_app(config)
    turns: list[tuple[float, int]] = []
    summary = app.engine.run(
        lambda: turns.append((perf_counter(), app.engine.summary().num_processed))
    )
    frames = summary.num_processed
    begin, before = next((at, done) for at, done in turns if done >= WARM_UP)
    end, after = turns[-1]
    lines = (out / file_name(Topic.MASKLETS)).read_text().splitlines()
    shown = [len(json.loads(line)["objects"]) for line in lines]
    return StreamTiming(
        seed=seed,
        frames=frames,
        objects=float(np.mean(shown)),
        frames_per_s=(after - before) / (end - begin),
    )


if __name__ == "__main__":
    main()
