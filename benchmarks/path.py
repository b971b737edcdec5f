"""Where the time of a hit goes, line by line.

Each function of the library that a hit goes through is called alone, with what
a hit gives it. What it takes itself is what is left when those that it calls
are taken off. The least that its work could take stands beside it.
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from benchmarks import cases
from benchmarks.check import function, new_name
from benchmarks.tables import Table, amount, nanoseconds, share
from benchmarks.timing import Effort, Row, compare
from llmcache import llm_cached
from llmcache.backends.memory import MemoryStore
from llmcache.backends.sqlite import SQLiteStore
from llmcache.backends.sqlite_entries import LOOK_UP, number
from llmcache.codec.frame import Sealed
from llmcache.codec.tree import reader
from llmcache.keys.fit import MAX_DEPTH, unusual

_REQUEST = cases.TWO_MESSAGES
_SORTED = orjson.OPT_SORT_KEYS
_sha256 = hashlib.sha256


@dataclass(frozen=True, slots=True)
class Line:
    """A step of a hit.

    Args:
        name: of the function.
        does: what for.
        call: does it.
        parts: the steps that it consists of.
        least: does the least that its work could be.
        written: whether *call* is more than a call of the function: its own
            frame is none of the step's.
    """

    name: str
    does: str
    call: Callable[[], Any]
    parts: tuple[Line, ...] = ()
    least: Callable[[], Any] | None = None
    written: bool = False

    def walk(self) -> Iterator[Line]:
        """Return this line after its parts, as they come to their ends."""
        for part in self.parts:
            yield from part.walk()
        yield self


def tables(effort: Effort) -> list[Table]:
    """Return the tables of this question."""
    completion = cases.typical_completion(quick=effort.quick)
    body = orjson.dumps(completion.body)
    read = type(completion.answer).model_validate_json
    answers: dict[str, tuple[Any, Callable[[], Any]]] = {
        "a text": (cases.TEXT, partial(orjson.loads, orjson.dumps(cases.TEXT))),
        f"ChatCompletion, {amount(len(body))} bytes": (completion.answer, partial(read, body)),
    }
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        path = Path(folder, "path.db")
        store = SQLiteStore(path, timeout=60)
        with closing(sqlite3.connect(path)) as connection:
            found = [
                _table(
                    "Path: a hit in memory, line by line",
                    {what: _in_memory(*answer) for what, answer in answers.items()},
                    effort,
                ),
                _table(
                    "Path: a hit in SQLite, line by line",
                    {
                        what: _in_sqlite(*answer, store, connection)
                        for what, answer in answers.items()
                    },
                    effort,
                ),
            ]
        store.close()
    return found


def _table(title: str, trees: dict[str, Line], effort: Effort) -> Table:
    columns = {what: _measured(tree, effort) for what, tree in trees.items()}
    body = []
    for line in next(iter(trees.values())).walk():
        cells = [cell for column in columns.values() for cell in column[line.name]]
        body.append([line.name, line.does, *cells])
    totals = [cell for column in columns.values() for cell in column[""]]
    body.append(["all of it", "", *totals])
    return Table(
        title=title,
        text="What each takes itself, without those above it that it calls; the shortest times "
        "of all rounds. The order of the steps has what they take longer one after the other than "
        "each alone. Least is what the same work takes in the floor, or in a bare SELECT.",
        head=["function", "for", *(head for what in trees for head in (what, "share", "least"))],
        rows=body,
    )


def _measured(tree: Line, effort: Effort) -> dict[str, tuple[str, str, str]]:
    """Return the time, the share and the least of each line, by its name, and of all by ``""``."""
    lines = list(tree.walk())
    rows = [Row(name="call", call=partial(bool)), Row(name="frame", call=lambda: None)]
    rows += [Row(name=line.name, call=line.call) for line in lines]
    rows += [Row(name=f"{line.name}: least", call=line.least) for line in lines if line.least]
    times = {name: t.best for name, t in compare(rows, base="call", effort=effort).items()}

    def whole(line: Line) -> float:
        return times[line.name] - times["frame" if line.written else "call"]

    def least(line: Line) -> float:
        return times[f"{line.name}: least"] - times["call"] if line.least else 0.0

    everything = whole(tree)
    found = {}
    for line in lines:
        own = max(whole(line) - sum(map(whole, line.parts)), 0.0)
        bare = nanoseconds(least(line)) if line.least else ""
        found[line.name] = nanoseconds(own), share(own / everything), bare
    bare = nanoseconds(sum(map(least, lines)))
    return found | {"": (nanoseconds(everything), share(1.0), bare)}


def _in_memory(answer: Any, read: Callable[[], Any]) -> Line:
    store, table = MemoryStore(), {b"": b""}
    complete = _complete(answer, store)
    look_up = Line(
        "MemoryStore.get",
        "the entry, if it is alive",
        partial(store.get, _name(complete)),
        least=partial(table.__getitem__, b""),
    )
    return _path(complete, look_up, store, read)


def _in_sqlite(
    answer: Any, read: Callable[[], Any], store: SQLiteStore, connection: sqlite3.Connection
) -> Line:
    complete = _complete(answer, store)
    name, visit = _name(complete), complete._self_engine._resolved().visit
    link, row, bare = store._links.mine.link, number(name), connection.cursor().execute
    look_up = Line(
        "GuardedVisit.get_now",
        "the deadline and the breaker",
        lambda: visit().get_now(name),
        parts=(
            Line(
                "SQLiteStore.get",
                "the thread's connection, and what was used",
                partial(store.get, name),
                parts=(
                    Line("number", "the row of a key", partial(number, name)),
                    Line(
                        "SELECT",
                        "the row, if it is alive and the key's",
                        lambda: link.look_up(LOOK_UP, (0, row, name, 0.0)).fetchone(),
                        least=lambda: bare(
                            "SELECT data FROM entries WHERE id = ?", (row,)
                        ).fetchone(),
                        written=True,
                    ),
                ),
            ),
        ),
        written=True,
    )
    return _path(complete, look_up, store, read)


def _complete(answer: Any, store: Any) -> Any:
    """Return a function that hits."""
    complete = llm_cached(name=new_name(), backend=store, strict=True)(
        function(answer, awaited=False)
    )
    complete(**_REQUEST), complete(**_REQUEST)
    return complete


def _name(complete: Any) -> str:
    """Return the name of the request's digest in the store."""
    return f"{complete._self_engine._resolved().prefix}{complete.cache.key(**_REQUEST)}"


