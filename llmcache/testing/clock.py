"""A clock that stands still."""

from __future__ import annotations

from llmcache.policy import Clock


class FakeClock:
    """Stands still until it is moved.

    Attributes:
        now: what the clock shows.
        clock: reads ``now``, for wall and monotonic time alike.

    Example:
        >>> clock = FakeClock()
        >>> clock.advance(60)
        >>> clock.clock.wall() == clock.clock.monotonic() == clock.now
        True
    """

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.clock = Clock(wall=self._read, monotonic=self._read)

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass."""
        self.now += seconds

    def _read(self) -> float:
        return self.now
