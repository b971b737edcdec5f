"""What the tests of a store stand on: a new store, a clock, and what may be found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from llmcache.backends.base import Store
from llmcache.policy import Clock
from llmcache.testing.caller import Caller
from llmcache.testing.clock import FakeClock

BRIEF = 1 / 16
"""A time to live that a test can wait for."""


class StoreHarness:
    """What `llmcache.testing.StoreSuite` has besides its tests."""

    takes_clock = True
    keeps = True
    persistent = False

    def make_store(self, clock: Clock) -> Store:
        """Return a new store with nothing in it, and with room for 200 entries and 2 MB.

        If it has a ``timeout``, give it one that is long enough for many
        threads and processes on a busy machine, such as a minute: a store that
        has no more time raises, and fails the test.

        Args:
            clock: the time, unless ``takes_clock`` is false.
        """
        raise NotImplementedError("a StoreSuite needs make_store(clock)")

    @pytest.fixture
    def clock(self) -> FakeClock:
        """The clock that the store of this test was handed."""
        return FakeClock()

    @pytest.fixture
    def wait(self, clock: FakeClock) -> Callable[[float], None]:
        """Let some seconds pass for the store."""
        return clock.advance if self.takes_clock else _sleep

    @pytest.fixture
    def bare(self, clock: FakeClock) -> Iterator[Store]:
        """A new store, which is closed after the test."""
        store = self.make_store(clock.clock)
        yield store
        store.close()

    @pytest.fixture(params=[False, True], ids=["sync", "async"])
    def store(self, request: pytest.FixtureRequest, bare: Store) -> Iterator[Caller]:
        """A new store, called by its blocking or its awaitable methods."""
        with Caller(bare, awaited=request.param) as caller:
            yield caller
            caller.close()

    def answers(self, data: object) -> tuple[object, ...]:
        """Return what may be found where *data* was set last."""
        return (data,) if self.keeps else (data, None)

    def counted(self, store: Caller, group: str, live: int) -> bool:
        """Say whether the store's usage of *group* may be that of *live* entries."""
        entries, size = store.store.usage(group)
        right = entries is None or entries == live or (not self.keeps and 0 <= entries <= live)
        return right and (size is None or size >= 0) and (live > 0 or not size)

    def needs_clock(self) -> None:
        """Skip the test if time cannot be moved."""
        if not self.takes_clock:
            pytest.skip("this store's time cannot be moved")


def _sleep(seconds: float) -> None:
    time.sleep(seconds + BRIEF / 2)
