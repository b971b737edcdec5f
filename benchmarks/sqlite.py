"""What SQLite takes: hits and stores against bare statements for the same bytes.

The bare statements are prepared, on one connection in WAL mode with
``synchronous=NORMAL``, and find a row by its number.
"""

from __future__ import annotations

import itertools
import multiprocessing
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks import cases, growth, peers
from benchmarks.asking import PATTERNS, REQUESTS, in_turn, question
from benchmarks.bare import Subject, name_in_store
from benchmarks.check import new_name
from benchmarks.tables import Table, amount, ratio
from benchmarks.timing import Effort, Row
from llmcache import llm_cached
from llmcache.backends.sqlite import SQLiteStore
from llmcache.backends.sqlite_entries import number

BUDGET = 1.5
PROCESSES = 4
SELECT = "SELECT"
INSERT = "INSERT OR REPLACE"
LLMCACHE = "llmcache, SQLite"

_BARE_SELECT = "SELECT data FROM entries WHERE id = ?"


def tables(effort: Effort) -> list[Table]:
    """Return the tables of this question."""
    answers = cases.answers(quick=effort.quick)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        place = Path(folder)
        found = []
        for what, answer in answers.items():
            with _subject(place) as subject:
                found.append(subject.hits(what, answer, BUDGET, effort))
        for what, answer in answers.items():
            with _subject(place) as subject:
                found.append(subject.misses(what, answer, effort))
        return [*found, _sizes(place, effort), _processes(place, effort)]


@contextmanager
def _subject(folder: Path) -> Iterator[Subject]:
    """Give a new file's store, which bare statements read; they write to another file."""
    path, other = (folder / f"{new_name()}.db" for _ in range(2))
    with _opened(path) as store, _connected(path) as reads, _connected(other) as writes:
        select, insert = reads.cursor().execute, _inserts(writes)
        yield Subject(
            kind="SQLite",
            store=store,
            read=lambda name, _: Row(name=SELECT, call=partial(_read, select, number(name))),
            write=lambda data, _: Row(name=INSERT, call=partial(insert, data)),
            peers=peers.ON_DISK,
        )


@contextmanager
def _opened(path: Path) -> Iterator[SQLiteStore]:
    """Give a store without bounds, and with more time than a busy machine's disk takes."""
    store = SQLiteStore(path, max_size=None, max_bytes=None, timeout=60)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "cache_size = -8000"):
            connection.execute(f"PRAGMA {pragma}")
        yield connection


def _read(select: Callable[..., Any], row: int) -> Any:
    return select(_BARE_SELECT, (row,)).fetchone()[0]


def _inserts(connection: sqlite3.Connection) -> Callable[[bytes], Any]:
    """Return a function that writes bytes as another row each time."""
    connection.execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, data BLOB NOT NULL)")
    execute = connection.cursor().execute
    ids = (number(str(count)) for count in itertools.count())
    statement = "INSERT OR REPLACE INTO entries VALUES (?, ?)"
    return lambda data: execute(statement, (next(ids), data))


def _sizes(folder: Path, effort: Effort) -> Table:
    sizes = (growth.FEW, 10_000, 100_000) if effort.quick else (growth.FEW, 100_000, 1_000_000)
    callers: dict[str, dict[str, Callable[..., Any]]] = {SELECT: {}, LLMCACHE: {}}
    with ExitStack() as stack:
        for size in sizes:
            path, entries = folder / f"{size}.db", f"{amount(size)} entries"
            rows = _filled(path, size)
            connection = stack.enter_context(_connected(path))
            callers[SELECT][entries] = _selecting(connection, rows)
            callers[LLMCACHE][entries] = _complete(stack.enter_context(_opened(path)))
        body = [
            [asked, *cells]
            for asked, requests in PATTERNS.items()
            for cells in growth.cells(callers, requests, ours=LLMCACHE, effort=effort)
        ]
    return Table(
        title="SQLite: a hit among many entries",
        head=["requests", "cache", "file", "time", "ratio", "note"],
        rows=body,
    )


def _selecting(connection: sqlite3.Connection, rows: dict[str, int]) -> Callable[..., Any]:
    """Return a function that reads the row of a request."""
    select = connection.cursor().execute
    return lambda **request: _read(select, rows[question(request)])


def _complete(store: SQLiteStore) -> Any:
    """Return a function of the same name in all processes."""

    @llm_cached(name="sqlite", backend=store, ttl=None, strict=True)
    def complete(messages: Any, model: str, temperature: float) -> str:
        return cases.SHORT_TEXT

    return complete


def _filled(path: Path, size: int) -> dict[str, int]:
    """Make a file of *size* entries, the answers to what is asked among them.

    Returns:
        The rows of these, by the text of the question.
    """
    with _opened(path) as store:
        complete = _complete(store)
        for request in REQUESTS:
            complete(**request)
        rows = _rows(complete)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        _multiply(connection, size - growth.FEW)
    with _opened(path) as store:
        complete = _complete(store)
        for request in REQUESTS:
            complete(**request)
        if complete.cache.stats().misses:
            raise RuntimeError("not every request was a hit")
    return rows


def _rows(complete: Any) -> dict[str, int]:
    """Return the numbers of the answers' rows, by the text of the question."""
    return {question(asked): number(name_in_store(complete, asked)) for asked in REQUESTS}


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
    path = folder / f"{growth.FEW}.db"
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

    with _opened(path) as store, _connected(path) as connection:
        complete = _complete(store)
        complete(**REQUESTS[0])
        calls = {
            SELECT: _selecting(connection, _rows(complete)),
            LLMCACHE: complete,
            "diskcache": Cache(folder).memoize(name="sqlite")(complete.__wrapped__),
        }
        turns = {name: in_turn(call, REQUESTS) for name, call in calls.items()}
        for turn in turns.values():
            for _ in REQUESTS:
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
