"""One thread for the work that an event loop must not wait for."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

T = TypeVar("T")

LINGER: Final = 0.25
"""Seconds that the thread waits for more to do, and that the end of the process may wait for it."""


class LoneThread:
    """Does one thing after the other, on a thread that is there while there is something to do.

    - What is submitted first is done first, and never two things at once.
    - The thread is no daemon: what was submitted is done before the process
      ends, which waits for it, and for no more than `LINGER` when it is idle.
    - A process that is forked has a thread of its own, and nothing to do.

    Args:
        name: of the thread.

    Example:
        >>> thread = LoneThread("example")
        >>> thread.submit(lambda: 6 * 7).result()
        42
        >>> thread.stop(1.0)
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._begin()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Return the future of what *work* returns or raises; it can be cancelled until it runs.

        Raises:
            RuntimeError: the process is ending.
        """
        if self._pid != os.getpid():
            self._begin()
        future: Future[T] = Future()
        with self._changed:
            self._stopping = False
            self._jobs.append((future, work))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=False)
                try:
                    self._thread.start()
                except BaseException:
                    self._thread = None
                    self._jobs.clear()
                    raise
            self._changed.notify()
        return future

    def stop(self, within: float) -> None:
        """Do what is left to do and end the thread, waiting for that at most *within* seconds."""
        if self._pid != os.getpid():
            return
        with self._changed:
            self._stopping = True
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(within)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._thread = None
        self._stopping = False

    def _run(self) -> None:
        while job := self._next():
            future, work = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:  # noqa: BLE001
                    future.set_exception(error)
            # An idle thread must not keep the last answer, nor the store, alive.
            del job, future, work

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._changed:
            if not self._jobs and not self._stopping:
                self._changed.wait(LINGER)
            if self._jobs:
                return self._jobs.popleft()
            self._thread = None
            return None
