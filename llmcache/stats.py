"""What the cache saw, and what it saved."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from llmcache.backends.base import Usage

NOTHING: Final = Usage(0, 0)
FEW_HITS: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counts since the start, or since they were reset.

    Args:
        hits: calls that were answered from the cache.
        misses: calls that ran the function because no entry answered.
        bypassed: calls that ran the function because they asked for a stream.
        uncacheable: calls that ran the function because they have no key.
        stored: results that were put into a store.
        rejected: results that were not stored because they would not come
            back as they were.
        too_large: results that were not stored for their size.
        evicted: live entries that were dropped to make room.
        expired: entries that were dropped after their time to live.
        corrupt: entries that were dropped because they were not whole, or
            not of the key that was asked for.
        errors: failures of the cache itself; the calls went through.
        failed: exceptions of the function, after a miss.
        size: live entries now, ``None`` where only a scan could tell.
        bytes: what they take, ``None`` likewise.
        time_saved: seconds that the calls answered from the cache took when
            they ran.

    ``calls`` is the sum of the outcomes, one per call: hits, misses, bypassed
    and uncacheable. All else are events.
    """

    hits: int = 0
    misses: int = 0
    bypassed: int = 0
    uncacheable: int = 0
    stored: int = 0
    rejected: int = 0
    too_large: int = 0
    evicted: int = 0
    expired: int = 0
    corrupt: int = 0
    errors: int = 0
    failed: int = 0
    size: int | None = 0
    bytes: int | None = 0
    time_saved: float = 0.0

    @property
    def calls(self) -> int:
        """How often decorated functions were called."""
        return self.hits + self.misses + self.bypassed + self.uncacheable

    @property
    def hit_rate(self) -> float:
        """The share of hits among hits and misses, ``0.0`` without any."""
        looked_up = self.hits + self.misses
        return self.hits / looked_up if looked_up else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers by name, ``calls`` and ``hit_rate`` included."""
        return {"calls": self.calls, "hit_rate": self.hit_rate, **asdict(self)}

    def __str__(self) -> str:
        rows = []
        for name, value in self.as_dict().items():
            if name == "hit_rate":
                shown = f"{value:.1%}"
            elif name == "time_saved":
                shown = f"{value:.3f} s"
            else:
                shown = "unknown" if value is None else f"{value:,}"
            rows.append((name.replace("_", " "), shown))
        width = max(len(shown) for _, shown in rows)
        return "\n".join(f"{name:<12}{shown:>{width + 2}}" for name, shown in rows)


_EVENTS: Final = tuple(f.name for f in fields(Stats) if f.name not in {"hits", "size", "bytes"})


def _zeros() -> dict[str, Any]:
    return {**dict.fromkeys(_EVENTS, 0), "time_saved": 0.0}


class Counters:
    """The numbers of one function, counted by many threads at once.

    Attributes:
        saved: the seconds that each hit saved, until they are added up: who
            appends to it calls `add_up` when there are more than `FEW_HITS`.
    """

    def __init__(self) -> None:
        # A hit is the path that is run a million times: appending is atomic
        # and costs a third of taking a lock.
        self.saved: deque[float] = deque()
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Start again from zero."""
        with self._lock:
            self.saved.clear()
            self._hits = 0
            self._counts = _zeros()

    def hit(self, saved: float) -> None:
        """Count a hit that saved so many seconds."""
        self.saved.append(saved)
        if len(self.saved) > FEW_HITS:
            self.add_up()

    def count(self, event: str) -> None:
        """Count one *event*, by its name in `Stats`."""
        with self._lock:
            self._counts[event] += 1

    def add(self, stats: Stats) -> None:
        """Count everything that *stats* counted."""
        with self._lock:
            self._hits += stats.hits
            for event in _EVENTS:
                self._counts[event] += getattr(stats, event)

    def snapshot(self, usage: Usage = NOTHING) -> Stats:
        """Return the numbers at one moment, and *usage* with them."""
        with self._lock:
            self.add_up()
            return Stats(hits=self._hits, size=usage.entries, bytes=usage.bytes, **self._counts)

    def take(self) -> Stats:
        """Return the numbers at one moment, and start again from zero."""
        with self._lock:
            numbers = self.snapshot()
            self._hits = 0
            self._counts = _zeros()
            return numbers

    def add_up(self) -> None:
        """Add up the hits until now."""
        with self._lock:
            saved = [self.saved.popleft() for _ in range(len(self.saved))]
            self._hits += len(saved)
            self._counts["time_saved"] += sum(saved)
