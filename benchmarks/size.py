"""How much room answers take: as entries of a store, and in memory."""

from __future__ import annotations

import gc
import hashlib
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

import orjson
from cachetools import TTLCache

from benchmarks import cases
from benchmarks.peers import json_key
from benchmarks.tables import Table, amount, ratio
from benchmarks.timing import Effort
from llmcache import llm_cached
from llmcache.backends.memory import MemoryStore

ENTRIES = 1000
LENGTH = 1000
PACKINGS: dict[str, dict[str, Any]] = {
    "entry": {},
    "zlib": {"compress": "zlib"},
    "zstd": {"compress": "zstd"},
}


class _Measure(MemoryStore):
    """A store that tells how long the last entry was."""

    length = 0

    def set(self, key: str, data: bytes, ttl: float, within: float = 0.0) -> bool:
        self.length = len(data)
        return super().set(key, data, ttl)


def tables(effort: Effort) -> list[Table]:
    """Return the tables of this question."""
    return [_entries(effort), _memory()]


def _entries(effort: Effort) -> Table:
    rows = []
    found = cases.exchanges(quick=effort.quick)
    for kind in sorted({exchange.kind for exchange in found}):
        chosen = cases.of_kind(found, kind)
        plain = [len(orjson.dumps(exchange.body)) for exchange in chosen]
        rows.append(_row(kind, "JSON body", plain, plain))
        for name, options in PACKINGS.items():
            sizes = [_stored(exchange.answer, options) for exchange in chosen]
            rows.append(_row(kind, name, sizes, plain))
    return Table(
        title="Size: recorded answers as entries",
        text="Bytes; the ratio is of the totals. Entries of less than 16 KiB are not compressed.",
        head=["answers", "as", "number", "median", "largest", "total", "ratio"],
        rows=rows,
    )


def _row(kind: str, name: str, sizes: Sequence[int | None], plain: Sequence[int]) -> list[str]:
    kept = [size for size in sizes if size is not None]
    if not kept:
        return [kind, name, "none is kept", "", "", "", ""]
    bodies = sum(body for size, body in zip(sizes, plain, strict=True) if size is not None)
    cells = [amount(number) for number in (len(kept), median(kept), max(kept), sum(kept))]
    return [kind, name, *cells, ratio(sum(kept) / bodies)]


def _stored(answer: Any, options: dict[str, Any]) -> int | None:
    """Return the length of the entry that *answer* makes, ``None`` if it is not kept."""
    store = _Measure()

    @llm_cached(name="size", backend=store, **options)
    def complete() -> Any:
        return answer

    complete()
    return store.length or None


def _memory() -> Table:
    """What an answer of some length takes in memory, with its key and all that holds it."""

    @llm_cached(name="memory", max_size=ENTRIES)
    def complete(messages: Any) -> str:
        return answers[messages[0]["content"]]

    def ours() -> object:
        for prompt in answers:
            complete(messages=[{"role": "user", "content": prompt}])
        return complete

    answers = {str(i): cases.prose(LENGTH, seed=i) for i in range(ENTRIES)}
    digests = {
        hashlib.sha256(json_key(messages=[{"role": "user", "content": p}]).encode()).hexdigest(): a
        for p, a in answers.items()
    }
    complete(messages=[{"role": "user", "content": "0"}])
    complete.cache.clear()
    makers: dict[str, Callable[[], object]] = {
        "a dict, key and bytes": lambda: _filled({}, _copies(digests.items(), str.encode)),
        "cachetools.TTLCache, key and str": lambda: _filled(
            _cache(), _copies(digests.items(), str)
        ),
        "cachetools.TTLCache, key and bytes": lambda: _filled(
            _cache(), _copies(digests.items(), str.encode)
        ),
        "llmcache": ours,
    }
    rows = []
    for name, make in makers.items():
        taken = _allocated(make) / ENTRIES
        rows.append([name, amount(taken), ratio(taken / LENGTH)])
    return Table(
        title=f"Size: an answer of {amount(LENGTH)} bytes in memory",
        text=f"Bytes per entry, of {amount(ENTRIES)}; the ratio is to the answer as UTF-8. As a "
        "str it takes two bytes a character, since it is not all Latin.",
        head=["store", "bytes", "ratio"],
        rows=rows,
    )


def _cache() -> TTLCache[str, Any]:
    return TTLCache(ENTRIES, 3600)


def _copies(
    pairs: Iterable[tuple[str, str]], convert: Callable[[str], Any]
) -> Iterable[tuple[str, Any]]:
    """Return new objects: what is there already would count for nothing."""
    for key, answer in pairs:
        yield "".join(list(key)), convert("".join(list(answer)))


def _filled(mapping: Any, pairs: Iterable[tuple[str, Any]]) -> object:
    for key, value in pairs:
        mapping[key] = value
    return mapping


def _allocated(make: Callable[[], object]) -> int:
    """Return the bytes that what *make* returns keeps alive."""
    gc.collect()
    tracemalloc.start()
    kept = make()
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return size
