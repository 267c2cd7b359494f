import json
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.lab.data.datasets.problems import OnBad
from pipeline.lab.evaluation.held_out import is_counted
from pipeline.lab.evaluation.runs import TrackingRules
from pipeline.lab.evaluation.set_kinds import SetRequest
from pipeline.lab.evaluation.sets import evaluate_clip_set, evaluate_files, evaluate_picture_set
from tests.pipeline.lab.evaluation.evaluation_sets import (
    CLIPS,
    PICTURES,
    KnowingTracker,
    clip_shapes,
    perfect_predictions,
    write_json,
    write_saco,
    write_veval,
)
from tests.pipeline.lab.oracles import OracleDetector

GOLDEN = Path(__file__).parent / "golden"
SKIP = SetRequest(on_bad=OnBad.SKIP)


def ignore(_total: int):
    return lambda: None


@pytest.fixture(scope="module")
def veval(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotations of clips, with the pictures beside them."""
    return write_veval(tmp_path_factory.mktemp("veval"))


@pytest.fixture(scope="module")
def saco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotations of pictures, with the pictures beside them."""
    return write_saco(tmp_path_factory.mktemp("saco"))


def change(path: Path, to: Path, kind: str, place: int, **fields: object) -> Path:
    """Write a file with one item changed; None takes a field away."""
    content = json.loads(path.read_text())
    item = content[kind][place] | fields
    content[kind][place] = {name: value for name, value in item.items() if value is not None}
    return write_json(to / "changed.json", content)


def test_masklets_score_what_the_official_evaluator_says() -> None:
    # Made from a held-out world and scored by sam3/eval/saco_veval_eval.py.
    folder = GOLDEN / "veval"
    report = evaluate_files((folder / "truth.json",), folder / "predictions.json", SetRequest())
    expected = json.loads((folder / "results.json").read_text())
    found = report.official["dataset_results"]
    wanted = expected["dataset_results"]
    assert len(wanted) == 54
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=1e-6)


def test_each_question_scores_what_the_official_evaluator_says() -> None:
    folder = GOLDEN / "veval"
    report = evaluate_files((folder / "truth.json",), folder / "predictions.json", SetRequest())
    expected = json.loads((folder / "results.json").read_text())["video_np_results"]
    found = {
        (one["video_id"], one["category_id"]): one for one in report.official["video_np_results"]
    }
    assert len(expected) == len(found) > 20
    for wanted in expected:
        key = wanted["video_id"], wanted["category_id"]
        assert found[key] == pytest.approx(wanted, abs=1e-6)


def test_pictures_score_what_the_official_evaluator_says() -> None:
    # Three annotators who disagree; scored by sam3/eval/cgf1_eval.py.
    folder = GOLDEN / "saco"
    truth = tuple(folder / f"annotator_{name}.json" for name in "abc")
    report = evaluate_files(truth, folder / "predictions.json", SetRequest())
    expected = json.loads((folder / "results.json").read_text())
    assert len(expected) == 52
    assert report.official == pytest.approx(expected, abs=1e-12)


def test_perfect_detector_scores_one_on_pictures_and_its_file_too(
    tmp_path: Path, saco: Path
) -> None:
    detector = OracleDetector(settings=PICTURES, is_found=is_counted)
    request = SetRequest(
        root=saco.parent, annotations=(saco,), predictions=tmp_path / "out" / "answers.json"
    )
    report = evaluate_picture_set(detector, request, title="set", on_total=ignore)
    assert report.official["cgF1_eval_segm_cgF1"] == pytest.approx(1.0, abs=1e-3)
    assert report.seconds is not None
    again = evaluate_files((saco,), tmp_path / "out" / "answers.json", SetRequest())
    assert again.official == report.official


def test_detector_that_alarms_once_loses_the_correlation_alone(tmp_path: Path, saco: Path) -> None:
    asked = json.loads(saco.read_text())
    there = {one["image_id"] for one in asked["annotations"]}
    quiet = next(one["id"] for one in asked["images"] if one["id"] not in there)
    answers = [{**one, "score": 0.9} for one in asked["annotations"]]
    answers.append({**answers[0], "image_id": quiet})
    report = evaluate_files((saco,), write_json(tmp_path / "p.json", answers), SetRequest())
    hits, silences = len(there), len(asked["images"]) - len(there) - 1
    mcc = hits * silences / ((hits + 1) * hits * (silences + 1) * silences) ** 0.5
    assert report.official["cgF1_eval_segm_IL_MCC"] == pytest.approx(mcc, abs=1e-6)
    assert report.official["cgF1_eval_segm_positive_micro_F1"] == pytest.approx(1.0, abs=1e-3)


