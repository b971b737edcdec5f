"""Hits and misses of a store outside of memory, against the least that they take.

A hit must read the bytes and do what a hit in memory does; a miss must write
them and do what a miss in memory does. So the base is a bare command for the
same bytes, and llmcache in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from benchmarks import cases
from benchmarks.asking import again, anew
from benchmarks.check import function, new_name
from benchmarks.contest import enter
from benchmarks.peers import Peer
from benchmarks.tables import Table, budget, titled
from benchmarks.timing import Effort, Row, Timing, compare
from llmcache import llm_cached
from llmcache.backends.base import Store
from llmcache.backends.memory import MemoryStore

MEMORY = "llmcache, memory"
ALONE = "the function alone"

_REQUEST = cases.TWO_MESSAGES


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A store, and what its hits and misses are measured against.

    Args:
        kind: what it is called in tables.
        store: itself.
        read: makes a row of the bare command that reads the entry of a name,
            an awaited one or not.
        write: makes a row of the bare command that writes some bytes, under
            another name each time.
        peers: the other caches that keep answers there.
        others: what else functions keep their answers in, by what it is called.
    """

    kind: str
    store: Store
    read: Callable[[str, bool], Row]
    write: Callable[[bytes, bool], Row]
    peers: Sequence[Peer]
    others: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Ours, as a row."""
        return f"llmcache, {self.kind}"

    def hits(self, what: str, answer: Any, most: float, effort: Effort) -> Table:
        """Return how long hits take, which should be *most* times the base."""
        contest = enter(self.peers, answer, again(_REQUEST))
        backends = {MEMORY: MemoryStore(), self.name: self.store, **self.others}
        found: dict[str, Timing] = {}
        for awaited in (False, True):
            cached = {
                titled(name, awaited): llm_cached(name=new_name(), backend=backend, strict=True)(
                    function(answer, awaited=awaited)
                )
                for name, backend in backends.items()
            }
            for complete in cached.values():
                ask(complete, awaited)
            ours = titled(self.name, awaited)
            memory, *others = (
                Row(name=name, call=partial(complete, **_REQUEST), awaited=awaited)
                for name, complete in cached.items()
            )
            command = self.read(name_in_store(cached[ours], _REQUEST), awaited)
            base = _both(command, memory)
            rows = [memory, command, base, *others]
            rows += [row for row in contest.rows if row.awaited is awaited]
            timed = compare(rows, base=base.name, effort=effort)
            contest.notes[ours] = budget(timed[ours].ratio, most)
            for name, timing in timed.items():
                # A command that nobody can await is in both rounds.
                found.setdefault(name, timing)
        return Table(
            title=f"{self.kind}: a hit, 2 messages, {what}",
            text="Ratios are to a bare read of the bytes and a hit in memory one after the other, "
            "of the same kind.",
            head=["cache", "time", "ratio", "note"],
            rows=contest.cells(found),
        )

    def misses(self, what: str, answer: Any, effort: Effort) -> Table:
        """Return what misses take longer than the function itself."""
        contest = enter(self.peers, answer, anew, needs_hit=False)
        found: dict[str, Timing] = {}
        for awaited in (False, True):
            alone = function(answer, awaited=awaited, copied=False)
            memory, complete = (
                llm_cached(name=new_name(), backend=backend, strict=True)(alone)
                for backend in (MemoryStore(), self.store)
            )
            ask(complete, awaited)
            data = self.store.get(name_in_store(complete, _REQUEST))
            if data is None:
                raise RuntimeError("nothing is stored")
            command = self.write(data, awaited)
            in_memory = titled(MEMORY, awaited)
            rows = [
                Row(name=ALONE, call=anew(alone), awaited=awaited),
                command,
                Row(name=in_memory, call=anew(memory), awaited=awaited),
                Row(name=titled(self.name, awaited), call=anew(complete), awaited=awaited),
                *(row for row in contest.rows if row.awaited is awaited),
            ]
            timed = compare(rows, base=ALONE, effort=effort)
            nothing = timed.pop(ALONE)
            bare, least = timed.pop(command.name), timed.pop(in_memory)
            added = {command.name: bare.seconds, in_memory: least.added}
            base = sum(added.values())
            added[f"{command.name} + {in_memory}"] = base
            added |= {name: timing.added for name, timing in timed.items()}
            for name, seconds in added.items():
                found.setdefault(name, replace(nothing, seconds=seconds, ratio=seconds / base))
        return Table(
            title=f"{self.kind}: a miss, 2 messages, {what}",
            text="What a call takes longer than the function alone; an entry is stored in each. "
            "Ratios are to a bare write of the bytes and a miss in memory, of the same kind.",
            head=["cache", "added", "ratio", "note"],
            rows=contest.cells(found),
        )


def ask(cached: Any, awaited: bool) -> None:
    """Ask a function once, so that the next call is a hit."""
    asyncio.run(cached(**_REQUEST)) if awaited else cached(**_REQUEST)


def name_in_store(cached: Any, request: dict[str, Any]) -> str:
    """Return the name of the answer to *request* in the function's store."""
    return f"{cached._self_engine.place()[1]}:{cached.cache.key(**request)}"


def _both(command: Row, memory: Row) -> Row:
    """Return a row that does one and then the other."""
    one, other = command.call, memory.call

    def call() -> Any:
        one()
        return other()

    async def acall() -> Any:
        result = one()
        if command.awaited:
            await result
        return await other()

    return Row(
        name=f"{command.name} + {memory.name}",
        call=acall if memory.awaited else call,
        awaited=memory.awaited,
    )
