"""The streaming session on random weights: bounds, independence of streams, life of masklets.

Random weights see nothing, but with low thresholds masklets arise, live and end as with others.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.catalogue import NANO_FOLDER, VOCABULARY_FILE, sam3_network
from models.common.concurrent_parts import ConcurrentParts
from models.protocols import FrameInput
from models.sam3.network.model import Sam3
from models.sam3.tokenizer import Tokenizer
from models.sam3.tracking.options import AssociationRules, LifeRules
from models.sam3.tracking.session import Sam3Session, SessionOptions

CONFIG = sam3_network("sam3-nano")
# Every detection begins a masklet while there is room, and re-prompts the one it overlaps.
EAGER = AssociationRules(new_score=0.0, new_iou=2.0, recondition_score=0.0, recondition_iou=0.3)
NEVER_MATCH = AssociationRules(new_score=0.0, new_iou=2.0, match_iou=2.0, recondition_iou=2.0)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Sam3(CONFIG)
    # Sure that every object is there: else hardly a frame is worth remembering and no bank fills.
    torch.nn.init.constant_(model.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias, 3.0)
    return model


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(NANO_FOLDER / VOCABULARY_FILE, context_length=16, vocab_size=1024)


@pytest.fixture
def make_session(model, tokenizer):
    def make(max_masklets=3, life=LifeRules(), association=EAGER):
        options = SessionOptions(
            detection_score=0.0,
            max_masklets=max_masklets,
            association=association,
            life=life,
        )
        return Sam3Session(model, tokenizer, options)

    return make


def make_frame(stream_id, index, *, time_s=None, seed=0):
    pixels = np.random.default_rng((seed, index)).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    return FrameInput(
        stream_id=stream_id, pixels=pixels, time_s=index * 0.1 if time_s is None else time_s
    )


def most_bytes(num_masklets):
    """What the banks may hold: maps and pointers of the conditioning and the recent frames."""
    tracker, grid = CONFIG.tracker, CONFIG.vision.grid
    maps = tracker.max_cond_frames + tracker.num_maskmem
    pointers = tracker.max_cond_frames + tracker.max_object_pointers + 1
    floats = maps * tracker.memory_dim * grid**2 + pointers * tracker.hidden_dim
    return num_masklets * 4 * floats


def test_memory_is_bounded_over_many_frames(make_session):
    long = LifeRules(unmatched_s=99.0, duplicate_s=99.0, expiry_s=99.0, recondition_s=0.2)
    session = make_session(life=long)
    session.open_stream("a", ["deer"])
    sizes = []
    for index in range(60):
        (seen,) = session.step([make_frame("a", index)])
        sizes.append(session.num_memory_bytes)
        masklets = session._streams["a"].masklets
        assert len(masklets) == len(seen.masklets) <= 3
        assert all(len(masklet.shared_s) < 3 for masklet in masklets)
    assert len(masklets) == 3
    assert most_bytes(3) / 2 < max(sizes) <= most_bytes(3)


@pytest.mark.parametrize("num_maps", [1, 3])
def test_memory_option_shortens_every_bank(model, tokenizer, make_session, num_maps):
    long = LifeRules(unmatched_s=99.0, duplicate_s=99.0, expiry_s=99.0, recondition_s=0.2)
    options = replace(make_session(life=long)._options, memory_maps=num_maps)
    session = Sam3Session(model, tokenizer, options)
    session.open_stream("a", ["deer"])
    for index in range(12):
        session.step([make_frame("a", index)])
    banks = [masklet.bank for masklet in session._streams["a"].masklets]
    assert banks
    for bank in banks:
        maps = bank.select(12).maps
        given = [m for m in maps if m.slot == CONFIG.tracker.num_maskmem - 1]
        assert len(given) <= num_maps
        assert {m.slot for m in maps if m not in given} <= set(range(num_maps - 1))


def test_memory_longer_than_the_models_is_refused(model, tokenizer):
    with pytest.raises(ValueError, match="memory_maps is 8; accepted: at most 7"):
        Sam3Session(model, tokenizer, SessionOptions(memory_maps=8))


def test_streams_together_equal_streams_alone(make_session):
    together, alone = make_session(), {"a": make_session(), "b": make_session()}
    for stream_id, concepts in (("a", ["deer", "car"]), ("b", ["pig"])):
        together.open_stream(stream_id, concepts)
        alone[stream_id].open_stream(stream_id, concepts)
    for index in range(6):
        frames = [make_frame("a", index, seed=1), make_frame("b", index, seed=2)]
        for both, frame in zip(together.step(frames), frames, strict=True):
            (single,) = alone[frame.stream_id].step([frame])
            ids = [(seen.masklet_id, seen.concept) for seen in both.masklets]
            assert ids
            assert ids == [(seen.masklet_id, seen.concept) for seen in single.masklets]
            assert both.presence == pytest.approx(single.presence, abs=1e-5)
            for x, y in zip(both.masklets, single.masklets, strict=True):
                assert (x.mask.full() != y.mask.full()).mean() < 0.001


def test_masks_are_of_the_frames_size_and_ids_in_order(make_session):
    session = make_session()
    session.open_stream("a", ["deer", "car"])
    (seen,) = session.step([make_frame("a", 0)])
    assert seen.masklets
    assert [m.masklet_id for m in seen.masklets] == list(range(1, len(seen.masklets) + 1))
    assert all(m.mask.size_hw == (60, 80) and m.mask.bits.dtype == np.bool_ for m in seen.masklets)
    assert all(m.is_matched and m.first_seen_s == m.last_seen_s == 0.0 for m in seen.masklets)
    assert set(seen.presence) == {"deer", "car"}


def test_frames_of_another_size_go_on_with_the_same_masklets(make_session):
    session = make_session()
    session.open_stream("a", ["deer", "car"])
    for index in range(3):
        (before,) = session.step([make_frame("a", index)])
    frame = make_frame("a", 3)
    large = frame.pixels.repeat(2, axis=0).repeat(2, axis=1)
    (after,) = session.step([replace(frame, pixels=large)])
    assert [m.masklet_id for m in after.masklets] == [m.masklet_id for m in before.masklets]
    assert all(m.mask.size_hw == (120, 160) for m in after.masklets)


def test_masks_are_crops_of_what_an_object_covers(make_session):
    session = make_session()
    session.open_stream("a", ["deer", "car"])
    for index in range(3):
        for seen in session.step([make_frame("a", index)])[0].masklets:
            assert seen.mask.bits.shape == seen.mask.trimmed().bits.shape
            assert seen.mask.bits.base is None  # or the masks of a whole frame would stay


def test_concepts_have_ids_of_their_own(make_session):
    session = make_session()
    session.open_stream("a", ["red deer", "Red-Deer"])
    (seen,) = session.step([make_frame("a", 0)])
    ids = {m.concept: m.concept_id for m in seen.masklets}
    assert ids == {"red deer": "red-deer", "Red-Deer": "red-deer-2"}


def test_pointers_are_those_of_the_frame_and_none_at_birth(make_session):
    session = make_session()
    session.open_stream("a", ["deer"])
    (born,) = session.step([make_frame("a", 0)])
    assert {seen.pointer for seen in born.masklets} == {None}
    (seen,) = session.step([make_frame("a", 1)])
    pointers = [one.pointer for one in seen.masklets if one.first_seen_s == 0.0]
    assert len(pointers) == len(born.masklets) > 0
    for pointer in pointers:
        assert pointer.shape == (CONFIG.tracker.hidden_dim,)
        assert pointer.dtype == np.float32


def test_unmatched_masklets_end_after_expiry(make_session):
    session = make_session(
        max_masklets=2, association=NEVER_MATCH, life=LifeRules(probation_s=0.0, expiry_s=1.0)
    )
    session.open_stream("a", ["deer"])
    (first,) = session.step([make_frame("a", 0, time_s=0.0)])
    born = tuple(masklet.masklet_id for masklet in first.masklets)
    (last,) = session.step([make_frame("a", 1, time_s=1.0)])
    assert born
    assert last.ended == ()
    (after,) = session.step([make_frame("a", 2, time_s=1.1)])
    assert after.ended == born
    assert not {masklet.masklet_id for masklet in after.masklets} & set(born)


def test_ids_are_never_used_again(make_session):
    session = make_session(
        max_masklets=2, association=NEVER_MATCH, life=LifeRules(probation_s=0.0, expiry_s=0.15)
    )
    session.open_stream("a", ["deer"])
    gone = set()
    for index in range(8):
        (seen,) = session.step([make_frame("a", index)])
        assert not gone & {masklet.masklet_id for masklet in seen.masklets}
        assert not gone & set(seen.ended)
        gone |= set(seen.ended)
    assert len(gone) >= 4


def test_closing_forgets_the_memory(make_session):
    session = make_session()
    session.open_stream("a", ["deer"])
    session.step([make_frame("a", 0)])
    assert session.num_memory_bytes > 0
    session.close_stream("a")
    assert session.num_memory_bytes == 0
    session.open_stream("a", ["deer"])
    (seen,) = session.step([make_frame("a", 0)])
    assert seen.masklets[0].masklet_id == 1


def test_stream_must_be_open_and_only_once(make_session):
    session = make_session()
    with pytest.raises(ValueError, match=r"'a' is not open; open: \[\]"):
        session.step([make_frame("a", 0)])
    session.open_stream("a", ["deer"])
    with pytest.raises(ValueError, match="'a' is open already"):
        session.open_stream("a", ["deer"])
    with pytest.raises(ValueError, match="'b' is not open"):
        session.close_stream("b")


def test_stream_without_concepts_finds_nothing(make_session):
    session = make_session()
    session.open_stream("a", [])
    (seen,) = session.step([make_frame("a", 0)])
    assert (seen.masklets, seen.presence) == ((), {})


def test_step_takes_one_frame_of_a_stream_and_no_earlier_one(make_session):
    session = make_session()
    session.open_stream("a", ["deer"])
    with pytest.raises(ValueError, match="one frame per step"):
        session.step([make_frame("a", 0), make_frame("a", 1)])
    session.step([make_frame("a", 5)])
    with pytest.raises(ValueError, match=r"from 0\.5 s back to 0\.4 s"):
        session.step([make_frame("a", 4)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.open_stream(5, ["deer"]), "stream_id 5 is a int; accepted: a string"),
        (lambda s: s.open_stream("b", "deer"), "concepts is 'deer'; accepted: a sequence"),
        (lambda s: s.close_stream("b"), "stream 'b' is not open"),
        (lambda s: s.step(make_frame("a", 1)), "inputs is a FrameInput; accepted: a sequence"),
        (lambda s: s.step([5]), "inputs holds a int; accepted: FrameInput"),
        (lambda s: s.step([replace(make_frame("a", 1), time_s=np.nan)]), "time_s is nan"),
        (lambda s: s.step([replace(make_frame("a", 1), pixels=None)]), "pixels is a NoneType"),
        (lambda s: s.remove_object("a", "1"), "masklet_id is '1'; accepted: an integer"),
        (lambda s: s.add_object("a", box=[1, 1, 9, 9], label=5), "label 5 is a int; accepted"),
    ],
)
def test_refused_call_leaves_the_session_as_it_was(make_session, call, message):
    session, other = make_session(), make_session()
    for one in (session, other):
        one.open_stream("a", ["deer"])
        one.step([make_frame("a", 0)])
    with pytest.raises(ValueError, match=message):
        call(session)
    (mine,), (untouched,) = (one.step([make_frame("a", 1)]) for one in (session, other))
    assert mine.presence == untouched.presence
    assert [m.masklet_id for m in mine.masklets] == [m.masklet_id for m in untouched.masklets]


def test_step_without_frames_is_empty(make_session):
    assert make_session().step([]) == []


@pytest.mark.parametrize("is_mixed", [False, True])
def test_parts_at_once_see_what_parts_in_order_see(make_session, monkeypatch, is_mixed):
    told = []
    for is_parallel in (False, True):
        monkeypatch.setattr(ConcurrentParts, "is_parallel", is_parallel)
        session = make_session()
        session.open_stream("a", ["deer", "cow"])
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            told.append([session.step([make_frame("a", k)])[0] for k in range(3)])
    for one, other in zip(*told, strict=True):
        assert one.presence == other.presence
        assert len(one.masklets) == len(other.masklets) > 0
        for mine, theirs in zip(one.masklets, other.masklets, strict=True):
            assert (mine.score, mine.occlusion_score) == (theirs.score, theirs.occlusion_score)
            assert np.array_equal(mine.mask.full(), theirs.mask.full())
