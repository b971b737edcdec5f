"""What keeps a store that fails from costing its callers time."""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Callable
from math import inf
from typing import Final

from llmcache.errors import LLMCacheError

logger: Final = logging.getLogger("llmcache")

MOST_FAILURES: Final = 3
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 1.0
STEADY: Final = 2.0
"""Seconds for which a store that is back must work to be taken for well."""


class Breaker:
    """Is open while a store fails, so that nobody waits for it.

    It opens after three failures on end, or when failures on end have taken
    longer than a call may. While it is open, a probe in a thread of its own
    finds out whether the store is back: the first after a quarter of a second,
    further ones after pauses that grow to a second. A probe is started by
    whoever is turned away when its time has come.

    A store that fails again soon after it was found to be back is restless:
    pauses go on growing, and nothing is said until it has worked for a while.

    Args:
        what: what it stands before, for log lines.
        limit: seconds that failures on end may take.
        monotonic: the clock, in seconds.
        probe: asks the store for something, and raises if that fails.

    Attributes:
        is_open: whether callers are turned away. One log line says each change.
    """

    def __init__(
        self,
        what: str,
        *,
        limit: float,
        monotonic: Callable[[], float],
        probe: Callable[[], object],
    ) -> None:
        self.is_open = False
        self._what = what
        self._limit = limit
        self._monotonic = monotonic
        self._probe = probe
        self._failures = 0
        self._spent = 0.0
        self._is_restless = False
        # Whether there is something to do when the store works.
        self._is_unsettled = False
        self._back = -inf
        self._pause = FIRST_PAUSE
        self._next_probe = 0.0
        self._probing = False
        self._process = os.getpid()
        self._lock = threading.RLock()

    @property
    def is_slow(self) -> bool:
        """Whether it is open, and what is asked all the same takes longer than it may."""
        return self.is_open and self._spent >= self._limit

    def turns_away(self) -> bool:
        """Say whether the store is not to be asked; start a probe if it is time for one."""
        if not self.is_open:
            return False
        if self._monotonic() >= self._next_probe:
            self._start_probe()
        return True

    def worked(self) -> None:
        """Take note that the store did what it was asked."""
        if self._is_unsettled:
            self._settle()

    def failed(self, error: Exception, seconds: float) -> None:
        """Take note that the store failed, and took so long to do so."""
        with self._changing():
            self._is_unsettled = True
            self._failures += 1
            self._spent += seconds
            if self.is_open or (self._failures < MOST_FAILURES and self._spent < self._limit):
                return
            self.is_open = True
            now, was_restless = self._monotonic(), self._is_restless
            self._is_restless = was_restless or now - self._back < STEADY
            self._pause = min(self._pause * 2, LONGEST_PAUSE) if self._is_restless else FIRST_PAUSE
            self._next_probe = now + self._pause
        if was_restless:
            return
        # The text of a foreign error may repeat a key, an entry or a password.
        ours = isinstance(error, LLMCacheError)
        why = f"{type(error).__qualname__}: {error}" if ours else type(error).__qualname__
        logger.warning("%s failed (%s): calls go through until it is back", self._what, why)

    def _settle(self) -> None:
        with self._changing():
            self._failures, self._spent = 0, 0.0
            is_well = self._monotonic() - self._back >= STEADY and not self.is_open
            was_restless = self._is_restless
            self._is_restless = self._is_unsettled = was_restless and not is_well
        if was_restless and is_well:
            logger.warning("%s is back", self._what)

    def _start_probe(self) -> None:
        with self._changing():
            if self._probing:
                return
            self._probing = True
        try:
            threading.Thread(target=self._run_probe, name="llmcache-probe", daemon=True).start()
        except RuntimeError:
            # No thread starts while the interpreter ends.
            self._probing = False

    def _run_probe(self) -> None:
        try:
            self._probe()
        except BaseException:  # noqa: BLE001
            with self._changing():
                self._pause = min(self._pause * 2, LONGEST_PAUSE)
                jitter = random.uniform(0.75, 1.0)  # noqa: S311
                self._next_probe = self._monotonic() + self._pause * jitter
        else:
            with self._changing():
                self.is_open, self._failures, self._spent = False, 0, 0.0
                self._back = self._monotonic()
                is_restless = self._is_restless
                if not is_restless:
                    self._pause = FIRST_PAUSE
            if not is_restless:
                logger.warning("%s is back", self._what)
        finally:
            self._probing = False

    def _changing(self) -> threading.RLock:
        if self._process != os.getpid():
            # Whoever held the lock, or was probing, is not in this fork.
            self._process, self._lock, self._probing = os.getpid(), threading.RLock(), False
        return self._lock
