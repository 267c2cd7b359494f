import threading
from functools import partial

import pytest
import torch

from models.common import concurrent_parts as side_by_side
from models.common.concurrent_parts import SideBySide


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(side_by_side, "_num_cores", lambda: 2)


@pytest.fixture
def both():
    return SideBySide(torch.device("cpu"))


def test_parts_run_at_once_where_cores_are_idle(both, two_cores):
    meeting = threading.Barrier(2, timeout=30)  # either part alone would wait for ever

    def part(answer):
        meeting.wait()
        return answer, threading.get_ident()

    (first, mine), (second, other) = both.run(lambda: part(1), lambda: part(2))
    assert (first, second) == (1, 2)
    assert mine == threading.get_ident() != other


@pytest.mark.parametrize(
    ("device", "threads", "cores"), [("cuda", 1, 2), ("cpu", 2, 2), ("cpu", 1, 1)]
)
def test_parts_run_in_order_where_that_is_no_gain(monkeypatch, device, threads, cores):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(side_by_side, "_num_cores", lambda: cores)
    order = []
    SideBySide(torch.device(device)).run(
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
def test_both_parts_run_in_the_callers_modes(both, two_cores, mode):
    def modes():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled(), product.dtype

    with mode():
        first, second = both.run(modes, modes)
        assert first == second == modes()


def test_an_error_comes_out_when_both_have_ended(both, two_cores):
    ended = []

    def fails(name):
        ended.append(name)
        raise ValueError(name)

    with pytest.raises(ValueError, match="first"):
        both.run(lambda: fails("first"), lambda: fails("second"))
    assert sorted(ended) == ["first", "second"]
    with pytest.raises(ValueError, match="second"):
        both.run(lambda: 1, lambda: fails("second"))
    assert both.run(lambda: 1, lambda: 2) == (1, 2)


def test_what_was_begun_runs_beside_its_caller_and_ends_before_the_second_part(both, two_cores):
    done, may_go_on = [], threading.Event()

    def slow():
        assert may_go_on.wait(timeout=30)
        done.append("begun")

    def first():
        may_go_on.set()
        return list(done)

    both.begin(slow)
    assert done == []  # it waits for us, not we for it
    _, seen = both.run(first, lambda: list(done))
    assert seen == ["begun"]


@pytest.mark.parametrize("is_parallel", [False, True])
def test_what_was_begun_is_done_once_settled(both, monkeypatch, is_parallel):
    monkeypatch.setattr(SideBySide, "is_parallel", is_parallel)
    done = []
    both.begin(lambda: done.append(1))
    both.begin(lambda: done.append(2))
    both.settle()
    both.settle()
    assert done == [1, 2]


def test_an_error_of_what_was_begun_comes_out_once(both, two_cores):
    def fails():
        raise ValueError("begun")

    both.begin(fails)
    with pytest.raises(ValueError, match="begun"):
        both.settle()
    both.begin(fails)
    with pytest.raises(ValueError, match="begun"):
        both.run(lambda: 1, lambda: 2)
    assert both.run(lambda: 1, lambda: 2) == (1, 2)
