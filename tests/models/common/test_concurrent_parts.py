import threading
from functools import partial

import pytest
import torch

from models.common import concurrent_parts
from models.common.concurrent_parts import ConcurrentParts


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(concurrent_parts, "_num_cores", lambda: 2)


@pytest.fixture
def parts():
    return ConcurrentParts(torch.device("cpu"))


def test_parts_run_at_once_where_cores_are_idle(parts, two_cores):
    meeting = threading.Barrier(2, timeout=30)  # either part alone would wait for ever

    def part(answer):
        meeting.wait()
        return answer, threading.get_ident()

    (first, mine), (second, other) = parts.run(lambda: part(1), lambda: part(2))
    assert (first, second) == (1, 2)
    assert mine == threading.get_ident() != other


@pytest.mark.parametrize(
    ("device", "threads", "cores"), [("cuda", 1, 2), ("cpu", 2, 2), ("cpu", 1, 1)]
)
def test_parts_run_in_order_where_that_is_no_gain(monkeypatch, device, threads, cores):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(concurrent_parts, "_num_cores", lambda: cores)
    order = []
    ConcurrentParts(torch.device(device)).run(
        lambda: order.append(threading.get_ident()), lambda: order.append(threading.get_ident())
    )
    assert order == [threading.get_ident()] * 2


@pytest.mark.parametrize(
    "mode",
    [
        torch.inference_mode,
        torch.no_grad,
        torch.enable_grad,
        partial(torch.autocast, "cpu", torch.bfloat16),
    ],
)
def test_both_parts_run_in_the_callers_modes(parts, two_cores, mode):
    def modes():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled(), product.dtype

    with mode():
        first, second = parts.run(modes, modes)
        assert first == second == modes()


def test_an_error_comes_out_when_both_have_ended(parts, two_cores):
    ended = []

    def fails(name):
        ended.append(name)
        raise ValueError(name)

    with pytest.raises(ValueError, match="first"):
        parts.run(lambda: fails("first"), lambda: fails("second"))
    assert sorted(ended) == ["first", "second"]
    with pytest.raises(ValueError, match="second"):
        parts.run(lambda: 1, lambda: fails("second"))
    assert parts.run(lambda: 1, lambda: 2) == (1, 2)
