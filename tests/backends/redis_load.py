"""People who call decorated functions all the time, while something happens to the servers."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from typing import Any

from redis_servers import HANG, until
from twins import World

from llmcache.backends.redis import RedisStore

TEXTS = [str(number) for number in range(32)]
"""So many that each server of a cluster has some."""

WORKERS = 4
_REST = 0.001


class Load:
    """Several who call one function each, in threads or in tasks of one event loop.

    What goes wrong in one of them is raised at the end of the ``with`` block.

    Args:
        world: whether the functions are asynchronous.
        store: keeps their answers.

    Attributes:
        seconds: how long each call took.
        calls: how often the functions themselves ran.
    """

    def __init__(self, world: World, store: RedisStore) -> None:
        self.seconds: list[float] = []
        self.calls = 0
        self._world = world
        self._store = store
        self._seen = dict.fromkeys(TEXTS, 0.0)
        self._errors: list[BaseException] = []
        self._over = threading.Event()
        work = self._run if world.is_async else self._work
        workers = 1 if world.is_async else WORKERS
        self._threads = [threading.Thread(target=work, args=(n,)) for n in range(workers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(HANG)
        self._store.close()
        if error is None and self._errors:
            raise self._errors[0]

    def hit(self, within: float = HANG) -> float:
        """Wait until each text has been answered from the store, and return for how long."""
        begin = time.monotonic()
        until(lambda: min(self._seen.values()) > begin, within)
        return time.monotonic() - begin

    def late(self, than: float) -> float:
        """Return the share of the calls that took longer."""
        return statistics.fmean(seconds > than for seconds in self.seconds)

    def _work(self, number: int) -> None:
        person = _Person(self._world, self._store)
        try:
            while not self._over.wait(_REST):
                text, started, before = person.begins()
                assert person.call(text) == {"answer": text}
                self._note(person, text, started, before)
        except BaseException as error:
            self._errors.append(error)

    def _run(self, number: int) -> None:
        async def work() -> None:
            person = _Person(self._world, self._store)
            while not self._over.is_set():
                text, started, before = person.begins()
                assert await person.call(text) == {"answer": text}
                self._note(person, text, started, before)
                await asyncio.sleep(_REST)

        async def main() -> None:
            await asyncio.gather(*(work() for _ in range(WORKERS)))

        try:
            asyncio.run(main())
        except BaseException as error:
            self._errors.append(error)

    def _note(self, person: _Person, text: str, started: float, before: int) -> None:
        self.seconds.append(time.monotonic() - started)
        if person.calls == before:
            self._seen[text] = started
        else:
            self.calls += 1


class _Person:
    def __init__(self, world: World, store: RedisStore) -> None:
        self.calls = 0
        self.turn = 0

        def answer(text: str) -> dict[str, str]:
            self.calls += 1
            return {"answer": text}

        self.call: Any = world.cached(answer, backend=store, name="ask")

    def begins(self) -> tuple[str, float, int]:
        self.turn += 1
        return TEXTS[self.turn * 7 % len(TEXTS)], time.monotonic(), self.calls
