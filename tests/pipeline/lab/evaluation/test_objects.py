import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from models.common.masks import RunLengths
from pipeline.cli.main import app
from pipeline.errors import ConfigError
from pipeline.lab.data.datasets.problems import OnBad, Problems
from pipeline.lab.evaluation.object_scores import ClipJudge, object_scores
from pipeline.lab.evaluation.set_kinds import ClipSetName, SetRequest
from pipeline.lab.evaluation.sets import evaluate_files, evaluate_object_set, list_object_clips
from tests.media import write_video
from tests.pipeline.lab.evaluation.evaluation_sets import (
    SIDE,
    clip_frames,
    clip_shapes,
    mask_of,
    save,
    write_json,
    write_labels,
    write_object_files,
)


def ignore(_total: int):
    return lambda: None


def square(size: int, at: int = 0) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
    mask[at : at + size, at : at + size] = True
    return mask


@dataclass
class View:
    object_ids: tuple[int, ...]
    masks: np.ndarray


class KnowingSession:
    """Knows clip 0; ``shift`` moves what it says to the right. ``given`` notes its prompts."""

    def __init__(self, first_id: int, shift: int = 0) -> None:
        objects = clip_shapes(0)[1].values()
        self.shapes = {place: s for place, (_, s) in enumerate(objects, start=first_id)}
        self.shift = shift
        self.index = -1
        self.given: dict[int, int] = {}

    def push(self, pixels: np.ndarray) -> View:
        self.index += 1
        np.testing.assert_array_equal(pixels, clip_frames(0)[self.index])
        return self._view()

    def add_mask(self, frame_index: int, object_id: int, mask: np.ndarray) -> View:
        assert frame_index == self.index
        assert object_id not in self.given
        np.testing.assert_array_equal(mask, mask_of(self.shapes[object_id][frame_index]))
        self.given[object_id] = frame_index
        return self._view()

    def _view(self) -> View:
        masks = [mask_of(self.shapes[number][self.index]) for number in self.given]
        return View(tuple(self.given), np.roll(masks, self.shift, axis=-1))


LAYOUTS = {
    ClipSetName.DAVIS: ("JPEGImages/480p", "Annotations/480p"),
    ClipSetName.MOSE: ("val/JPEGImages", "val/Annotations"),
    ClipSetName.YOUTUBE_VOS: ("JPEGImages", "Annotations"),
}


@pytest.mark.parametrize("name", [*LAYOUTS, ClipSetName.SA_V])
def test_perfect_session_scores_one_and_its_files_do_too(tmp_path: Path, name: ClipSetName) -> None:
    root, out = tmp_path / "set", tmp_path / "out"
    if name in LAYOUTS:
        write_labels(root, *LAYOUTS[name])
    else:
        write_object_files(root)
    session = KnowingSession(first_id=0 if name is ClipSetName.SA_V else 1)
    request = SetRequest(root=root, predictions=out)
    report = evaluate_object_set(lambda _: session, request, name, on_total=ignore)
    assert report.official["J&F"] == 1.0
    assert session.index == len(clip_frames(0)) - 1
    (truth,) = (path.parent for path in root.rglob("clip") if "Annotations" in path.as_posix())
    again = evaluate_files((truth,), out, SetRequest())
    assert again.official["J&F"] == 1.0
    assert len(again.official["objects"]) >= len(report.official["objects"]) > 0


def test_first_masks_alone_are_no_truth_to_score_by(tmp_path: Path) -> None:
    layout = LAYOUTS[ClipSetName.MOSE]
    write_labels(tmp_path, *layout)
    for later in sorted((tmp_path / layout[1] / "clip").iterdir())[1:]:
        later.unlink()
    report = evaluate_object_set(
        lambda _: KnowingSession(first_id=1),
        SetRequest(root=tmp_path),
        ClipSetName.MOSE,
        on_total=ignore,
    )
    assert report.official["J&F"] is None
    assert dict(report.rows)["J&F"] is None
    assert "--save-predictions" in report.problems[0]


def test_shifted_session_scores_what_shifted_masks_overlap(tmp_path: Path) -> None:
    write_object_files(tmp_path)
    session = KnowingSession(first_id=0, shift=3)
    report = evaluate_object_set(
        lambda _: session, SetRequest(root=tmp_path), ClipSetName.SA_V, on_total=ignore
    )
    for one in report.official["objects"]:
        number, given = one["obj"], session.given[one["obj"]]
        marks = []
        for index in range(2, 10, 2):
            truth = mask_of(session.shapes[number][index])
            found = truth if index == given else np.roll(truth, 3, axis=1)
            union = np.count_nonzero(truth | found)
            if index >= given:
                marks.append(np.count_nonzero(truth & found) / union if union else 1.0)
        assert one["J"] == pytest.approx(np.mean(marks))