def test_perfect_tracker_scores_one_on_clips_and_its_file_too(tmp_path: Path, veval: Path) -> None:
    request = SetRequest(
        root=veval.parent,
        annotations=(veval,),
        predictions=tmp_path / "masklets.json",
        results=tmp_path / "results.json",
    )
    rules = TrackingRules(fps=2.0, confirm_frames=1)
    report = evaluate_clip_set(KnowingTracker(), request, rules, title="set", on_total=ignore)
    measures = dict(report.rows)
    for name in ("pHOTA", "TETA", "mAP", "AP of all phrases", "IDF1", "MOTA"):
        assert measures[name] == pytest.approx(1.0)
    assert measures["cgF1"] == pytest.approx(1.0, abs=1e-3)
    again = evaluate_files((veval,), tmp_path / "masklets.json", SetRequest())
    assert again.official == report.official == json.loads((tmp_path / "results.json").read_text())


@pytest.mark.parametrize("phrases_at_once", [1, 9])
def test_tracker_that_loses_objects_halfway_scores_by_hand(
    tmp_path: Path, veval: Path, phrases_at_once: int
) -> None:
    tracker = KnowingTracker(is_lost=lambda _, index: index >= 6)
    request = SetRequest(root=veval.parent, annotations=(veval,))
    rules = TrackingRules(fps=2.0, phrases_at_once=phrases_at_once, confirm_frames=1)
    report = evaluate_clip_set(tracker, request, rules, title="set", on_total=ignore)
    kept = total = 0
    for number in range(CLIPS.num_clips):
        for _, shapes in clip_shapes(number)[1].values():
            kept += sum(shape is not None for shape in shapes[:6])
            total += sum(shape is not None for shape in shapes)
    assert 0 < kept < total
    assert report.counts["masks missed"] == total - kept
    assert dict(report.rows)["pDetA"] == pytest.approx(kept / total)
    assert tracker.streams == {}


