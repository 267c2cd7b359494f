"""What a replay would cost where exactly once asks for the same results again.

A worker that is killed has two ways back to its last commit: from a whole snapshot of that moment,
or from an older one, over frames whose results are there already and are not told again. The second
writes less, but its results must come out as before, whatever frames of other streams were in the
batch then: how often they do, and how long it takes, is measured here.
"""

import time
from dataclasses import dataclass
from statistics import median

import numpy as np

from models.build import build_sam3
from models.catalogue import MODELS
from models.protocols import FrameInput, Prediction
from models.sam3.tracking.session import Sam3Session
from tests.benchmarks.identities import FPS, MODEL, concepts_of, draw

NUM_STREAMS, NUM_FRAMES = 4, 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Streams that were told in batches of four, and each of them told again alone.

    Attributes:
        num_frames: Frames of all streams.
        num_other_masks: Frames on which a mask differs in a pixel at least.
        num_other_scores: Frames on which a score differs in the last bit at least.
        num_other_ids: Frames on which objects have other numbers.
        frame_ms: CPU time of a frame alone.
    """

    num_frames: int
    num_other_masks: int
    num_other_scores: int
    num_other_ids: int
    frame_ms: float


def measure_replay() -> Replay:
    """Measure it on held-out worlds of ``sam3-nano``."""
    model = build_sam3(MODEL, checkpoint=None, device="cpu")
    films = {f"cam-{n}": draw(n, num_frames=NUM_FRAMES) for n in range(NUM_STREAMS)}
    together = Sam3Session(*model, MODELS[MODEL].session)
    first: dict[str, list[Prediction]] = {name: [] for name in films}
    for name, film in films.items():
        together.open_stream(name, concepts_of(film))
    for k in range(NUM_FRAMES):
        batch = [_input(name, film[k].pixels, k) for name, film in films.items()]
        for told in together.step(batch):
            first[told.stream_id].append(told)
    num_masks = num_scores = num_ids = 0
    times: list[float] = []
    for name, film in films.items():
        alone = Sam3Session(*model, MODELS[MODEL].session)
        alone.open_stream(name, concepts_of(film))
        for k in range(NUM_FRAMES):
            begin = time.process_time()
            (told,) = alone.step([_input(name, film[k].pixels, k)])
            times.append((time.process_time() - begin) * 1000)
            before = first[name][k]
            num_ids += _ids(told) != _ids(before)
            num_masks += _masks(told) != _masks(before)
            num_scores += _scores(told) != _scores(before)
    return Replay(
        num_frames=NUM_STREAMS * NUM_FRAMES,
        num_other_masks=num_masks,
        num_other_scores=num_scores,
        num_other_ids=num_ids,
        frame_ms=round(median(times), 1),
    )


def _input(stream_id: str, pixels: np.ndarray, k: int) -> FrameInput:
    return FrameInput(stream_id=stream_id, pixels=pixels, time_s=k / FPS)


def _ids(told: Prediction) -> list[int]:
    return [seen.masklet_id for seen in told.masklets]


def _masks(told: Prediction) -> list[bytes | None]:
    return [str(seen.mask.run_lengths().compressed()).encode() for seen in told.masklets]


def _scores(told: Prediction) -> list[tuple[float, float]]:
    return [(seen.score, seen.occlusion_score) for seen in told.masklets]
