"""Whether a hit takes longer when there are many entries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import orjson

from benchmarks import cases, growth
from benchmarks.asking import PATTERNS, REQUESTS
from benchmarks.floor import FLOOR, digest
from benchmarks.tables import Table, amount
from benchmarks.timing import Effort
from llmcache import llm_cached
from llmcache.backends.memory import MemoryStore

LLMCACHE = "llmcache"


def tables(effort: Effort) -> list[Table]:
    """Return the tables of this question."""
    many = 100_000 if effort.quick else 1_000_000
    callers: dict[str, dict[str, Callable[..., Any]]] = {FLOOR: {}, LLMCACHE: {}}
    for size in (growth.FEW, many):
        for cache, call in _callers(size).items():
            callers[cache][f"{amount(size)} entries"] = call
    return [
        Table(
            title="Scale: a hit in memory",
            text="The floor is sorted JSON, its digest, a dict, and the value of its bytes: what "
            "it loses by size, the machine's memory takes.",
            head=["requests", "cache", "store", "time", "ratio", "note"],
            rows=[
                [asked, *cells]
                for asked, requests in PATTERNS.items()
                for cells in growth.cells(callers, requests, ours=LLMCACHE, effort=effort)
            ],
        )
    ]


def _callers(size: int) -> dict[str, Callable[..., Any]]:
    """Return what answers the requests out of *size* entries, theirs evenly among all others."""
    table: dict[bytes, bytes] = {}

    def least(**request: Any) -> Any:
        return orjson.loads(table[digest(request)])

    store = MemoryStore(max_size=size)

    @llm_cached(name=f"scale {size}", backend=store, ttl=None, strict=True)
    def complete(messages: Any, model: str, temperature: float) -> str:
        return cases.SHORT_TEXT

    between = size // len(REQUESTS) - 1
    for number, request in enumerate(REQUESTS):
        complete(**request)
        table[digest(request)] = orjson.dumps(cases.SHORT_TEXT)
        for other in range(between):
            place = b"%0300d" % (number * between + other)
            store.set(f"{place[-3:].hex()}:{hashlib.sha256(place).hexdigest()}", place, 3600.0)
            table[hashlib.sha256(place).digest()] = place
    for request in REQUESTS:
        complete(**request)
    if complete.cache.stats().misses != len(REQUESTS):
        raise RuntimeError("not every request was a hit")
    return {FLOOR: least, LLMCACHE: complete}
