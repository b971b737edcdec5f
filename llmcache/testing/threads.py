"""Threads that start together."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def in_threads(work: Callable[[int], T], *, threads: int = 8) -> list[T]:
    """Return what *work* returns in each of many threads, which start at once and switch often.

    Args:
        work: gets the number of its thread.
        threads: how many.

    Example:
        >>> in_threads(lambda number: number * 10, threads=3)
        [0, 10, 20]
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
