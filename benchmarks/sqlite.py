"""What SQLite takes: hits and stores against bare statements for the same bytes.

The bare statements are prepared, on one connection in WAL mode with
``synchronous=NORMAL``, and find a row by its number. A hit must read the row
and do what a hit in memory does, so that these two together are its base.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import orjson

from benchmarks import cases, peers
from benchmarks.check import function, new_name
from benchmarks.contest import asking, enter
from benchmarks.tables import Table, amount, budget, duration, ratio
from benchmarks.timing import Effort, Row, Timing, compare
from llmcache import llm_cached
from llmcache.backends.memory import MemoryStore
from llmcache.backends.sqlite import SQLiteStore
from llmcache.backends.sqlite_entries import number

BUDGET = 1.5
SIZE_BUDGET = 1.2
FEW = 1_000
PROCESSES = 4
SELECT = "SELECT"
INSERT = "INSERT OR REPLACE"
MEMORY = "llmcache, memory"
LLMCACHE = "llmcache, SQLite"
ALONE = "the function alone"
TEXT = cases.prose(600, seed=1)
SHORT_TEXT = cases.prose(200, seed=1)

_REQUEST = cases.TWO_MESSAGES
_ASKED = [cases.chat(f"question {number}") for number in range(FEW)]
_BARE_SELECT = "SELECT data FROM entries WHERE id = ?"


def tables(effort: Effort) -> list[Table]:
    """Return the tables of this question."""
    completion = cases.typical_completion(quick=effort.quick)
    size = amount(len(orjson.dumps(completion.body)))
    answers = {"a text": TEXT, f"a ChatCompletion of {size} bytes": completion.answer}
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        place = Path(folder)
        return [
            *(_hit(what, answer, place, effort) for what, answer in answers.items()),
            *(_stored(what, answer, place, effort) for what, answer in answers.items()),
            _sizes(place, effort),
            _processes(place, effort),
        ]


def _store(path: Path) -> SQLiteStore:
    """Return a store without bounds, and with more time than a busy machine's disk takes."""
    return SQLiteStore(path, max_size=None, max_bytes=None, timeout=60)


@contextmanager
def _opened(path: Path) -> Iterator[SQLiteStore]:
    store = _store(path)
    try:
        yield store
    finally:
        store.close()


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA cache_size = -8000")
    return connection


def _name_in_store(complete: Any, request: dict[str, Any]) -> str:
    """Return the name of the answer to *request* in the function's store."""
    return f"{complete._self_engine.place()[1]}:{complete.cache.key(**request)}"


def _hit(what: str, answer: Any, folder: Path, effort: Effort) -> Table:
    path = folder / f"{new_name()}.db"
    contest = enter(peers.ON_DISK, answer, asking(_REQUEST))
    found: dict[str, Timing] = {}
    with _opened(path) as store, closing(_connected(path)) as connection:
        for awaited in (False, True):
            complete, memory = (
                llm_cached(backend=backend, strict=True)(function(answer, awaited=awaited))
                for backend in (store, MemoryStore())
            )
            for cached in (complete, memory):
                asyncio.run(cached(**_REQUEST)) if awaited else cached(**_REQUEST)
            select = connection.cursor().execute
            row = number(_name_in_store(complete, _REQUEST))
            bare = partial(_read, select, row)
            rows = [
                Row(name=MEMORY, call=partial(memory, **_REQUEST), awaited=awaited),
                Row(name=SELECT, call=bare),
                Row(name=_both(SELECT), call=_after(bare, memory, awaited), awaited=awaited),
                Row(name=LLMCACHE, call=partial(complete, **_REQUEST), awaited=awaited),
                *(row for row in contest.rows if row.awaited is awaited),
            ]
            timed = compare(rows, base=_both(SELECT), effort=effort)
            contest.notes[_titled(LLMCACHE, awaited)] = budget(timed[LLMCACHE].ratio, BUDGET)
            if awaited:
                del timed[SELECT]
            found |= {_titled(name, awaited): timing for name, timing in timed.items()}
    return Table(
        title=f"SQLite: a hit, 2 messages, {what}",
        text="Ratios are to a SELECT and a hit in memory one after the other, of the same kind.",
        head=["cache", "time", "ratio", "note"],
        rows=contest.cells(found),
    )


def _both(statement: str) -> str:
    return f"{statement} + {MEMORY}"


def _titled(name: str, awaited: bool) -> str:
    return f"{name} (async)" if awaited and "(async)" not in name else name


def _read(select: Callable[..., Any], row: int) -> Any:
    return select(_BARE_SELECT, (row,)).fetchone()[0]


