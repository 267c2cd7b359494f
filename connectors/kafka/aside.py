"""A call on a thread of its own, so that whoever waits for it can be called away."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Aside(Generic[T]):
    """One call that may take long, begun at once. Used by one thread.

    Args:
        call: What is done; it ends by itself within some time.
        discard: Lets go of its result where nobody wants it any more.
    """

    def __init__(self, call: Callable[[], T], discard: Callable[[T], None] | None = None) -> None:
        self._call = call
        self._discard = discard
        self._lock = threading.Lock()
        self._is_abandoned = False
        self._error: Exception | None = None
        self._result: list[T] = []
        self._done = threading.Event()
        threading.Thread(target=self._run, name="kafka-aside", daemon=True).start()

    @property
    def is_done(self) -> bool:
        """Whether the call has ended."""
        return self._done.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the call; tell whether it has come."""
        return self._done.wait(timeout_s)

    def result(self) -> T:
        """Return what the ended call returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._result[0]

    def abandon(self) -> None:
        """Want the result no more, now or when it comes."""
        with self._lock:
            self._is_abandoned = True
            results, self._result = self._result, []
        self._drop(results)

    def _run(self) -> None:
        try:
            result = self._call()
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error
        else:
            with self._lock:
                self._result.append(result)
                unwanted, self._result = (
                    (self._result, []) if self._is_abandoned else ([], self._result)
                )
            self._drop(unwanted)
        self._done.set()

    def _drop(self, results: list[T]) -> None:
        if self._discard is not None:
            for result in results:
                self._discard(result)
