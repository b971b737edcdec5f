"""What calls take longer while the server of a cache fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks import cases, redis_peers
from benchmarks.asking import anew
from benchmarks.check import function
from benchmarks.servers import serving
from benchmarks.tables import Table, duration, titled
from llmcache import llm_cached
from llmcache.backends.redis import RedisStore

LONG = 20.0
"""Seconds after which nobody waits for a call any longer."""

LATER = 5
"""How many calls there are after the first."""


def table() -> Table:
    """The first call and those after it, of each cache, with a server that is silent or gone."""
    body = []
    for what, strike in (("silent", "pause"), ("gone", "kill")):
        for name, awaited, wrap in _callers():
            with serving() as server:
                cached = wrap(server, function(cases.TEXT, awaited=awaited))
                first, later = _suffered(cached, awaited, getattr(server, strike))
            body.append([what, titled(name, awaited), _late(first), _late(later)])
    return Table(
        title="Redis: a server that fails",
        text="What one call takes longer, with the defaults of each cache, after it had connected: "
        "the first call while the server is stopped (SIGSTOP) or has been killed, and the median "
        f"of the next {LATER}. Nobody waits longer than {LONG:.0f} s.",
        head=["server", "cache", "first call", "later calls"],
        rows=body,
    )


def _callers() -> Iterator[tuple[str, bool, Callable[[Any, Any], Any]]]:
    """Give each cache's name, whether it is awaited, and what puts a function behind it."""
    for awaited in (False, True):
        yield "llmcache, Redis", awaited, _behind_ours
    for number, peer in enumerate(redis_peers.peers(0)):
        yield peer.name, peer.awaited, partial(_behind_peer, number)


def _behind_ours(server: Any, complete: Any) -> Any:
    return llm_cached(backend=RedisStore(server.url))(complete)


def _behind_peer(number: int, server: Any, complete: Any) -> Any:
    return redis_peers.peers(server.port)[number].wrap(complete)


def _suffered(
    cached: Any, awaited: bool, strike: Callable[[], None]
) -> tuple[float | str, float | str]:
    """Return what the first call takes after *strike*, and what those after it take.

    An exception is the name of its class.
    """
    call = anew(cached)
    found: list[float | str] = []

    def ask() -> None:
        for _ in range(3):
            call()
        strike()
        for _ in range(1 + LATER):
            started = perf_counter()
            try:
                call()
            except Exception as error:
                found.append(type(error).__name__)
            else:
                found.append(perf_counter() - started)

    async def aask() -> None:
        for _ in range(3):
            await call()
        strike()
        for _ in range(1 + LATER):
            found.append(await _waited(call()))

    worker = threading.Thread(target=(lambda: asyncio.run(aask())) if awaited else ask, daemon=True)
    worker.start()
    worker.join(3 * LONG)
    first, *later = [*found, LONG] if len(found) < 1 + LATER else found
    if isinstance(first, float) and first >= LONG:
        later = [LONG]
    raised = [each for each in later if isinstance(each, str)]
    return first, raised[0] if raised else median(map(float, later or [LONG]))


async def _waited(call: Any) -> float | str:
    started = perf_counter()
    try:
        await asyncio.wait_for(call, LONG)
    except TimeoutError:
        return LONG
    except Exception as error:
        return type(error).__name__
    return perf_counter() - started


def _late(seconds: float | str) -> str:
    if isinstance(seconds, str):
        return f"raises {seconds}"
    return f"more than {LONG:.0f} s" if seconds >= LONG else duration(seconds)
