"""Calls of a decorated function whose answers are in a SQLite file, for the tests of its faults.

    python sqlite_calls.py FILE KIND WORKERS TURNS NAME

Asks as a process of its own: *WORKERS* threads or tasks, *TURNS* questions each.
With one worker it prints ``?prompt`` before it asks and ``+prompt`` once the
answer is stored; at last the numbers, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from stand_ins import in_threads
from twins import World

from llmcache.backends.sqlite import SQLiteStore
from llmcache.stats import Stats

SOON: float = 5.0
"""Seconds within which there are hits again once nothing is wrong any more."""


def answer(prompt: str, size: int = 1) -> dict[str, Any]:
    """Return the one right answer, of 64 bytes times *size*."""
    return {"prompt": prompt, "text": sha256(prompt.encode()).hexdigest() * size}


class Caller:
    """Calls a decorated function, and checks each answer and the sums.

    Args:
        world: the function's.
        path: of the file.
        size: of the answers.
        timeout: the store's; long, unless it is what is tried.
    """

    def __init__(self, world: World, path: Path, *, size: int = 1, timeout: float = 30.0) -> None:
        self.world = world
        self.store = SQLiteStore(path, timeout=timeout)
        self.size = size
        self.calls = 0
        self.ran: list[str] = []

        def ask(prompt: str) -> dict[str, Any]:
            self.ran.append(prompt)
            return answer(prompt, size)

        self.ask = world.cached(ask, backend=self.store, name="ask")

    def __call__(self, *prompts: str) -> Stats:
        for prompt in prompts:
            self.calls += 1
            assert self.world.run(self.ask(prompt)) == answer(prompt, self.size)
        return self.check()

    def check(self) -> Stats:
        # What `stats` also asks the store for may take its time.
        stats: Stats = self.ask.cache._engine.counters.snapshot()
        assert stats.calls == stats.hits + stats.misses == self.calls
        assert stats.misses == len(self.ran)
        assert stats.failed == stats.uncacheable == stats.rejected == 0
        return stats

    def at_once(self, *prompts: str) -> Stats:
        """Do as a call for each, from as many threads or tasks."""
        self.calls += len(prompts)

        async def all_of_them() -> list[Any]:
            return await asyncio.gather(*map(self.ask, prompts))

        if self.world.is_async:
            answers = asyncio.run(all_of_them())
        else:
            answers = in_threads(lambda at: self.ask(prompts[at]), threads=len(prompts))
        assert answers == [answer(prompt, self.size) for prompt in prompts]
        return self.check()

    def times(self, prompts: list[str]) -> list[float]:
        """Return the seconds that each call takes, all in one event loop."""
        self.calls += len(prompts)
        taken = []

        async def all_of_them() -> None:
            for prompt in prompts:
                started = time.perf_counter()
                found = self.ask(prompt)
                if self.world.is_async:
                    found = await found
                taken.append(time.perf_counter() - started)
                assert found == answer(prompt, self.size)

        asyncio.run(all_of_them())
        return taken

    def hits(self, *prompts: str) -> None:
        """Check that these are answered without the function."""
        ran = len(self.ran)
        self(*prompts)
        assert self.ran[ran:] == []

    def hits_soon(self, *prompts: str) -> float:
        """Ask until each is answered without the function; return after how many seconds."""
        started = time.monotonic()
        while True:
            ran = len(self.ran)
            self(*prompts)
            taken = time.monotonic() - started
            if len(self.ran) == ran:
                return taken
            assert taken < SOON, self.check()
            time.sleep(0.005)

    def stores_soon(self) -> float:
        """Ask something new until it is kept; return after how many seconds."""
        return self.hits_soon(f"new after {self.calls}")


def in_a_process(*arguments: object, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start this module as a program, under *before*."""
    paths = str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")
    return subprocess.Popen(
        [*before, sys.executable, __file__, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def _one_worker(caller: Caller, turns: int, name: str) -> None:
    for turn in range(turns):
        prompt = f"{name} {turn}"
        stored = caller.check().stored
        say(f"?{prompt}")
        if caller(prompt).stored > stored:
            say(f"+{prompt}")
        caller(prompt, f"{name} {turn // 2}")


def _many_workers(caller: Caller, workers: int, turns: int, name: str) -> None:
    for turn in range(turns):
        own = [f"{name} {worker} {turn}" for worker in range(workers)]
        caller.at_once(*own)
        caller.at_once(*own[::2], *(f"anybody's {worker} {turn}" for worker in range(workers // 2)))


def main(arguments: list[str]) -> None:
    path, kind, workers, turns, name = arguments
    if workers == "1":
        caller = Caller(World(kind), Path(path), size=20)
        _one_worker(caller, int(turns), name)
    else:
        caller = Caller(World(kind), Path(path), size=20, timeout=0.1)
        _many_workers(caller, int(workers), int(turns), name)
    stats = caller.check()
    caller.store.close()
    say(json.dumps(asdict(stats)))


if __name__ == "__main__":
    main(sys.argv[1:])
