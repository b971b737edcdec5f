"""Every store of llmcache keeps one contract, and they all agree."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from framed import Framed
from redis_groups import ClusterServers, WatchedServers
from redis_servers import Server

from llmcache import Clock
from llmcache.backends.base import Store
from llmcache.backends.memory import MemoryStore
from llmcache.backends.redis import RedisStore
from llmcache.backends.sqlite import SQLiteStore
from llmcache.testing import StoreSuite, assert_stores_agree
from llmcache.tiers import TieredStore

PATIENCE = 60.0
"""Seconds that a file may take on a busy machine."""


class TestSQLiteStore(StoreSuite):
    persistent = True

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.paths = (tmp_path / f"{number}.db" for number in itertools.count())

    def make_store(self, clock: Clock) -> Store:
        return SQLiteStore(next(self.paths), timeout=PATIENCE, clock=clock)


class TestSharedSQLiteStore(TestSQLiteStore):
    """A file that others use too, under another prefix."""

    test_it_agrees_with_a_dict = None

    def make_store(self, clock: Clock) -> Store:
        path = next(self.paths)
        with_prefix = SQLiteStore(path, prefix="theirs:", timeout=PATIENCE, clock=clock)
        with_prefix.set("g:a", b"theirs", 1e9)
        with_prefix.close()
        return SQLiteStore(path, prefix="ours:", timeout=PATIENCE, clock=clock)


class TestRedisStore(StoreSuite):
    """A server that others use too, under prefixes that look like patterns."""

    takes_clock = False
    persistent = True

    @pytest.fixture(autouse=True)
    def _place(self, shared_server: Server) -> None:
        self.url = shared_server.url
        self.prefixes = (f"[o]u*?\\{number}:" for number in itertools.count())
        with shared_server.client as client:
            client.flushall()

    def make_store(self, clock: Clock) -> Store:
        theirs = RedisStore(self.url, prefix="[o]ur", timeout=PATIENCE)
        theirs.set("g:a", b"theirs", 1e9)
        theirs.close()
        return RedisStore(self.url, prefix=next(self.prefixes), timeout=PATIENCE, clock=clock)


class TestRedisCluster(TestRedisStore):
    """A cluster that others use too."""

    @pytest.fixture(autouse=True)
    def _place(self, shared_cluster: ClusterServers) -> None:
        self.url = shared_cluster.url
        self.prefixes = (f"[o]u*?\\{number}:" for number in itertools.count())
        for node in shared_cluster.nodes:
            node.say("FLUSHALL")


class TestWatchedRedis(TestRedisStore):
    """A server that a sentinel watches."""

    @pytest.fixture(autouse=True)
    def _place(self, shared_watched: WatchedServers) -> None:
        self.url = shared_watched.url
        self.prefixes = (f"[o]u*?\\{number}:" for number in itertools.count())
        shared_watched.servers[0].say("FLUSHALL")


class TestMemoryOverMemory(StoreSuite):
    def make_store(self, clock: Clock) -> Store:
        return TieredStore(MemoryStore(clock=clock), MemoryStore(clock=clock), clock=clock)


class TestSmallMemoryOverMemory(StoreSuite):
    """Entries that say how long they live, most of which are copied up again and again."""

    def make_store(self, clock: Clock) -> Store:
        store = TieredStore(
            MemoryStore(max_size=2, clock=clock), MemoryStore(clock=clock), clock=clock
        )
        return Framed(store, clock)


class TestMemoryOverSQLite(StoreSuite):
    persistent = True

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.paths = (tmp_path / f"{number}.db" for number in itertools.count())

    def make_store(self, clock: Clock) -> Store:
        below = SQLiteStore(next(self.paths), timeout=PATIENCE, clock=clock)
        return Framed(TieredStore(MemoryStore(clock=clock), below, clock=clock), clock)


class TestMemoryOverSQLiteOverMemory(TestMemoryOverSQLite):
    persistent = True

    def make_store(self, clock: Clock) -> Store:
        between = SQLiteStore(next(self.paths), timeout=PATIENCE, clock=clock)
        store = TieredStore(
            MemoryStore(max_size=2, clock=clock), between, MemoryStore(clock=clock), clock=clock
        )
        return Framed(store, clock)


class TestMemoryOverRedis(TestRedisStore):
    def make_store(self, clock: Clock) -> Store:
        return Framed(TieredStore(MemoryStore(), super().make_store(clock)))


def test_all_stores_agree(tmp_path: Path) -> None:
    paths = (tmp_path / f"{number}.db" for number in itertools.count())
    assert_stores_agree(
        lambda clock: MemoryStore(clock=clock),
        lambda clock: SQLiteStore(next(paths), timeout=PATIENCE, clock=clock),
    )
