"""Whether a hit takes longer the more entries there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from benchmarks.asking import REQUESTS, in_turn
from benchmarks.tables import budget, duration, ratio
from benchmarks.timing import Effort, Row, compare

FEW = len(REQUESTS)
BUDGET = 1.2


def cells(
    callers: Mapping[str, Mapping[str, Callable[..., Any]]],
    requests: Iterable[dict[str, Any]],
    *,
    ours: str,
    effort: Effort,
) -> list[list[str]]:
    """Return the cache, the size, the time, the ratio to the first size, and a note, for each.

    Args:
        callers: what answers *requests*, by size, by cache.
        requests: are asked in turn.
        ours: the cache that has a budget.
    """
    body = []
    for cache, by_size in callers.items():
        rows = [Row(name=size, call=in_turn(call, requests)) for size, call in by_size.items()]
        first = rows[0].name
        for size, timing in compare(rows, base=first, effort=effort).items():
            note = budget(timing.ratio, BUDGET) if cache == ours and size != first else ""
            body.append([cache, size, duration(timing.seconds), ratio(timing.ratio), note])
    return body
