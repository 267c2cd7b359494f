"""Names to models, and what is said of names that are none."""

import shutil

import numpy as np
import pytest
import torch

from models.build import (
    build_detector,
    build_image_predictor,
    build_object_predictor,
    build_tracker,
    build_video_predictor,
    describe,
)
from models.catalogue import MODELS, NANO_FOLDER, VOCABULARY_FILE, WEIGHTS_FILE, Family
from models.checkpoints.checkpoint import open_checkpoint
from models.checkpoints.recognise import Layout, build_model, keymap_of, of_size
from models.checkpoints.weights import CheckpointError, write_safetensors

PICTURE = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)


def test_shipped_model_is_described_with_its_weights():
    nano = describe("sam3-nano")
    assert nano.checkpoint is not None
    assert nano.checkpoint.stat().st_size <= 16e6
    assert nano.image_size == 280


def test_published_size_is_described_without_weights():
    published = describe("sam3")
    assert published.checkpoint is None
    assert published.num_parameters == pytest.approx(860e6, rel=0.001)


@pytest.mark.parametrize("call", [describe, build_tracker])
def test_unknown_name_is_refused_with_the_known_ones(call):
    with pytest.raises(ValueError, match=f"'sam4'.*{next(iter(MODELS))}"):
        call("sam4")


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKSTREAM_MODELS", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("own_folder")
def test_published_size_without_a_checkpoint_is_refused():
    with pytest.raises(ValueError, match=r"ships no weights .* 'maskstream models pull sam3'"):
        build_tracker("sam3")


def test_fetched_weights_are_found_and_checked(own_folder):
    shutil.copytree(NANO_FOLDER, own_folder / "sam3")
    with pytest.raises(CheckpointError, match="holds sam3-nano; expected sam3"):
        build_detector("sam3")


def test_checkpoint_alone_tells_the_model():
    detector = build_detector(checkpoint=NANO_FOLDER / "model.safetensors")
    (found,) = detector.detect(PICTURE, ["deer"])
    (expected,) = build_detector("sam3-nano").detect(PICTURE, ["deer"])
    assert found.presence_score == pytest.approx(expected.presence_score, rel=1e-4)


@pytest.mark.parametrize(
    ("build", "name", "told"),
    [
        (build_tracker, "sam1-b", "cannot find concepts in streams; models that can: sam3-nano"),
        (build_detector, "sam2.1-tiny", "cannot find concepts; models that can: sam3-nano, sam3$"),
        (build_video_predictor, "sam1-h", "cannot find objects in videos; models that can"),
    ],
)
def test_models_that_cannot_are_told_from_those_that_can(build, name, told):
    with pytest.raises(ValueError, match=told):
        build(name)


@pytest.mark.parametrize("build", [build_detector, build_image_predictor, describe])
def test_neither_name_nor_checkpoint_is_refused(build):
    with pytest.raises(ValueError, match="neither a name nor a checkpoint"):
        build()


def test_unknown_type_is_refused():
    with pytest.raises(ValueError, match="dtype is 'int8'; accepted: float32"):
        build_detector("sam3-nano", dtype="int8")


def test_one_predictor_of_sam3_takes_phrases_exemplars_and_points():
    predictor = build_image_predictor("sam3-nano")
    assert predictor.rules == MODELS["sam3-nano"].pictures
    predictor.set_image(PICTURE)
    predictor.set_text_prompt("deer")
    found = predictor.add_exemplar(box=[5, 5, 40, 30])
    assert (found.query.phrase, len(found.query.exemplars)) == ("deer", 1)
    assert predictor.predict([[20, 30]], [1]).masks.shape == (3, *PICTURE.shape[:2])


def test_objects_alone_need_no_vocabulary(tmp_path):
    shutil.copy(NANO_FOLDER / WEIGHTS_FILE, tmp_path)
    with pytest.raises(ValueError, match="no vocabulary at"):
        build_image_predictor(checkpoint=tmp_path)
    assert build_object_predictor(checkpoint=tmp_path).model.mask_side == 80


@pytest.mark.parametrize("size", MODELS)
def test_listed_numbers_of_parameters_are_the_models_own(size):
    told = describe(size)
    assert told.num_parameters == MODELS[size].num_parameters
    assert told.image_size == MODELS[size].image_size


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    """An official file of SAM 2.1 tiny, with random weights."""
    generator = torch.Generator().manual_seed(0)
    state = build_model(of_size("sam2.1-tiny")).state_dict()
    random = {
        name: torch.randn(value.shape, generator=generator) * 0.02 for name, value in state.items()
    }
    official = keymap_of(Family.SAM2, Layout.OFFICIAL).inverse().apply(random)
    path = tmp_path_factory.mktemp("tiny") / "any_name.pt"
    torch.save({"model": dict(official)}, path)
    return path


def test_official_file_builds_predictors(tiny_file):
    assert build_image_predictor(checkpoint=tiny_file).model.mask_side == 256
    assert build_video_predictor(checkpoint=tiny_file).object_ids == ()


@pytest.mark.slow
def test_official_file_finds_an_object_on_a_picture(tiny_file):
    predictor = build_image_predictor(checkpoint=tiny_file)
    predictor.set_image(PICTURE)
    masks = predictor.predict([[20, 30]], [1]).masks
    assert masks.shape[1:] == PICTURE.shape[:2]


@pytest.mark.slow
def test_official_file_finds_an_object_in_a_video(tiny_file):
    session = build_video_predictor(checkpoint=tiny_file)
    session.push(PICTURE)
    result = session.add_points_or_box(0, 1, points=[[20, 30]], labels=[1])
    assert result.object_ids == (1,)


def test_tracker_of_half_a_file_is_refused_but_not_a_detector(tmp_path):
    state = open_checkpoint(NANO_FOLDER).state
    half = {name: state[name] for name in state if name.startswith("detector_model.")}
    write_safetensors(half, tmp_path / "model.safetensors")
    shutil.copy(NANO_FOLDER / VOCABULARY_FILE, tmp_path)
    with pytest.raises(
        CheckpointError, match="holds only the detector of sam3-nano; expected whol"
    ):
        build_tracker("sam3-nano", checkpoint=tmp_path)
    whole = build_detector("sam3-nano").detect(PICTURE, ["deer"])[0]
    found = build_detector("sam3-nano", checkpoint=tmp_path).detect(PICTURE, ["deer"])[0]
    # Where in memory a weight begins decides how its products are summed up.
    assert found.presence_score == pytest.approx(whole.presence_score, rel=1e-4)


def test_missing_vocabulary_is_told(tmp_path):
    shutil.copy(NANO_FOLDER / WEIGHTS_FILE, tmp_path)
    with pytest.raises(ValueError, match="no vocabulary at"):
        build_detector("sam3-nano", checkpoint=tmp_path)
    assert "no vocabulary at" in describe(checkpoint=tmp_path).missing[0]


def test_small_model_takes_one_thread_unless_the_environment_says(monkeypatch):
    before = torch.get_num_threads()
    try:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        torch.set_num_threads(2)
        build_tracker("sam3-nano")
        assert torch.get_num_threads() == 1
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        torch.set_num_threads(2)
        build_tracker("sam3-nano")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