def _after(bare: Callable[[], Any], memory: Any, awaited: bool) -> Callable[[], Any]:
    """Return what does *bare* and a hit in *memory*."""

    def hit() -> Any:
        bare()
        return memory(**_REQUEST)

    async def ahit() -> Any:
        bare()
        return await memory(**_REQUEST)

    return ahit if awaited else hit


def _stored(what: str, answer: Any, folder: Path, effort: Effort) -> Table:
    path, other = folder / f"{new_name()}.db", folder / f"{new_name()}.db"
    contest = enter(peers.ON_DISK, answer, _asking, needs_hit=False)
    with _opened(path) as store, closing(_connected(other)) as connection:
        alone = function(answer, awaited=False, copied=False)
        backends = {MEMORY: MemoryStore(), LLMCACHE: store}
        ours = {
            name: llm_cached(name=new_name(), backend=backend, strict=True)(alone)
            for name, backend in backends.items()
        }
        acomplete = llm_cached(name=new_name(), backend=store, strict=True)(
            function(answer, awaited=True, copied=False)
        )
        complete = ours[LLMCACHE]
        complete(**_REQUEST)
        data = store.get(_name_in_store(complete, _REQUEST))
        rows = [
            Row(name=ALONE, call=_asking(alone)),
            Row(name=INSERT, call=_writing(connection, data)),
            *(Row(name=name, call=_asking(cached)) for name, cached in ours.items()),
            Row(name=_titled(LLMCACHE, True), call=_asking(acomplete), awaited=True),
            *contest.rows,
        ]
        found = compare(rows, base=ALONE, effort=effort)
    bare, memory = found[INSERT].seconds, found[MEMORY].added
    added = {INSERT: bare, MEMORY: memory, _both(INSERT): bare + memory}
    added |= {
        name: timing.added for name, timing in found.items() if name not in {ALONE, INSERT, MEMORY}
    }
    return Table(
        title=f"SQLite: a miss, 2 messages, {what}",
        text="What a call takes longer than the function alone; an entry is stored and committed "
        "in each. Ratios are to the INSERT of the same bytes and a miss in memory.",
        head=["cache", "added", "ratio", "note"],
        rows=contest.cells(
            {
                name: replace(found[ALONE], seconds=seconds, ratio=seconds / (bare + memory))
                for name, seconds in added.items()
            }
        ),
    )


def _asking(cached: Callable[..., Any]) -> Callable[[], Any]:
    """Return a function that asks another question each time."""
    numbers = itertools.count()
    return lambda: cached(**cases.chat(f"another question {next(numbers)}"))


def _writing(connection: sqlite3.Connection, data: Any) -> Callable[[], Any]:
    """Return a function that writes *data* as another row each time."""
    connection.execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, data BLOB NOT NULL)")
    execute = connection.cursor().execute
    ids = (number(str(count)) for count in itertools.count())
    return lambda: execute("INSERT OR REPLACE INTO entries VALUES (?, ?)", (next(ids), data))


def _sizes(folder: Path, effort: Effort) -> Table:
    sizes = (FEW, 10_000, 100_000) if effort.quick else (FEW, 100_000, 1_000_000)
    paths = {f"{amount(size)} entries": folder / f"{size}.db" for size in sizes}
    stores, completes, selects = {}, {}, {}
    for (name, path), size in zip(paths.items(), sizes, strict=True):
        rows = _filled(path, size)
        stores[name] = store = _store(path)
        completes[name] = _complete(store)
        selects[name] = partial(_by_request, _connected(path).cursor().execute, rows)
    body = []
    for asked, spread in (("one request again and again", False), ("1,000 in turn", True)):
        for cache, calls in ((SELECT, selects), (LLMCACHE, completes)):
            rows = [Row(name=name, call=_turns(calls[name], spread=spread)) for name in paths]
            base = rows[0].name
            for name, timing in compare(rows, base=base, effort=effort).items():
                note = budget(timing.ratio, SIZE_BUDGET) if name != base and cache != SELECT else ""
                body.append(
                    [asked, cache, name, duration(timing.seconds), ratio(timing.ratio), note]
                )
    for store in stores.values():
        store.close()
    return Table(
        title="SQLite: a hit among many entries",
        head=["requests", "cache", "file", "time", "ratio", "note"],
        rows=body,
    )


def _turns(call: Callable[..., Any], *, spread: bool) -> Callable[[], Any]:
    """Return what asks one request, or one after another."""
    requests = cycle(_ASKED if spread else _ASKED[:1])
    return lambda: call(**next(requests))


def _by_request(select: Callable[..., Any], rows: dict[str, int], **request: Any) -> Any:
    return _read(select, rows[request["messages"][1]["content"]])


