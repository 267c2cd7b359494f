"""Telling checkpoints apart by what is in them, and filling models from them."""

from pathlib import Path

import pytest
import torch

from models.catalogue import NANO_FOLDER, Family
from models.checkpoints.checkpoint import Checkpoint, open_checkpoint
from models.checkpoints.recognise import (
    Layout,
    Part,
    build_model,
    fill,
    keymap_of,
    of_size,
    recognise,
)
from models.checkpoints.weights import CheckpointError
from models.sam3.network import keys as sam3_keys


def meta_state(size):
    return build_model(of_size(size)).state_dict()


@pytest.fixture
def nano():
    return dict(open_checkpoint(NANO_FOLDER).state)


def as_checkpoint(state):
    return Checkpoint(path=Path("x.pt"), files=(), state=state, metadata={}, is_mapped=False)


def official(state):
    return dict(keymap_of(Family.SAM3, Layout.OFFICIAL).inverse().apply(state))


@pytest.mark.parametrize(
    ("keymap", "part"),
    [
        (sam3_keys.TRANSFORMERS_DETECTOR, Part.DETECTOR),
        (sam3_keys.TRANSFORMERS_TRACKER, Part.TRACKER),
    ],
    ids=["Sam3Model", "Sam3TrackerVideoModel"],
)
def test_halves_as_transformers_saves_them_are_recognised(nano, keymap, part):
    ours = {
        name: value
        for name, value in nano.items()
        if name.startswith("detector_model.")
        == (part is Part.DETECTOR or name.startswith("detector_model.vision_encoder.backbone."))
    }
    state = dict(keymap.inverse().apply(ours))
    told = recognise(state, source="half")
    assert (told.size, told.part) == ("sam3-nano", part)
    model = build_model(told)
    fill(model, as_checkpoint(state), told)
    for name, value in model.state_dict().items():
        assert value.is_meta != (name in ours), name


def test_official_file_without_tracker_is_a_detector(nano):
    state = {k: v for k, v in official(nano).items() if not k.startswith("tracker.")}
    assert recognise(state, source="x").part is Part.DETECTOR


def renamed(state, old, new):
    return {name.replace(old, new, 1): value for name, value in state.items()}


def without(state, *beginnings):
    return {name: value for name, value in state.items() if not name.startswith(beginnings)}


STRANGERS = {
    "SAM 3.1": lambda: {"tracker.model.maskmem_tpos_enc": torch.ones(1)},
    "EdgeTAM": lambda: {"spatial_perceiver.latents": torch.ones(1)},
    "MobileSAM": lambda: {"image_encoder.patch_embed.seq.0.c.weight": torch.ones(1)},
    "SAM-HQ": lambda: {"mask_decoder.hf_token.weight": torch.ones(1)},
    "SAM 2, the version before 2.1": lambda: without(
        meta_state("sam2.1-tiny"), "occlusion_spatial", "temporal_positional"
    ),
    "the picture half of SAM 2": lambda: without(meta_state("sam2.1-tiny"), "memory_"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_relatives_are_refused_by_name(name):
    with pytest.raises(CheckpointError, match=f"'x' is {name}.*expected SAM 1, SAM 2.1 or SAM 3"):
        recognise(STRANGERS[name](), source="x")


def test_official_sam2_before_its_revision_is_refused():
    state = keymap_of(Family.SAM2, Layout.OFFICIAL).inverse().apply(meta_state("sam2.1-small"))
    with pytest.raises(CheckpointError, match=r"SAM 2, the version before 2\.1"):
        recognise(without(state, "no_obj_embed_spatial", "obj_ptr_tpos"), source="x")


def test_other_weights_are_refused():
    with pytest.raises(CheckpointError, match=r"no checkpoint of a known model \(1 tensors: fc"):
        recognise({"fc.weight": torch.ones(1)}, source="x")


def test_unknown_size_is_told_with_the_known(nano):
    state = without(nano, "detector_model.vision_encoder.backbone.layers.7.")
    with pytest.raises(CheckpointError, match=r"width 128 with 7 blocks; expected one of .*nano"):
        recognise(state, source="x")


def fault_of(state):
    told = recognise(state, source="x")
    with pytest.raises(CheckpointError) as caught:
        fill(build_model(told), as_checkpoint(state), told)
    return str(caught.value)


def test_faults_are_named_as_the_file_names_them(nano):
    state = official(nano)
    del state["tracker.no_obj_ptr"]
    del state["detector.transformer.encoder.layers.0.self_attn.in_proj_bias"]
    state["detector.surplus"] = torch.ones(1)
    told = fault_of(state)
    assert "2 missing: detector.transformer.encoder.layers.0.self_attn.in_proj_bias" in told
    assert "tracker.no_obj_ptr" in told
    assert "1 unexpected: detector.surplus" in told


def test_misshapen_weight_is_named(nano):
    state = official(nano)
    state["detector.dot_prod_scoring.hs_proj.bias"] = torch.ones(3)
    assert (
        "hs_proj.bias, which makes detector_model.dot_product_scoring.query_proj.bias, is (3,)"
        in (fault_of(state))
    )


def test_half_of_a_joined_weight_is_named(nano):
    state = official(nano)
    del state["tracker.sam_prompt_encoder.point_embeddings.2.weight"]
    assert "1 missing: tracker.sam_prompt_encoder.point_embeddings.2.weight" in fault_of(state)


def test_weights_that_are_no_floats_are_refused(nano):
    nano["tracker_model.no_object_pointer"] = torch.ones(1, 64, dtype=torch.int8)
    assert "1 not of floats: tracker_model.no_object_pointer is int8" in fault_of(nano)


def test_one_of_two_tied_weights_is_enough(nano):
    name = "tracker_model.prompt_encoder.shared_embedding.positional_embedding"
    expected = nano.pop(name)
    told = recognise(nano, source="x")
    model = build_model(told)
    fill(model, as_checkpoint(nano), told)
    assert torch.equal(model.state_dict()[name], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_official_round_trip_fills_the_same_weights(nano, dtype):
    state = official(nano)
    told = recognise(state, source="x")
    model = build_model(told)
    fill(model, as_checkpoint(state), told, dtype=dtype)
    for name, value in model.state_dict().items():
        if name.endswith("position_embeddings"):
            continue  # its first row is not kept
        assert torch.equal(value, nano[name].to(dtype)), name
