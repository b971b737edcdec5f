"""How much room answers take: as entries of a store, and in memory."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import median
from typing import Any

import orjson
from cachetools import TTLCache

from benchmarks import cases
from benchmarks.check import new_name
from benchmarks.peers import PEERS, Peer, json_key, why_not
from benchmarks.tables import Table, amount, ratio
from benchmarks.timing import Effort
from llmcache import llm_cached
from llmcache.backends.memory import MemoryStore

ENTRIES = 1000
LENGTH = 1000
OUTSIDE = ("diskcache", "joblib.Memory")
"""Those that keep nothing in memory."""
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
    answers = {str(i): cases.prose(LENGTH, seed=i) for i in range(ENTRIES)}
    digests = {
        hashlib.sha256(json_key(messages=[{"role": "user", "content": p}]).encode()).hexdigest(): a
        for p, a in answers.items()
    }
    makers: dict[str, Callable[[], object]] = {
        "a dict, key and bytes": lambda: _filled({}, _copies(digests.items(), str.encode)),
        "cachetools.TTLCache, key and str": lambda: _filled(
            _cache(), _copies(digests.items(), str)
        ),
        "cachetools.TTLCache, key and bytes": lambda: _filled(
            _cache(), _copies(digests.items(), str.encode)
        ),
    }
    rows = [_memory_row(name, _allocated(make), ENTRIES) for name, make in makers.items()]
    ours = Peer(name="llmcache", package=None, wrap=llm_cached(max_size=ENTRIES))
    for peer in (ours, *(peer for peer in PEERS if peer.name not in OUTSIDE)):
        try:
            rows.append(_memory_row(peer.title, *_held(peer, answers)))
        except Exception as error:
            rows.append([peer.title, "", "", "", why_not(error)])
    return Table(
        title=f"Size: an answer of {amount(LENGTH)} bytes in memory",
        text=f"Bytes per entry, of {amount(ENTRIES)} or as many as are kept; the ratio is to the "
        "answer as UTF-8. As a str it takes two bytes a character, since it is not all Latin.",
        head=["store", "entries", "bytes", "ratio", "note"],
        rows=rows,
    )


def _memory_row(name: str, taken: float, entries: int) -> list[str]:
    each = taken / entries
    return [name, amount(entries), amount(each), ratio(each / LENGTH), ""]


def _held(peer: Peer, answers: dict[str, str]) -> tuple[int, int]:
    """Return the bytes that a cache takes for *answers*, and how many of them it keeps."""
    asked: list[str] = []

    def complete(messages: Any, model: str, temperature: float) -> str:
        asked.append(model)
        return "".join(list(answers[messages[0]["content"]]))

    async def acomplete(messages: Any, model: str, temperature: float) -> str:
        return complete(messages, model, temperature)

    made = acomplete if peer.awaited else complete
    made.__name__ = made.__qualname__ = new_name()
    cached = peer.wrap(made)

    def ask(prompts: Iterable[str]) -> None:
        for prompt in prompts:
            messages = [{"role": "user", "content": prompt}]
            call = partial(cached, messages=messages, model=cases.MODEL, temperature=0.0)
            runner.run(call()) if peer.awaited else call()

    with asyncio.Runner() as runner:
        first, *others = answers
        ask([first])
        taken = _allocated(lambda: ask(others))
        asked.clear()
        # In this order those that were dropped are not in the way of those that were kept.
        ask(reversed(others))
    return taken, len(others) - len(asked)


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