def _complete(store: SQLiteStore) -> Any:
    """Return a function of the same name in all processes."""

    @llm_cached(name="sqlite", backend=store, ttl=None, strict=True)
    def complete(messages: Any, model: str, temperature: float) -> str:
        return SHORT_TEXT

    return complete


def _filled(path: Path, size: int) -> dict[str, int]:
    """Make a file of *size* entries, the answers to what is asked among them.

    Returns:
        The rows of these, by the text of the question.
    """
    with _opened(path) as store:
        complete = _complete(store)
        for request in _ASKED:
            complete(**request)
        rows = {
            request["messages"][1]["content"]: number(_name_in_store(complete, request))
            for request in _ASKED
        }
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        _multiply(connection, size - FEW)
    with _opened(path) as store:
        complete = _complete(store)
        for request in _ASKED:
            complete(**request)
        if complete.cache.stats().misses:
            raise RuntimeError("not every request was a hit")
    return rows


def _multiply(connection: sqlite3.Connection, more: int) -> None:
    """Add copies of an entry under other keys, in the order in which that is fast."""
    later = connection.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql > ''"
    ).fetchall()
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -400000"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("BEGIN")
    for kind, name, _ in later:
        connection.execute(f"DROP {kind} {name}")
    connection.execute(
        "WITH RECURSIVE places (place) AS"
        " (SELECT 1 UNION ALL SELECT place + 1 FROM places WHERE place < :more),"
        " ids (id) AS MATERIALIZED (SELECT random() FROM places ORDER BY 1)"
        " INSERT INTO entries SELECT ids.id, substr(key, 1, 17) || lower(hex(randomblob(32))),"
        " family, size, expires, abs(random() % :more), data"
        " FROM ids CROSS JOIN (SELECT * FROM entries LIMIT 1) WHERE :more > 0",
        {"more": more},
    )
    connection.execute(
        "UPDATE totals SET (entries, bytes) = (SELECT count(*), sum(size) FROM entries)"
    )
    connection.execute("UPDATE families SET (entries, bytes) = (SELECT entries, bytes FROM totals)")
    for _, _, statement in later:
        connection.execute(statement)
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = WAL")


def _processes(folder: Path, effort: Effort) -> Table:
    path = folder / f"{FEW}.db"
    seconds, rounds = (0.1, 3) if effort.quick else (0.25, 15)
    context = multiprocessing.get_context("spawn")
    pipes, workers = [], []
    for _ in range(PROCESSES):
        ours, theirs = context.Pipe()
        workers.append(context.Process(target=_work, args=(path, folder / "diskcache", theirs)))
        workers[-1].start()
        pipes.append(ours)
    names = pipes[0].recv()
    for pipe in pipes[1:]:
        pipe.recv()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            found[name].append((_rate(pipes[:1], name, seconds), _rate(pipes, name, seconds)))
    for pipe, worker in zip(pipes, workers, strict=True):
        pipe.send(None)
        worker.join()
    body = []
    for name, rates in found.items():
        one, all_of_them = (median(rate) for rate in zip(*rates, strict=True))
        times = median(together / alone for alone, together in rates)
        body.append([name, amount(one), amount(all_of_them), ratio(times)])
    return Table(
        title=f"SQLite: {PROCESSES} processes at once",
        text="Hits in a second of the clock, 1,000 requests in turn, by one process and by "
        f"{PROCESSES} on one file together.",
        head=["cache", "1 process", f"{PROCESSES} processes", "ratio"],
        rows=body,
    )


def _rate(pipes: list[Any], name: str, seconds: float) -> float:
    """Return the hits in a second of all who listen to *pipes*."""
    for pipe in pipes:
        pipe.send((name, seconds))
    return sum(pipe.recv() for pipe in pipes)


def _work(path: Path, folder: Path, pipe: Connection) -> None:
    """Be one of the processes: ask as long as the pipe says, and send how many hits that were."""
    from diskcache import Cache

    with _opened(path) as store, closing(_connected(path)) as connection:
        complete = _complete(store)
        complete(**_REQUEST)
        rows = {r["messages"][1]["content"]: number(_name_in_store(complete, r)) for r in _ASKED}
        calls = {
            SELECT: partial(_by_request, connection.cursor().execute, rows),
            LLMCACHE: complete,
            "diskcache": Cache(folder).memoize(name="sqlite")(complete.__wrapped__),
        }
        turns = {name: _turns(call, spread=True) for name, call in calls.items()}
        for turn in turns.values():
            for _ in _ASKED:
                turn()
        pipe.send(list(turns))
        for name, seconds in iter(pipe.recv, None):
            turn = turns[name]
            count, started = 0, perf_counter()
            while (took := perf_counter() - started) < seconds:
                for _ in range(20):
                    turn()
                count += 20
            pipe.send(count / took)
