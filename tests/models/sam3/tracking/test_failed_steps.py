"""A step that raises, wherever it does, leaves every stream as it was."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from connectors.world.scene import World, WorldConfig
from models.catalogue import MODELS
from models.common.concurrent_parts import ConcurrentParts
from models.common.masks import CropMask
from models.protocols import ConceptQuery, DeviceLostError, ExemplarBox, FrameInput
from models.sam3.tracking.options import AssociationRules, LifeRules
from models.sam3.tracking.reconcile import Reconciler
from models.sam3.tracking.session import Sam3Session

# Few masklets live through a clip: most end, hide or come back on one of its frames.
OPTIONS = replace(
    MODELS["sam3-nano"].session,
    detection_score=0.2,
    keep_exemplars=True,
    association=AssociationRules(
        new_score=0.2, first_score=0.2, recondition_score=0.2, recondition_iou=0.3
    ),
    life=LifeRules(expiry_s=0.15, recondition_s=0.2, suppress_s=0.15, revive_reach=0.5),
)
NUM_FRAMES, FAILED_FRAME = 4, 2
# The part of the network whose end is the end of each stage.
STAGES = {
    "backbone": "detector_model.vision_encoder.backbone",
    "detect": "detector_model.detr_decoder",
    "propagate": "tracker_model.memory_attention",
    "observe": "mask_refiner",
    "memory": "tracker_model.memory_encoder",
}
PARTS = {
    **STAGES,
    "phrases": "detector_model.text_encoder",
    "exemplars": "detector_model.geometry_encoder",
}


class FailingReconciler(Reconciler):
    """Raises when all is decided and written down."""

    def expire(self, stream, tracked):
        super().expire(stream, tracked)
        raise RuntimeError("broken")


@contextmanager
def broken(session, stage, error=None):
    """Let the session's network fail at the end of a stage."""
    if stage == "reconcile":
        whole = session._reconciler
        session._reconciler = FailingReconciler(OPTIONS, session._model.config.tracker)
        yield
        session._reconciler = whole
        return

    def fail(*_):
        raise error or RuntimeError("broken")

    handle = session._model.get_submodule(PARTS[stage]).register_forward_hook(fail)
    yield
    handle.remove()


def exemplar_of(mask):
    x, y, width, height = mask.bbox
    return ExemplarBox(box_xyxy=(x, y, x + width, y + height))


@pytest.fixture(scope="module")
def frames():
    worlds = [World(WorldConfig(seed=s, min_objects=3, width=200, height=150)) for s in (12, 5)]
    return [[world.render(40 + 9 * k) for world in worlds] for k in range(NUM_FRAMES)]


@pytest.fixture
def make_session(nano, frames):
    def make():
        session = Sam3Session(*nano, OPTIONS)
        shown = exemplar_of(CropMask.of(frames[0][0].visible_objects[1].visible_mask))
        session.open_stream("a", [ConceptQuery(phrase="deer", exemplars=(shown,)), "cow"])
        session.open_stream("b", ["car", "bus", "pig"])
        return session

    return make


def inputs(frames, time_s):
    return [
        FrameInput(stream_id=name, pixels=frame.pixels, time_s=time_s)
        for name, frame in zip("ab", frames, strict=True)
    ]


def everything(predictions):
    return [
        (
            told.stream_id,
            told.ended,
            told.presence,
            [
                (
                    *(seen.masklet_id, seen.concept_id, seen.score, seen.presence_score),
                    *(seen.occlusion_score, seen.is_matched, seen.first_seen_s, seen.last_seen_s),
                    *(seen.mask.corners, seen.mask.bits.tobytes()),
                    None if seen.pointer is None else seen.pointer.tobytes(),
                )
                for seen in told.masklets
            ],
        )
        for told in predictions
    ]


@pytest.fixture
def undisturbed(make_session, frames):
    session = make_session()
    return [everything(session.step(inputs(now, k / 10))) for k, now in enumerate(frames)]


@pytest.mark.parametrize("is_parallel", [False, True])
def test_a_failed_step_changes_no_stream(
    make_session, frames, undisturbed, monkeypatch, is_parallel
):
    """Step for step what a session tells that never saw the failed batches, to the bit."""
    monkeypatch.setattr(ConcurrentParts, "is_parallel", is_parallel)
    told = []
    session = make_session()
    for index, now in enumerate(frames):
        if index in (0, FAILED_FRAME):
            for stage in [*STAGES, "reconcile"]:
                # With no masklet yet there is nothing to propagate.
                if index == 0 and stage == "propagate":
                    continue
                with broken(session, stage), pytest.raises(RuntimeError, match="broken"):
                    session.step(inputs(frames[-1], time_s=60.0))
        told.append(everything(session.step(inputs(now, index / 10))))
    assert told == undisturbed
    assert sum(len(ended) for step in told for _, ended, _, _ in step) > 0
    assert max(len(seen) for _, _, _, seen in told[FAILED_FRAME]) > 1


def test_an_object_that_cannot_be_drawn_is_not_begun(make_session, frames):
    session = make_session()
    session.step(inputs(frames[0], time_s=0.0))
    number = session._streams["a"].next_id
    # Small enough to be drawn anew.
    box = CropMask.of(frames[0][0].visible_objects[2].visible_mask).corners
    with broken(session, "observe"), pytest.raises(RuntimeError, match="broken"):
        session.add_object("a", box=box)
    assert session.add_object("a", box=box).masklet_id == number


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), True),
        (torch.AcceleratorError("CUDA error: out of memory"), False),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `create`"), False),
        (RuntimeError("The size of tensor a (3) must match"), False),
    ],
)
def test_errors_that_stick_to_the_device_are_told_apart(make_session, frames, error, is_lost):
    session = make_session()
    with broken(session, "backbone", error), pytest.raises(RuntimeError) as raised:
        session.step(inputs(frames[0], time_s=0.0))
    assert isinstance(raised.value, DeviceLostError) == is_lost
    assert str(error) in str(raised.value)


@pytest.mark.parametrize(
    ("stage", "act"),
    [
        ("observe", lambda session, seen: session.add_object("a", box=seen.corners)),
        (
            "exemplars",
            lambda session, seen: session.add_exemplars(
                "a", [exemplar_of(seen)], concept="cow", on_last_frame=True
            ),
        ),
    ],
)
def test_nothing_can_be_shown_on_a_lost_device(make_session, frames, stage, act):
    session, error = make_session(), torch.AcceleratorError("CUDA error: unknown error")
    session.step(inputs(frames[0], time_s=0.0))
    seen = CropMask.of(frames[0][0].visible_objects[2].visible_mask)
    with broken(session, stage, error), pytest.raises(DeviceLostError, match="unknown"):
        act(session, seen)
    act(session, seen)


def test_a_stream_cannot_be_opened_on_a_lost_device(make_session):
    session, error = make_session(), torch.AcceleratorError("CUDA error: unknown error")
    with broken(session, "phrases", error), pytest.raises(DeviceLostError, match="unknown"):
        session.open_stream("c", ["a phrase that is new"])
    session.open_stream("c", ["a phrase that is new"])