def _path(complete: Any, look_up: Line, store: Any, read: Callable[[], Any]) -> Line:
    """Return the lines of a hit that looks its entry up in this way."""
    engine = complete._self_engine
    runtime = engine._resolved()
    digest = bytes.fromhex(complete.cache.key(**_REQUEST))
    call = Line(
        "hit",
        "the order of the steps, and the numbers",
        partial(engine.hit, (), _REQUEST),
        parts=(
            _key(runtime.free),
            Line(
                "prefix and hex",
                "the digest's name in the store",
                lambda: runtime.prefix + digest.hex(),
                written=True,
            ),
            look_up,
            *_value(runtime, digest, store.get(_name(complete)), read),
        ),
    )
    return Line(
        "CachedFunctionWrapper",
        "a function that is an object",
        partial(complete, **_REQUEST),
        parts=(call,),
    )


def _key(keyer: Any) -> Line:
    """Return the steps from the arguments to their digest."""
    again = keyer.remembering()
    again((), _REQUEST)
    plain = orjson.dumps(_REQUEST, None, _SORTED)
    return Line(
        "remembering",
        "the digest of a request that was asked before",
        partial(again, (), _REQUEST),
        parts=(
            Line("unusual", "whether JSON says all", partial(unusual, _REQUEST, MAX_DEPTH)),
            Line(
                "orjson.dumps",
                "the request as bytes",
                partial(orjson.dumps, ((), _REQUEST)),
                least=partial(orjson.dumps, _REQUEST, None, _SORTED),
            ),
        ),
        least=lambda: _sha256(plain).digest(),
    )


def _value(runtime: Any, digest: bytes, data: Any, read: Callable[[], Any]) -> tuple[Line, ...]:
    """Return the steps from an entry that was read before to its value."""
    entry, _, start = runtime.entries.frame.open(data, digest)
    again, start = reader(entry.codec, data, start)
    known = Line(
        "Known",
        "the value of the payload",
        lambda: again(data[start:]),
        least=read,
        written=True,
    )
    if type(data) is Sealed:
        return (known,)
    kept = {digest: Sealed(data)}
    proven = "whether it is what was proven before"
    return (Line("Kept", proven, lambda: kept[digest] == data, written=True), known)
