"""What Redis takes: hits and stores against bare commands of redis-py for the same bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

from benchmarks import cases, growth, outage, redis_peers
from benchmarks.asking import REQUESTS, again, at_once, question
from benchmarks.bare import Subject, ask, name_in_store
from benchmarks.check import function, new_name
from benchmarks.contest import enter
from benchmarks.servers import client_of, serving
from benchmarks.tables import Table, amount, duration, ratio, titled
from benchmarks.timing import Effort, Row, compare
from llmcache import llm_cached
from llmcache.backends.memory import MemoryStore
from llmcache.backends.redis import RedisStore

BUDGET = 1.3
TASKS = 50
PATIENCE = 60.0

GET = "GET"
SET = "SET"
LLMCACHE = "llmcache, Redis"
TIERED = "llmcache, memory before Redis"

_REQUEST = cases.TWO_MESSAGES


def tables(effort: Effort) -> list[Table]:
    """Return the tables of this question."""
    answers = cases.answers(quick=effort.quick)
    with serving() as server:
        with _opened(server.url) as store:
            subject = _subject(server, store)
            found = [
                *(subject.hits(what, answer, BUDGET, effort) for what, answer in answers.items()),
                subject.misses("a text", cases.TEXT, effort),
                _tasks(cases.TEXT, server, store, effort),
            ]
        found += [_sizes(server, effort), _cluster(server, effort)]
    return [*found, outage.table()]


@contextmanager
def _opened(url: str) -> Iterator[RedisStore]:
    """Give a store with more time than a busy machine takes, and that has connected."""
    with closing(RedisStore(url, timeout=PATIENCE)) as store:
        store.get("bench:first")
        yield store


def _subject(server: Any, store: RedisStore) -> Subject:
    numbers = itertools.count()

    def read(name: str, awaited: bool) -> Row:
        get = client_of(server, awaited=awaited).get
        call = partial(get, f"{store.prefix}{name}")
        return Row(name=titled(GET, awaited), call=call, awaited=awaited)

    def write(data: bytes, awaited: bool) -> Row:
        put = client_of(server, awaited=awaited).set
        return Row(
            name=titled(SET, awaited),
            call=lambda: put(f"bench:{next(numbers)}", data, px=3_600_000),
            awaited=awaited,
        )

    return Subject(
        kind="Redis",
        store=store,
        read=read,
        write=write,
        peers=redis_peers.peers(server.port),
        others={TIERED: [MemoryStore(), store]},
    )


def _tasks(answer: Any, server: Any, store: RedisStore, effort: Effort) -> Table:
    """Many tasks of one event loop ask at once."""
    awaited = [peer for peer in redis_peers.peers(server.port) if peer.awaited]
    contest = enter(awaited, answer, again(_REQUEST))
    complete = llm_cached(name=new_name(), backend=store, strict=True)(
        function(answer, awaited=True)
    )
    ask(complete, awaited=True)
    name = f"{store.prefix}{name_in_store(complete, _REQUEST)}"
    rows = [
        at_once(GET, partial(client_of(server, awaited=True).get, name), TASKS),
        at_once(LLMCACHE, partial(complete, **_REQUEST), TASKS),
        *(at_once(row.name, row.call, TASKS) for row in contest.rows),
    ]
    found = compare(rows, base=GET, effort=effort)
    return Table(
        title=f"Redis: a hit, {TASKS} tasks at once",
        text="The time of one look-up, while all are waited for. Ratios are to as many GETs.",
        head=["cache", "time", "ratio", "note"],
        rows=contest.cells(found),
    )


def _sizes(server: Any, effort: Effort) -> Table:
    sizes = (growth.FEW, 100_000 if effort.quick else 1_000_000)
    callers: dict[str, dict[str, Callable[..., Any]]] = {GET: {}, LLMCACHE: {}}
    with serving() as other, _opened(server.url) as few, _opened(other.url) as many:
        for place, store, size in zip((server, other), (few, many), sizes, strict=True):
            complete = llm_cached(name="redis", backend=store, ttl=None, strict=True)(
                function(cases.TEXT, awaited=False, copied=False)
            )
            names = {}
            for request in REQUESTS:
                complete(**request)
                names[question(request)] = f"{store.prefix}{name_in_store(complete, request)}"
            place.say("DEBUG", "POPULATE", size - growth.FEW, "other", 800)
            entries = f"{amount(size)} entries"
            callers[GET][entries] = _getting(place, names)
            callers[LLMCACHE][entries] = complete
        rows = growth.cells(callers, REQUESTS, ours=LLMCACHE, effort=effort)
    return Table(
        title="Redis: a hit among many entries",
        text="1,000 requests in turn.",
        head=["cache", "server", "time", "ratio", "note"],
        rows=rows,
    )


def _getting(server: Any, names: dict[str, str]) -> Callable[..., Any]:
    """Return a function that gets the entry of a request."""
    get = client_of(server, awaited=False).get
    return lambda **request: get(names[question(request)])


def _cluster(server: Any, effort: Effort) -> Table:
    """A cluster of three against one server: who has a key is known beforehand."""
    from redis_groups import ClusterServers
    from redis_servers import running

    rows = []
    with (
        running(ClusterServers()) as cluster,
        _opened(server.url) as one,
        _opened(cluster.url) as three,
    ):
        for name, store in (("one server", one), ("a cluster of three", three)):
            for awaited in (False, True):
                complete = llm_cached(name=new_name(), backend=store, strict=True)(
                    function(cases.TEXT, awaited=awaited)
                )
                ask(complete, awaited)
                call = partial(complete, **_REQUEST)
                rows.append(Row(name=titled(name, awaited), call=call, awaited=awaited))
        found = compare(rows, base=rows[0].name, effort=effort)
    return Table(
        title="Redis: a hit in a cluster",
        head=["servers", "time", "ratio"],
        rows=[[name, duration(t.seconds), ratio(t.ratio)] for name, t in found.items()],
    )
