"""Names and shapes of every published size, in the official layout and in transformers'.

The official lists are frozen as digests of their sorted "name shape" lines. They were taken from
the state dicts of the official modules themselves, built from the official configurations.
"""

import hashlib
import importlib
from dataclasses import replace

import pytest
import torch

from models.catalogue import MODELS, Family
from models.checkpoints.convert import rotary_tables
from models.checkpoints.recognise import Layout, build_model, keymap_of, of_size, recognise
from models.checkpoints.transformers_config import model_config

initialization = importlib.import_module("transformers.initialization")

OFFICIAL = {
    "sam1-b": (314, "2a326f8855d290e0"),
    "sam1-l": (482, "872b3a587ece72dc"),
    "sam1-h": (594, "903f3a74ff76f5c2"),
    "sam2.1-tiny": (471, "bac6d522c4ff90fe"),
    "sam2.1-small": (519, "c9876e8c1ec0adc3"),
    "sam2.1-base-plus": (615, "e2d94a28cde080da"),
    "sam2.1-large": (903, "e5145693245ec445"),
    "sam3": (1465, "08e2c4d04e2a363b"),
}
THEIRS = {
    Family.SAM1: ("sam", "SamModel", "SamConfig"),
    Family.SAM2: ("sam2_video", "Sam2VideoModel", "Sam2VideoConfig"),
    Family.SAM3: ("sam3_video", "Sam3VideoModel", "Sam3VideoConfig"),
}


def _shapes(state):
    return {name: tuple(value.shape) for name, value in state.items()}


def _digest(state):
    lines = sorted(f"{name} {shape}" for name, shape in _shapes(state).items())
    return len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _our_state(size):
    what = of_size(size)
    return build_model(replace(what, takes_points=what.family is Family.SAM3)).state_dict()


def _official_state(size):
    family = MODELS[size].family
    official = dict(keymap_of(family, Layout.OFFICIAL).inverse().apply(_our_state(size)))
    if family is Family.SAM3:
        official |= rotary_tables(size)
    return official


@pytest.mark.parametrize("size", OFFICIAL)
def test_official_names_and_shapes_are_the_published(size):
    assert _digest(_official_state(size)) == OFFICIAL[size]


@pytest.mark.parametrize("size", OFFICIAL)
def test_official_files_are_recognised_and_fill_every_weight(size):
    state = _official_state(size)
    told = recognise(state, source="x")
    ours = told.keymap.apply(state)
    assert (told.size, told.layout) == (size, Layout.OFFICIAL)
    assert _shapes(ours) == _shapes(_our_state(size))
    assert not ours.translation.unknown
    assert not ours.translation.incomplete


def _their_state(size):
    """Build transformers' model from the configuration that we write."""
    family = MODELS[size].family
    package, model, config = THEIRS[family]
    folder = f"transformers.models.{package}"
    config_class = getattr(importlib.import_module(f"{folder}.configuration_{package}"), config)
    model_class = getattr(importlib.import_module(f"{folder}.modeling_{package}"), model)
    with torch.device("meta"), initialization.no_init_weights():
        return model_class(config_class(**model_config(MODELS[size].network))).state_dict()


@pytest.mark.parametrize("size", OFFICIAL)
def test_transformers_names_and_shapes_are_ours_both_ways(size):
    theirs = _their_state(size)
    told = recognise(theirs, source="x")
    assert (told.size, told.layout) == (size, Layout.TRANSFORMERS)
    ours = dict(told.keymap.apply(theirs))
    assert _shapes(ours) == _shapes(build_model(of_size(size)).state_dict())
    assert _shapes(told.keymap.inverse().apply(ours)) == _shapes(theirs)


@pytest.mark.parametrize("block", [0, 7])
def test_rotary_tables_hold_the_angles_of_a_block(block):
    """Block 7 sees the whole picture, on positions shrunk to the grid of pre-training."""
    table = rotary_tables("sam3")[
        f"detector.backbone.vision_backbone.trunk.blocks.{block}.attn.freqs_cis"
    ]
    side, scale = (72, 1 / 3) if block == 7 else (24, 1.0)
    frequencies = 10000.0 ** (-torch.arange(0, 64, 4) / 64)
    angle = table.reshape(side, side, 32)[5, 3].angle()
    expected = torch.cat([3 * scale * frequencies, 5 * scale * frequencies])
    wrapped = torch.atan2(expected.sin(), expected.cos())
    assert torch.allclose(angle, wrapped, atol=1e-5)