def test_first_and_last_annotated_frames_do_not_count() -> None:
    masks = {index: RunLengths.of(square(20)) for index in (0, 4, 8, 12)}
    judge = ClipJudge(clip="c", truth={1: masks}, counts_from_start=False)
    judge.add(0, {})
    judge.add(4, {1: square(20)})
    judge.add(6, {})
    judge.add(8, {1: square(10)})
    judge.add(12, {})
    (mark,) = judge.marks()
    assert (mark.num_frames, mark.j) == (2, pytest.approx((1 + 0.25) / 2))


@pytest.mark.parametrize(("from_start", "frames"), [(False, 2), (True, 4)])
def test_object_counts_from_its_first_appearance_or_from_the_start(
    from_start: bool, frames: int
) -> None:
    sizes = (0, 0, 0, 9, 9, 9)
    truth = {1: {index: RunLengths.of(square(size)) for index, size in enumerate(sizes)}}
    judge = ClipJudge(clip="c", truth=truth, counts_from_start=from_start)
    for index, size in enumerate(sizes):
        judge.add(index, {1: square(size)})
    assert object_scores(judge.marks()).objects[0].num_frames == frames


def test_object_that_never_shows_where_it_counts_is_left_out() -> None:
    truth = {1: {index: RunLengths.of(square(9 if index == 0 else 0)) for index in range(4)}}
    judge = ClipJudge(clip="c", truth=truth, counts_from_start=True)
    for index in range(4):
        judge.add(index, {})
    assert object_scores(judge.marks()).objects == ()


def test_clips_are_those_of_the_split(tmp_path: Path) -> None:
    write_labels(tmp_path, *LAYOUTS[ClipSetName.DAVIS])
    (tmp_path / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017" / "train.txt").write_text("clip\nother\n")
    problems = Problems(on_bad=OnBad.SKIP)
    clips = list_object_clips(tmp_path, ClipSetName.DAVIS, problems, split="train")
    assert [clip.name for clip in clips] == ["clip"]
    assert "other" in problems.lines[0]


def test_training_clips_of_sa_v_come_from_videos_and_json(tmp_path: Path) -> None:
    write_video(tmp_path / "sav_1.mp4", num_frames=9)
    height, width = 96, 128
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[:4, :4] = True
    content = {
        "video_frame_count": 9.0,
        "video_height": float(height),
        "video_width": float(width),
        "masklet_id": [7],
        "masklet": [[RunLengths.of(mask).compressed()]] * 3,
    }
    write_json(tmp_path / "sav_1_manual.json", content)
    problems = Problems(on_bad=OnBad.FAIL)
    (clip,) = list_object_clips(tmp_path, ClipSetName.SA_V_MANUAL, problems, split="")
    assert (len(clip.file_names), sum(1 for _ in clip.read_frames())) == (9, 9)
    assert sorted(clip.read_truth()[7]) == [0, 4, 8]


def test_colours_and_foreign_frames_are_told(tmp_path: Path) -> None:
    write_labels(tmp_path, *LAYOUTS[ClipSetName.MOSE])
    folder = tmp_path / "val" / "Annotations" / "clip"
    save(folder / "00003.png", np.zeros((SIDE, SIDE, 3), dtype=np.uint8))
    save(folder / "00004.png", np.zeros((9, 9), dtype=np.uint8))
    Image.fromarray(np.zeros((SIDE, SIDE), dtype=np.uint8)).save(folder / "77777.png")
    request = SetRequest(root=tmp_path)
    with pytest.raises(ConfigError) as error:
        evaluate_object_set(lambda _: KnowingSession(1), request, ClipSetName.MOSE, on_total=ignore)
    for reason in ("00003.png", "colours", "(9, 9)", "of no frame"):
        assert reason in str(error.value)


def test_missing_predictions_are_told(tmp_path: Path) -> None:
    write_labels(tmp_path, "JPEGImages", "Annotations")
    (tmp_path / "out" / "clip").mkdir(parents=True)
    with pytest.raises(ConfigError, match="missing"):
        evaluate_files((tmp_path / "Annotations",), tmp_path / "out", SetRequest())


def test_eval_video_follows_masks_of_davis_with_the_small_model(tmp_path: Path) -> None:
    write_labels(tmp_path, *LAYOUTS[ClipSetName.DAVIS], num_frames=3)
    given = ["eval", "video", "--data", "davis", "--root", str(tmp_path), "--device", "cpu"]
    result = CliRunner().invoke(app, [*given, "--json"])
    assert result.exit_code == 0, result.output
    fields = json.loads(result.stdout)
    assert fields["data"].startswith("davis, 1 clips")
    assert 0.3 < fields["measures"]["J&F"] <= 1.0


def test_eval_without_a_folder_is_bad_usage() -> None:
    result = CliRunner().invoke(app, ["eval", "video", "--data", "mose", "--root", "nowhere"])
    assert result.exit_code == 2
    assert "--root" in result.stderr
