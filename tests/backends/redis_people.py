"""Who calls a decorated function again and again, while something happens to the server."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from redis_servers import until
from twins import World

from llmcache.backends.redis import RedisStore

LATE = 0.15
"""Seconds that a silent server may cost one call."""

QUICK = 0.02
"""Seconds that a server which says at once that it will not may cost one call."""

NOTHING = 0.001
"""Seconds that a server may cost once it is known to fail."""

STALL = 0.01
"""Seconds that a silent server may keep the event loop from whatever else there is to do."""

BACK = 2.0
"""Seconds until a server that is back is used again."""

SLACK = 2.0
"""How much slower a busy machine may be."""


class Person:
    """Calls one decorated function again and again, on one event loop if it is asynchronous.

    Attributes:
        calls: how often the function itself ran.
    """

    def __init__(self, world: World, store: RedisStore) -> None:
        self.calls = 0
        self.store = store
        self._world = world
        self._runner = asyncio.Runner()

        def answer(text: str) -> dict[str, str]:
            self.calls += 1
            return {"answer": text}

        self.call = world.cached(answer, backend=store, name="ask")

    def ask(self, text: str) -> float:
        """Call the function, see to it that its own result comes back, and return the seconds."""
        started = time.perf_counter()
        result = self.call(text)
        if self._world.is_async:
            result = self._runner.run(_wait(result))
        seconds = time.perf_counter() - started
        assert result == {"answer": text}
        return seconds

    def ask_at_once(self, texts: list[str], every: float = 0.0) -> None:
        """Call the function for all *texts*, and see to it as `ask` does.

        Args:
            texts: are asked in tasks or threads of their own.
            every: so many seconds another one begins.
        """

        async def wait(number: int) -> Any:
            await asyncio.sleep(number * every)
            return await self.call(texts[number])

        async def wait_for_all() -> list[Any]:
            return await asyncio.gather(*map(wait, range(len(texts))))

        def call(number: int) -> Any:
            time.sleep(number * every)
            return self.call(texts[number])

        if self._world.is_async:
            results = self._runner.run(wait_for_all())
        else:
            with ThreadPoolExecutor(len(texts)) as threads:
                results = list(threads.map(call, range(len(texts))))
        assert results == [{"answer": text} for text in texts]

    def hits(self, text: str) -> bool:
        """Call the function, and say whether it was answered from the store."""
        before = self.calls
        self.ask(text)
        return self.calls == before

    @property
    def numbers(self) -> Any:
        return self.call.cache.stats()

    def close(self) -> None:
        if self._world.is_async:
            self._runner.run(self.store.aclose())
        self._runner.close()
        self.store.close()


async def _wait(result: Any) -> Any:
    return await result


def warm(someone: Person) -> None:
    """Have one answer in the store, and a connection that is ready."""
    until(lambda: someone.hits("known"))


def suffer(someone: Person, first: float, then: float = NOTHING, *, calls: int = 60) -> None:
    """Call while the server fails: a few are late, and then none is.

    A machine that does other things makes many calls late, too, but not the quickest quarter.
    """
    texts = map(str, itertools.count())
    early = [someone.ask(next(texts)) for _ in range(3)]
    assert max(early) <= LATE * SLACK
    assert statistics.median(early) <= first
    late = [someone.ask(next(texts)) for _ in range(calls)]
    assert quickest(late) <= then * SLACK
    assert sum(seconds > first for seconds in late) <= calls / 10


def quickest(late: list[float]) -> float:
    """Return what a quarter of the calls took no longer than."""
    return statistics.quantiles(late, n=4)[0]


def recover(someone: Person) -> None:
    """Call until the store answers again."""
    until(lambda: someone.hits("known"), BACK * SLACK)
