"""Two independent parts of one computation at the same time, where cores are idle otherwise."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

A = TypeVar("A")
B = TypeVar("B")


class ConcurrentParts:
    """Runs two parts of a model's step at once, or one after the other where that is no gain.

    A small model's products are too small to be shared between threads, which would mostly wait for
    each other; two parts of its graph that need nothing of each other meet once a step. Results do
    not depend on which it is. The second thread lives as long as this. Not thread-safe.
    """

    def __init__(self, device: torch.device) -> None:
        """``device`` is where the parts compute; anything but a CPU runs them in order."""
        self._is_cpu = device.type == "cpu"
        self._pool: ThreadPoolExecutor | None = None

    @property
    def is_parallel(self) -> bool:
        """Whether parts run at once: on a CPU, if torch uses one of several cores for a product."""
        return self._is_cpu and torch.get_num_threads() == 1 and _num_cores() > 1

    def run(self, first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
        """Return what both parts give; they must not write what the other reads.

        Raises:
            Exception: What a part raised, the first before the second; both have ended.
        """
        if not self.is_parallel:
            return first(), second()
        other = self._beside(second)
        try:
            mine = first()
        except BaseException:
            other.exception()
            raise
        return mine, other.result()

    def _beside(self, part: Callable[[], B]) -> "Future[B]":
        """Let the second thread run a part, after all that it was given before."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="maskstream-model")
        is_inference, learns = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        is_mixed, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

        def in_my_modes() -> B:
            # A thread has modes of its own.
            mixed = torch.autocast("cpu", dtype=dtype, enabled=is_mixed)
            with torch.inference_mode(is_inference), torch.set_grad_enabled(learns), mixed:
                return part()

        return self._pool.submit(in_my_modes)


def _num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
