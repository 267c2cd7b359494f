"""Names to models, and what is said of names that are none."""

import pytest
import torch

from models.registry import MODEL_NAMES, build_tracker, describe


def test_shipped_model_is_described_with_its_weights():
    nano = describe("sam3-nano")
    assert nano.checkpoint is not None
    assert nano.checkpoint.stat().st_size <= 16e6
    assert nano.image_size == 168


def test_published_size_is_described_without_weights():
    published = describe("sam3")
    assert published.checkpoint is None
    assert published.num_parameters == pytest.approx(860e6, rel=0.001)


@pytest.mark.parametrize("call", [describe, build_tracker])
def test_unknown_name_is_refused_with_the_known_ones(call):
    with pytest.raises(ValueError, match=f"'sam4'.*{MODEL_NAMES[0]}"):
        call("sam4")


def test_published_size_without_a_checkpoint_is_refused():
    with pytest.raises(ValueError, match="ships no weights"):
        build_tracker("sam3")


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
