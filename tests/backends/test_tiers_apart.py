"""No process answers from its memory tier with what another one deleted or replaced."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from math import inf
from time import time
from typing import Any

import pytest
import redis
from framed import framed
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from redis_chaos import Proxy
from redis_servers import HANG, Server, require, running, until

from backends.tiers_apart import MARK, PAUSE, Here, There
from llmcache.backends import redis_tracking
from llmcache.backends.copies import Copies

PREFIX = "llm_cache:"
GROUPS = ("g", "h")
KEYS = [f"{group}:{name}" for group in GROUPS for name in "abc"]

parties = st.integers(0, 2)
keys = st.sampled_from(KEYS)


class Processes:
    """Two stores of this process, which know nothing of each other, and one of another process."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = server.client
        self.all: list[Any] = [
            Here(server.url, awaited=False),
            Here(server.url, awaited=True),
            There(server.url, awaited=False),
        ]
        self.generations = itertools.count()

    def settle(self) -> None:
        """Wait until everybody knows what happened before."""
        for _ in range(2):
            for party in self.all:
                until(party.plant)
            self.client.set(PREFIX + MARK, b"")
            for party in self.all:
                until(party.has_grown)

    def close(self) -> None:
        for party in self.all:
            party.close()
        self.client.close()


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_tracking, "FIRST_PAUSE", PAUSE)
        with running(Server(require("valkey"))) as server:
            processes = Processes(server)
            yield processes
            processes.close()


class Wrong(Exception):
    """An answer that was deleted or replaced."""


class Machine(RuleBasedStateMachine):
    """Everybody reads, writes and forgets; in the end all know what the server should have."""

    processes: Processes
    wrong: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[str, str] = {}
        self.history: dict[str, set[str | None]] = {key: {None} for key in KEYS}
        self.calm = False
        self.processes.client.flushall()
        self.processes.settle()
        for party in self.processes.all:
            party.forget()

    def teardown(self) -> None:
        self.agree()

    @rule(party=parties, key=keys)
    def set(self, *, party: int, key: str) -> None:
        data = self._next(key)
        assert self.processes.all[party].set(key, data)

    @rule(key=keys)
    def set_by_somebody_else(self, *, key: str) -> None:
        data = self._next(key)
        entry = framed(key, data.encode(), inf, time())
        self.processes.client.set(PREFIX + key, entry)

    @rule(party=parties, key=keys)
    def delete(self, *, party: int, key: str) -> None:
        self._forget(key)
        self.processes.all[party].delete(key)

    @rule(key=keys)
    def delete_by_somebody_else(self, *, key: str) -> None:
        self._forget(key)
        self.processes.client.delete(PREFIX + key)

    @rule(party=parties, group=st.sampled_from(GROUPS))
    def clear(self, *, party: int, group: str) -> None:
        for key in KEYS:
            if key.startswith(f"{group}:"):
                self._forget(key)
        self.processes.all[party].clear(group)

    @rule()
    def flush(self) -> None:
        for key in KEYS:
            self._forget(key)
        self.processes.client.flushall()

    @rule(key=keys)
    def read(self, *, key: str) -> None:
        for party in self.processes.all:
            assert party.get(key) in self.history[key]

    @rule()
    def cut(self) -> None:
        """End the connections over which the server tells of changes."""
        self.calm = False
        for client in self.processes.client.client_list():
            if "B" in client["flags"]:
                self.processes.client.client_kill_filter(_id=client["id"])

    @precondition(lambda self: not self.calm)
    @rule()
    def agree(self) -> None:
        self.processes.settle()
        self.calm = True
        for key in KEYS:
            for party in self.processes.all:
                if (found := party.get(key)) != (right := self.entries.get(key)):
                    self.wrong.append(key)
                    raise Wrong(f"{key} is {right}, and not {found}")

    def _next(self, key: str) -> str:
        self.calm = False
        self.entries[key] = data = f"{key} {next(self.processes.generations)}"
        self.history[key].add(data)
        return data

    def _forget(self, key: str) -> None:
        self.calm = False
        self.entries.pop(key, None)


def run(processes: Processes, **options: Any) -> None:
    class Bound(Machine):
        pass

    Bound.processes, Bound.wrong = processes, []
    try:
        run_state_machine_as_test(Bound, settings=settings(deadline=None, **options))
    except Flaky:
        # What is wrong may not be so a second time: it is a matter of time.
        if Bound.wrong:
            raise Wrong(Bound.wrong[0]) from None
        raise


def test_nobody_answers_with_what_was_deleted_or_replaced(processes: Processes) -> None:
    run(processes, max_examples=60, stateful_step_count=40)


@pytest.mark.slow
def test_nobody_answers_with_what_was_deleted_or_replaced_for_long(processes: Processes) -> None:
    run(processes, max_examples=1000, stateful_step_count=60)


def test_the_machine_finds_who_does_not_listen(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = Copies.changed

    def deaf(self: Copies, key: str) -> None:
        if key == MARK:
            changed(self, key)

    monkeypatch.setattr(Copies, "changed", deaf)
    with pytest.raises(Wrong):
        run(processes, max_examples=100, derandomize=True, phases=[Phase.generate])


def replace_under_load(processes: Processes, rounds: int) -> None:
    """Replace something again and again while everybody reads it."""
    over = threading.Event()
    ours, theirs = processes.all[0], processes.all[2]

    def read() -> None:
        while not over.is_set():
            ours.get("g:a")

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(rounds):
            data = str(next(processes.generations))
            theirs.set("g:a", data)
            processes.settle()
            if (found := ours.get("g:a")) != data:
                raise Wrong(f"g:a is {data}, and not {found}")
    finally:
        over.set()
        for reader in readers:
            reader.join(HANG)


def test_what_is_being_read_is_not_out_of_date_afterwards(processes: Processes) -> None:
    replace_under_load(processes, 50)


def test_copies_are_made_and_kept(processes: Processes) -> None:
    """Or else all would agree because nobody has any."""
    processes.settle()
    processes.all[0].set("g:a", "one")
    processes.settle()
    for party in processes.all:
        assert party.get("g:a") == "one"
        assert party.copied() >= 1


@pytest.mark.parametrize("how", ["killed", "cut", "silent", "dead"])
def test_a_lost_connection_empties_the_memory_tier(
    server: Server, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(server.port) as proxy:
        here = Here(proxy.url, awaited=False)
        here.copies.ttl = 1.0
        until(here.plant)
        here.set("g:a", "one")
        until(lambda: here.get("g:a") and here.copied())
        ways: dict[str, Callable[[], object]] = {
            "killed": lambda: kill(server.client),
            "cut": lambda: setattr(proxy, "breaks", 0),
            "silent": server.pause,
            "dead": server.kill,
        }
        ways[how]()
        if how == "cut":
            with server.client as client:
                client.set(f"{PREFIX}other:a", b"")
        until(lambda: here.copied() == 0)
        server.go_on() if how == "silent" else None
        here.close()


def kill(client: redis.Redis) -> None:
    with client:
        client.client_kill_filter(_type="normal", skipme=True)
