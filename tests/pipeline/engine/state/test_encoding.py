"""What snapshots weigh and cost the engine's thread, and who is known again by them."""

import numpy as np
import pytest

from connectors.pictures.encoding import MAX_PIXELS, decode_image
from pipeline.engine.state.encoding import encode_capture
from tests.benchmarks.identities import make_capture, make_frame
from tests.benchmarks.state import (
    RestoreTime,
    full_model_costs,
    identities,
    make_stream,
    nano_costs,
)
from tests.pipeline.fakes import SavedBlobs


@pytest.mark.parametrize("size_hw", [(1080, 1920), (3000, 3000)])
def test_key_frame_of_nothing_but_noise_is_small(size_hw):
    noise = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    saved = SavedBlobs({}, 1)
    stored = encode_capture(make_capture(make_stream(0), saved, make_frame(0, noise)))
    data = stored.arrays["key-frame"].tobytes()
    assert 100_000 < len(data) <= 250_000
    assert max(decode_image(data, max_pixels=MAX_PIXELS).shape) == 1008


def test_identity_snapshots_of_the_full_models_shapes_are_small_and_quick():
    for cost in full_model_costs(num_objects=5, rounds=5):
        assert cost.kilobytes <= 300 + 5 * 20
        assert cost.megabytes_per_s <= 10
        assert cost.engine_ms <= 2


def test_snapshot_of_a_stream_whose_model_keeps_nothing_holds_its_tracks_alone():
    stored = encode_capture(make_capture(make_stream(0), None, None))
    assert (stored.about.tracker, stored.about.next_masklet_id, stored.arrays) == ("", 0, {})


@pytest.mark.slow
def test_streams_of_twenty_objects_are_quick_to_save_and_to_go_on_with():
    for cost in nano_costs(num_objects=20):
        if isinstance(cost, RestoreTime):
            assert cost.restore_ms <= 1000
        else:
            assert cost.engine_ms <= 10


@pytest.mark.slow
def test_identity_snapshots_alone_keep_the_identities_of_what_is_seen():
    counts = {(one.way, one.where): one for one in identities(range(1))}
    kept = counts["identity", "visible"]
    assert kept.num_kept >= 0.95 * kept.num_objects > 0
