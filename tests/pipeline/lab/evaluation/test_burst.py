import json
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.lab.data.datasets.problems import OnBad, Problems
from pipeline.lab.data.datasets.ytvis import read_clips
from pipeline.lab.evaluation.runs import TrackingRules
from pipeline.lab.evaluation.set_kinds import SetRequest
from pipeline.lab.evaluation.sets import evaluate_clip_set, evaluate_files
from tests.pipeline.lab.evaluation.evaluation_sets import (
    KnowingTracker,
    write_burst,
    write_json,
    write_veval,
)

RULES = TrackingRules(fps=2.0, confirm_frames=1)
SQUARE = "52207"  # 4 x 5 pixels: 2 x 2 of them, from the second row and column on


def ignore(_total: int):
    return lambda: None


@pytest.fixture(scope="module")
def burst(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_burst(tmp_path_factory.mktemp("burst"))


def small(folder: Path, **fields: object) -> Path:
    """A sequence of two frames: a hot dog on both, a cat on the second; no bird."""
    sequence = {
        "id": 7,
        "seq_name": "a",
        "dataset": "YFCC",
        "height": 4,
        "width": 5,
        "annotated_image_paths": ["1.jpg", "31.jpg"],
        "neg_category_ids": [3],
        "track_category_ids": {"1": 1, "4": 2},
        "segmentations": [{"1": {"rle": SQUARE}}, {"1": {"rle": SQUARE}, "4": {"rle": SQUARE}}],
    }
    names = ("hot_dog", "cat", "bird", "fish")
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    content = {"sequences": [sequence | fields], "categories": categories, "split": "test"}
    return write_json(folder / "burst.json", content)


def test_sequences_are_clips_with_tracks_phrases_and_what_is_not_there(tmp_path: Path) -> None:
    problems = Problems(on_bad=OnBad.FAIL)
    clips = read_clips(small(tmp_path, not_exhaustive_category_ids=[2]), problems)
    problems.settle()
    assert clips.phrases == {1: "hot dog", 3: "bird"}
    assert clips.has_negatives
    (clip,) = clips.clips
    assert clip.frames == ("test/YFCC/a/1.jpg", "test/YFCC/a/31.jpg")
    assert (clip.video_id, clip.asked) == (7, (1, 3))
    (dog,) = clip.truth
    assert [shape and shape.box_xywh for shape in dog.shapes] == [(1.0, 1.0, 2.0, 2.0)] * 2


def test_perfect_tracker_scores_one_as_on_the_same_clips_of_veval(
    tmp_path: Path, burst: Path
) -> None:
    request = SetRequest(
        root=burst.parent, annotations=(burst,), predictions=tmp_path / "masklets.json"
    )
    report = evaluate_clip_set(KnowingTracker(), request, RULES, title="burst", on_total=ignore)
    assert dict(report.rows)["pHOTA"] == pytest.approx(1.0)
    again = evaluate_files((burst,), tmp_path / "masklets.json", SetRequest())
    assert again.official == report.official
    veval = write_veval(tmp_path / "veval")
    same = SetRequest(root=veval.parent, annotations=(veval,))
    other = evaluate_clip_set(KnowingTracker(), same, RULES, title="veval", on_total=ignore)
    assert report.rows == other.rows


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"segmentations": [{}]}, "segmentations of 1 entries"),
        ({"segmentations": [{}, {"9": {"rle": SQUARE}}]}, "frame 1: track '9' has no category"),
        ({"segmentations": [{"1": {"rle": "5"}}, {}]}, "frame 0, track 1: run lengths"),
        ({"segmentations": [{"1": {}}, {}]}, "frame 0, track 1: rle None"),
        ({"track_category_ids": {"1": 8, "4": 2}}, "track 1 of category 8"),
        ({"track_category_ids": None}, "accepted: an object"),
        ({"neg_category_ids": ["bird"]}, "neg_category_ids"),
        ({"annotated_image_paths": []}, "annotated_image_paths"),
        ({"height": 0}, "height and width"),
    ],
)
def test_broken_sequences_are_told_by_file_and_id(
    tmp_path: Path, fields: dict[str, object], told: str
) -> None:
    path = small(tmp_path, **fields)
    problems = Problems(on_bad=OnBad.SKIP)
    assert not read_clips(path, problems).clips
    (line,) = problems.lines
    assert line.startswith(f"{path}: sequence 7: ")
    assert told in line


def test_sequences_without_their_pictures_are_refused(tmp_path: Path, burst: Path) -> None:
    content = json.loads(burst.read_text())
    path = write_json(tmp_path / "test.json", content | {"split": "test"})
    request = SetRequest(root=burst.parent, annotations=(path,))
    with pytest.raises(ConfigError, match=r"pictures missing, 'test/World/clip-0/frame0000.png'"):
        evaluate_clip_set(KnowingTracker(), request, RULES, title="burst", on_total=ignore)
