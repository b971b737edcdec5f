"""Whether a hit takes longer when there are many entries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import cycle
from typing import Any

import orjson

from benchmarks import cases
from benchmarks.floor import FLOOR, digest
from benchmarks.tables import Table, amount, budget, duration, ratio
from benchmarks.timing import Effort, Row, compare
from llmcache import llm_cached
from llmcache.backends.memory import MemoryStore

FEW = 1_000
ASKED = 1_000
BUDGET = 1.2
LLMCACHE = "llmcache"
TEXT = cases.prose(200, seed=1)

_REQUESTS = [cases.chat(f"question {number}") for number in range(ASKED)]


def tables(effort: Effort) -> list[Table]:
    """Return the tables of this question."""
    many = 100_000 if effort.quick else 1_000_000
    sizes = {f"{amount(size)} entries": _callers(size) for size in (FEW, many)}
    body = []
    for asked, spread in (("one request again and again", False), ("1,000 in turn", True)):
        for cache in (FLOOR, LLMCACHE):
            rows = [
                Row(name=size, call=_asking(callers[cache], spread=spread))
                for size, callers in sizes.items()
            ]
            base = rows[0].name
            for name, timing in compare(rows, base=base, effort=effort).items():
                note = budget(timing.ratio, BUDGET) if name != base and cache == LLMCACHE else ""
                cells = [duration(timing.seconds), ratio(timing.ratio), note]
                body.append([asked, cache, name, *cells])
    return [
        Table(
            title="Scale: a hit in memory",
            text="The floor is sorted JSON, its digest, a dict, and the value of its bytes: what "
            "it loses by size, the machine's memory takes.",
            head=["requests", "cache", "store", "time", "ratio", "note"],
            rows=body,
        )
    ]


def _asking(call: Callable[..., Any], *, spread: bool) -> Callable[[], Any]:
    """Return what asks one request, or one after another."""
    if not spread:
        return lambda: call(**_REQUESTS[0])
    requests = cycle(_REQUESTS)
    return lambda: call(**next(requests))


def _callers(size: int) -> dict[str, Callable[..., Any]]:
    """Return what answers the requests out of *size* entries, theirs evenly among all others."""
    table: dict[bytes, bytes] = {}

    def least(**request: Any) -> Any:
        return orjson.loads(table[digest(request)])

    store = MemoryStore(max_size=size)

    @llm_cached(name=f"scale {size}", backend=store, ttl=None, strict=True)
    def complete(messages: Any, model: str, temperature: float) -> str:
        return TEXT

    between = size // ASKED - 1
    for number, request in enumerate(_REQUESTS):
        complete(**request)
        table[digest(request)] = orjson.dumps(TEXT)
        for other in range(between):
            place = b"%0300d" % (number * between + other)
            store.set(f"{place[-3:].hex()}:{hashlib.sha256(place).hexdigest()}", place, 3600.0)
            table[hashlib.sha256(place).digest()] = place
    for request in _REQUESTS:
        complete(**request)
    if complete.cache.stats().misses != ASKED:
        raise RuntimeError("not every request was a hit")
    return {FLOOR: least, LLMCACHE: complete}
