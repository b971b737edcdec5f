"""The sums are exact, whatever happens at once."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from stand_ins import in_threads

import llmcache
from llmcache import llm_cached
from llmcache.backends.memory import MemoryStore

OUTCOMES = ("answer", "fails", "odd", "large", "stream", "keyless")


class Upstream:
    """A function that does what it is told, and counts what it did."""

    def __init__(self) -> None:
        self.did: Counter[str] = Counter()
        self.lock = threading.Lock()

    def __llmcache_key__(self) -> str:
        return "upstream"

    def note(self, what: str) -> None:
        with self.lock:
            self.did[what] += 1

    def answer(self, what: str) -> Any:
        self.note(what)
        if what == "fails":
            raise LookupError(what)
        return {"odd": object(), "large": "x" * 1000}.get(what, "an answer")


def requests(seed: int, count: int) -> list[tuple[str, Any, bool]]:
    """Return what to ask: what happens, the prompt, and whether for a stream."""
    chance = random.Random(seed)
    weights = (60, 10, 10, 5, 10, 5)
    chosen = chance.choices(OUTCOMES, weights, k=count)
    return [
        (what, object() if what == "keyless" else chance.randrange(30), what == "stream")
        for what in chosen
    ]


def check(upstream: Upstream, function: Any, asked: Counter[str], cancelled: int = 0) -> None:
    stats = function.cache.stats()
    did = upstream.did
    assert stats.calls == sum(asked.values())
    assert stats.calls == stats.hits + stats.misses + stats.bypassed + stats.uncacheable
    assert stats.bypassed == did["stream"] == asked["stream"]
    assert stats.uncacheable == did["keyless"] == asked["keyless"]
    assert stats.misses == sum(did[what] for what in ("answer", "fails", "odd", "large"))
    assert stats.failed == did["fails"] == asked["fails"]
    assert stats.rejected == did["odd"] == asked["odd"]
    assert stats.too_large == did["large"] == asked["large"]
    assert stats.stored == did["answer"] - cancelled
    assert stats.misses == (
        stats.stored + stats.failed + stats.rejected + stats.too_large + cancelled
    )
    assert (stats.corrupt, stats.errors) == (0, 0)
    assert stats.hits > 0
    assert stats.evicted > 0
    assert stats.size is not None
    assert stats.size <= 20


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


def test_threads_count_exactly(upstream: Upstream) -> None:
    @llm_cached(name="ask", max_size=20, max_value_bytes=500)
    def ask(what: str, prompt: Any, stream: bool = False) -> Any:
        return upstream.answer(what)

    def work(thread: int) -> Counter[str]:
        asked: Counter[str] = Counter()
        for place, (what, prompt, stream) in enumerate(requests(thread, 400)):
            asked[what] += 1
            try:
                ask(what, prompt, stream=stream)
            except LookupError:
                asked["raised"] += 1
            if place == 200 and thread == 0:
                ask.cache.clear()
        return asked

    asked = sum(in_threads(work), Counter())
    assert asked.pop("raised") == asked["fails"]
    check(upstream, ask, asked)
    assert llmcache.stats() == ask.cache.stats()


def test_tasks_and_cancellations_count_exactly(upstream: Upstream) -> None:
    store = MemoryStore(max_size=20)
    cancelled = 0

    @llm_cached(name="ask", backend=store, max_value_bytes=500)
    async def ask(what: str, prompt: Any, stream: bool = False) -> Any:
        await asyncio.sleep(0)
        try:
            return upstream.answer(what)
        finally:
            await asyncio.sleep(0)

    async def one(what: str, prompt: Any, stream: bool) -> None:
        nonlocal cancelled
        task = asyncio.ensure_future(ask(what, prompt, stream=stream))
        if what == "answer" and isinstance(prompt, int) and prompt % 3 == 0:
            before = upstream.did["answer"]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            ran = upstream.did["answer"] > before
            if ran and task.cancel():
                try:
                    await task
                except asyncio.CancelledError:
                    cancelled += 1
                return
        with suppress(LookupError):
            await task

    async def scenario() -> Counter[str]:
        asked: Counter[str] = Counter()
        # One after another where the test must know what a cancellation met.
        for place, (what, prompt, stream) in enumerate(requests(7, 1500)):
            asked[what] += 1
            await one(what, prompt, stream)
            if place == 700:
                await ask.cache.clear()
        many = requests(8, 1500)
        asked.update(what for what, _, _ in many)
        found = await asyncio.gather(
            *(ask(what, prompt, stream=stream) for what, prompt, stream in many),
            return_exceptions=True,
        )
        assert all(
            isinstance(error, LookupError) for error in found if isinstance(error, Exception)
        )
        return asked

    asked = asyncio.run(scenario())
    assert cancelled > 0
    check(upstream, ask, asked, cancelled)


def test_the_process_counts_what_its_functions_count() -> None:
    functions = [llm_cached(name=f"f{n}")(lambda text: text) for n in range(5)]

    def work(thread: int) -> None:
        chance = random.Random(thread)
        for _ in range(300):
            chance.choice(functions)(chance.randrange(10))

    in_threads(work)
    total = llmcache.stats()
    each = [function.cache.stats() for function in functions]
    assert total.calls == sum(stats.calls for stats in each) == 8 * 300
    for name in ("hits", "misses", "stored", "size", "bytes"):
        assert getattr(total, name) == sum(getattr(stats, name) for stats in each)
