"""What many tests need: a clock that stands still, and threads that start together."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from llmcache import Clock

T = TypeVar("T")


class FakeClock:
    """Stands still until it is moved; ``clock`` reads ``now``, for wall and monotonic time alike.

    Example:
        >>> clock = FakeClock()
        >>> clock.advance(60)
        >>> clock.clock.wall() == clock.now
        True
    """

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.clock = Clock(wall=self._read, monotonic=self._read)

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def _read(self) -> float:
        return self.now


def in_threads(work: Callable[[int], T], *, threads: int = 8) -> list[T]:
    """Return what *work* returns in each of many threads, which start at once and switch often.

    Args:
        work: gets the number of its thread.
        threads: how many.
    """
    start = threading.Barrier(threads)

    def run(number: int) -> T:
        start.wait()
        return work(number)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(run, range(threads)))
    finally:
        sys.setswitchinterval(interval)