def test_frames_of_another_object_cost_identity_but_no_detection(
    tmp_path: Path, veval: Path
) -> None:
    predictions = perfect_predictions(veval)
    whole = next(one for one in predictions if sum(s is not None for s in one["segmentations"]) > 3)
    shown = [place for place, one in enumerate(whole["segmentations"]) if one is not None]
    cut = shown[len(shown) // 2]
    names = ("segmentations", "bboxes", "areas")
    first = whole | {n: whole[n][:cut] + [None] * (len(whole[n]) - cut) for n in names}
    second = whole | {n: [None] * cut + whole[n][cut:] for n in names}
    rest = [one for one in predictions if one is not whole]
    path = write_json(tmp_path / "cut.json", [*rest, first, second])
    report = evaluate_files((veval,), path, SetRequest())
    measures = dict(report.rows)
    assert report.counts["identity switches"] == 1
    assert measures["pDetA"] == pytest.approx(1.0)
    assert measures["pAssA"] < 1.0


BROKEN_CLIPS = {
    "size": ("annotations", {"segmentations": [{"size": [9, 9], "counts": "0"}] * 12}, "size"),
    "runs": ("annotations", {"segmentations": [{"size": [96, 96], "counts": "0"}] * 12}, "pixels"),
    "length": ("annotations", {"segmentations": [None]}, "one per frame"),
    "box": ("annotations", {"bboxes": [[90, 0, 50, 9]] * 12}, "is not within"),
    "video": ("annotations", {"video_id": 77}, "video_id 77"),
    "picture": ("videos", {"file_names": ["clip-0/none.png"]}, "pictures missing"),
    "phrase": ("categories", {"name": "  "}, "not empty"),
    "twice": ("annotations", {"id": 1}, "was there before"),
}


@pytest.mark.parametrize("kind", BROKEN_CLIPS)
def test_broken_clips_are_told_by_file_and_id_and_refused(
    tmp_path: Path, veval: Path, kind: str
) -> None:
    items, fields, reason = BROKEN_CLIPS[kind]
    place = -1 if kind == "twice" else 0
    path = change(veval, tmp_path, items, place, **fields)
    request = SetRequest(root=veval.parent, annotations=(path,))
    with pytest.raises(ConfigError, match=reason) as error:
        evaluate_clip_set(KnowingTracker(), request, TrackingRules(), title="set", on_total=ignore)
    assert str(path) in str(error.value)


def test_broken_clips_are_left_out_where_that_is_wanted(tmp_path: Path, veval: Path) -> None:
    whole = json.loads(veval.read_text())
    path = change(veval, tmp_path, "annotations", 0, segmentations=[None])
    broken = whole["annotations"][0]["video_id"], whole["annotations"][0]["category_id"]
    rest = [
        one for one in perfect_predictions(veval) if (one["video_id"], one["category_id"]) != broken
    ]
    report = evaluate_files((path,), write_json(tmp_path / "p.json", rest), SKIP)
    assert f"{len(whole['video_np_pairs']) - 1} questions" in report.title
    assert dict(report.rows)["pHOTA"] == pytest.approx(1.0)
    assert len(report.problems) == 1


BROKEN_PICTURES = {
    "phrase": ("images", {"text_input": ""}, "text_input"),
    "picture": ("images", {"file_name": "scenes/none.png"}, "no picture"),
    "twice": ("images", {"id": 1001}, "was there before"),
    "size": ("annotations", {"segmentation": {"size": [9, 9], "counts": "0"}}, "size"),
    "box": ("annotations", {"bbox": [0.9, 0.9, 0.5, 0.1]}, "is not within"),
    "none": ("annotations", {"segmentation": None}, "size and counts"),
}


@pytest.mark.parametrize("kind", BROKEN_PICTURES)
def test_broken_pictures_are_refused_or_left_out(tmp_path: Path, saco: Path, kind: str) -> None:
    items, fields, reason = BROKEN_PICTURES[kind]
    path = change(saco, tmp_path, items, 0, **fields)
    detector = OracleDetector(settings=PICTURES, is_found=is_counted)
    request = SetRequest(root=saco.parent, annotations=(path,))
    with pytest.raises(ConfigError, match=reason):
        evaluate_picture_set(detector, request, title="set", on_total=ignore)
    skipped = SetRequest(root=saco.parent, annotations=(path,), on_bad=OnBad.SKIP)
    report = evaluate_picture_set(detector, skipped, title="set", on_total=ignore)
    assert report.problems
    assert report.official["cgF1_eval_segm_positive_micro_F1"] == pytest.approx(1.0, abs=1e-3)


def test_truncated_picture_is_told_when_it_is_read(tmp_path: Path) -> None:
    path = write_saco(tmp_path)
    (tmp_path / "scenes" / "2.png").write_bytes(b"\x89PNG")
    detector = OracleDetector(settings=PICTURES, is_found=is_counted)
    request = SetRequest(root=tmp_path, annotations=(path,))
    with pytest.raises(ConfigError, match=r"2\.png"):
        evaluate_picture_set(detector, request, title="set", on_total=ignore)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"videos": 1}', "\xff"])
def test_files_that_are_no_annotations_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "gt.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"gt\.json"):
        evaluate_files((path,), path, SetRequest())


def test_uncompressed_runs_of_youtube_vis_are_read_and_every_category_is_asked(
    tmp_path: Path,
) -> None:
    square = {"size": [4, 5], "counts": [5, 2, 2, 2, 9]}
    video = {"id": 1, "file_names": ["v/0.jpg"], "height": 4, "width": 5}
    truth = {"video_id": 1, "category_id": 2, "segmentations": [square], "bboxes": [[1, 1, 2, 2]]}
    content = {
        "videos": [video],
        "categories": [{"id": 2, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [{"id": 1, **truth, "iscrowd": 0}],
    }
    path = write_json(tmp_path / "instances.json", content)
    report = evaluate_files((path,), write_json(tmp_path / "p.json", [{**truth, "score": 1}]), SKIP)
    assert "2 questions" in report.title
    assert dict(report.rows)["mAP"] == pytest.approx(1.0)
    assert "cgF1" not in dict(report.rows)
