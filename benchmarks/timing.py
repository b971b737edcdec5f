"""Times rows side by side: they take turns in each round, so that noise hits all alike."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from statistics import median
from time import perf_counter
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long to look.

    Args:
        rounds: how often each row has its turn.
        slot: about how many seconds a turn takes.
        quick: whether a rough number is enough.
    """

    rounds: int
    slot: float
    quick: bool


# A short turn is seldom interrupted, and the median passes over those that are.
FULL = Effort(rounds=101, slot=0.001, quick=False)
QUICK = Effort(rounds=15, slot=0.0005, quick=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Something to time.

    Args:
        name: what it is.
        call: does it.
        awaited: whether what *call* returns is to be awaited, inside one loop.
        operations: how many operations one call is.
    """

    name: str
    call: Callable[[], Any]
    awaited: bool = False
    operations: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What came out for a row.

    Args:
        seconds: the median over all rounds, of one operation.
        added: the median of the seconds that it took more than the base.
        ratio: the median of the ratios to the base in the same round.
        best: the shortest time of all rounds, for those that add up: a busy
            machine makes them longer, one more than the other.
    """

    seconds: float
    added: float
    ratio: float
    best: float


def compare(rows: Sequence[Row], *, base: str, effort: Effort) -> dict[str, Timing]:
    """Time *rows* and return a timing for the name of each; *base* is what ratios are to."""
    order = list(rows)
    shuffle = random.Random(0).shuffle
    rounds: list[dict[str, float]] = []
    with _quiet(), asyncio.Runner() as runner:
        counts = {row.name: _calibrate(row, runner, effort.slot) for row in rows}
        for _ in range(effort.rounds):
            shuffle(order)
            rounds.append({row.name: _turn(row, runner, counts[row.name]) for row in order})
            gc.collect(0)
    return {
        row.name: Timing(
            seconds=median(times[row.name] for times in rounds),
            added=median(times[row.name] - times[base] for times in rounds),
            ratio=median(times[row.name] / times[base] for times in rounds),
            best=min(times[row.name] for times in rounds),
        )
        for row in rows
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the collector from running inside of a turn, as `timeit` does."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _calibrate(row: Row, runner: asyncio.Runner, slot: float) -> int:
    """Return how many calls take about *slot* seconds; the first ones warm up."""
    _turn(row, runner, 1)
    count = 1
    while True:
        seconds = min(_turn(row, runner, count) for _ in range(2)) * count * row.operations
        if seconds >= slot / 2:
            return max(1, round(count * slot / seconds))
        count *= 4


def _turn(row: Row, runner: asyncio.Runner, count: int) -> float:
    """Return the seconds that one operation took, over *count* calls."""
    if row.awaited:
        seconds = runner.run(_awaited(row.call, count))
    else:
        call = row.call
        started = perf_counter()
        for _ in repeat(None, count):
            call()
        seconds = perf_counter() - started
    return seconds / count / row.operations


async def _awaited(call: Callable[[], Any], count: int) -> float:
    started = perf_counter()
    for _ in repeat(None, count):
        await call()
    return perf_counter() - started
