"""The SQLite store keeps what it said it stored, in bounds, for every thread and process."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import stat
import sys
import threading
from collections import Counter
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from stand_ins import FakeClock

from llmcache.backends import sqlite_entries
from llmcache.backends.sqlite import SQLiteStore

from .asker import Asker, watch
from .sqlite_harm import (
    change,
    rows,
)

Make = Callable[..., SQLiteStore]
Open = Callable[..., Asker]


def test_making_a_store_opens_nothing(make: Make, path: Path) -> None:
    threads = threading.active_count()
    store = make()
    store.close()
    assert not path.parent.exists()
    assert threading.active_count() == threads
    assert (store.path, store.prefix, store.timeout) == (path, "", 30.0)


def test_a_store_has_bounds_and_a_timeout_of_its_own(path: Path) -> None:
    store = SQLiteStore(str(path))
    assert (store.max_size, store.max_bytes) == (100_000, 1 << 30)
    assert store.timeout == 0.1


def test_without_bounds_nothing_is_evicted(make: Make) -> None:
    store = make(max_size=None, max_bytes=None)
    for name in range(50):
        store.set(f"g:{name}", b"data", inf)
    assert store.usage("g") == (50, 200)


def test_time_is_the_system_s_unless_told_otherwise(make: Make) -> None:
    store = make(clock=None)
    assert store.set("g:a", b"data", 600) is True
    assert store.get("g:a") == b"data"


def test_entries_outlive_the_store(make: Make) -> None:
    make().set("g:a", b"data", inf)
    assert make().get("g:a") == b"data"


def test_a_relative_path_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make
) -> None:
    monkeypatch.chdir(tmp_path)
    store = make(Path("a b?c%20.db"))
    monkeypatch.chdir("/")
    store.set("g:a", b"data", inf)
    assert rows(tmp_path / "a b?c%20.db") == ["g:a"]


def test_prefixes_share_a_file_and_no_entries(make: Make, path: Path) -> None:
    one, two = make(prefix="one:"), make(prefix="two:")
    told = watch(two)
    one.set("g:a", b"1", inf)
    two.set("g:a", b"2", inf)
    assert rows(path) == ["one:g:a", "two:g:a"]
    assert one.get("g:a") == b"1"
    one.clear("g")
    assert (one.usage("g").entries, two.usage("g").entries) == (0, 1)
    make(prefix="two:", max_size=1).set("g:b", b"3", inf)
    assert two.get("g:a") is None
    assert not told


def test_what_is_closed_opens_again(open_store: Open) -> None:
    store = open_store()
    store.set("g:a")
    for _ in range(2):
        store.store.close()
        assert store.get("g:a") == b"data"
        store.store.close()
        store.store.close()
        assert store.set("g:b") is True


def test_the_awaitable_close_closes(make: Make, path: Path) -> None:
    store = make()
    store.set("g:a", b"data", inf)
    assert Path(f"{path}-wal").exists()
    asyncio.run(store.aclose())
    assert not Path(f"{path}-wal").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
def test_nobody_else_can_read_the_file(make: Make, path: Path) -> None:
    before = os.umask(0)
    try:
        make().set("g:a", b"data", inf)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files = list(path.parent.iterdir())
    assert {file.name for file in files} == {path.name, f"{path.name}-wal", f"{path.name}-shm"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_journal_that_outlived_its_database_is_not_played_back(make: Make, path: Path) -> None:
    store = make()
    store.set("g:a", b"data", inf)
    journal = Path(f"{path}-wal").read_bytes()
    store.close()
    path.unlink()
    Path(f"{path}-wal").write_bytes(journal)
    assert make().get("g:a") is None


def test_rows_with_the_same_number_do_not_answer_for_each_other(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sqlite", "sqlite_entries"):
        monkeypatch.setattr(f"llmcache.backends.{module}.number", lambda key: 7)
    store = make()
    store.set("g:a", b"a", inf)
    assert store.get("h:b") is None
    assert store.delete("h:b") is False
    assert store.set("g:a", b"a", inf) is True
    assert store.set("h:b", b"b", inf) is True
    assert store.get("g:a") is None
    assert store.get("h:b") == b"b"
    assert (store.usage("g"), store.usage("h")) == ((0, 0), (1, 1))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET data = 'text'",
        "UPDATE entries SET data = CAST(x'ff80' AS TEXT)",
        "UPDATE entries SET data = 5",
        "UPDATE entries SET key = x'ff'",
        "UPDATE entries SET expires = 0",
    ],
)
def test_columns_of_other_types_are_no_answers(
    open_store: Open, path: Path, statement: str
) -> None:
    store = open_store()
    store.set("g:a")
    change(path, statement)
    assert store.get("g:a") is None
    assert store.set("g:a", b"new") is True
    assert store.get("g:a") == b"new"


def test_the_sums_are_right_whatever_is_done(make: Make, path: Path) -> None:
    store = make(max_size=20, max_bytes=300)
    chance = random.Random(5)
    for _ in range(500):
        key = f"{chance.choice('gh')}:{chance.randrange(40)}"
        store.set(key, bytes(chance.randrange(60)), inf)
        if chance.random() < 0.2:
            store.delete(key)
        if chance.random() < 0.02:
            store.clear("g")
    assert rows(path, "SELECT entries, bytes FROM totals") == rows(
        path, "SELECT count(*), sum(size) FROM entries"
    )
    assert rows(path, "SELECT name, entries, bytes FROM families ORDER BY name") == rows(
        path,
        "SELECT substr(key, 1, 1), count(*), sum(length(data)) FROM entries GROUP BY 1 ORDER BY 1",
    )
    assert rows(path, "SELECT count(*) <= 20 AND sum(size) <= 300 FROM entries") == [1]


def test_one_large_value_may_drive_out_more_than_one_step(make: Make, clock: FakeClock) -> None:
    store = make(max_bytes=10_000)
    told = watch(store)
    for name in range(1000):
        store.set(f"g:{name}", b"1234567890", 10 if name < 300 else inf)
    assert store.usage("g") == (1000, 10_000)
    clock.advance(10)
    assert store.set("g:large", bytes(10_000), inf) is True
    assert store.usage("g") == (1, 10_000)
    assert told == {"expired": 300, "evicted": 700}


def test_what_there_was_no_time_to_drop_goes_with_the_next_writes(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(max_bytes=10_000)
    for name in range(1000):
        store.set(f"g:{name}", b"1234567890", inf)
    monkeypatch.setattr("llmcache.backends.sqlite.monotonic", lambda: inf)
    assert store.set("g:large", bytes(10_000), inf) is True
    assert store.usage("g").entries == 801
    for _ in range(4):
        store.set("g:large", bytes(10_000), inf)
    assert store.usage("g").entries == 1


def test_many_expired_entries_are_not_counted(make: Make, clock: FakeClock) -> None:
    store = make()
    told = watch(store)
    for name in range(450):
        store.set(f"g:{name}", b"1", 10)
    store.set("g:live", b"1", inf)
    clock.advance(10)
    assert store.usage("g") == (1, 1)
    assert told == {"expired": 450}


def test_a_large_group_is_cleared_in_steps(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make()
    for name in range(450):
        store.set(f"g:{name}", b"1", inf)
    steps: list[int] = []
    clear = sqlite_entries.Entries.clear

    def counted(*args: Any) -> Any:
        found, dropped = clear(*args)
        steps.append(found)
        return found, dropped

    monkeypatch.setattr(sqlite_entries.Entries, "clear", counted)
    store.clear("g")
    assert steps == [200, 200, 50]
    assert store.usage("g") == (0, 0)


def test_a_use_is_noted_when_it_matters_and_not_at_every_read(make: Make, path: Path) -> None:
    store = make(max_size=100)
    for name in range(100):
        store.set(f"g:{name}", b"1", inf)
    used = "SELECT used FROM entries ORDER BY id"
    before = rows(path, used)
    for _ in range(3):
        store.get("g:95")
    store.set("g:99", b"1", inf)
    assert rows(path, used) == before
    store.get("g:0")
    store.set("g:99", b"1", inf)
    assert sum(new != old for new, old in zip(rows(path, used), before, strict=True)) == 2
    for name in range(100, 150):
        store.set(f"g:{name}", b"1", inf)
    assert store.get("g:0") == b"1"
    assert store.get("g:1") is None


def test_notes_are_bounded_and_written_in_steps(make: Make) -> None:
    store = make()
    for name in range(1200):
        store.set(f"g:{name}", b"1", inf)
    reader = make()
    for name in range(1200):
        reader.get(f"g:{name}")
    assert len(reader._noted) == 1000
    reader.set("g:new", b"1", inf)
    assert len(reader._noted) == 800


def test_a_failing_watcher_does_not_undo_the_write(make: Make) -> None:
    store = make(max_size=1)

    def fail(why: str) -> None:
        raise ValueError(why)

    store.watch("g", fail)
    store.set("g:a", b"1", inf)
    with pytest.raises(ValueError, match="evicted"):
        store.set("g:b", b"1", inf)
    assert store.get("g:b") == b"1"


def test_a_value_that_sqlite_refuses_raises_and_leaves_the_old_one(make: Make) -> None:
    store = make()
    store.set("g:a", b"1", inf)
    with pytest.raises((sqlite3.Error, TypeError)):
        store.set("g:a", ["no", "bytes"], inf)  # type: ignore[arg-type]
    assert store.get("g:a") == b"1"
    assert store.usage("g") == (1, 1)


class Agreement(RuleBasedStateMachine):
    """Whatever is done, a store without bounds says what a dictionary says."""

    keys = st.sampled_from(["g:a", "g:b", "h:a"])

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.directory = tempfile.TemporaryDirectory()
        self.clock = FakeClock()
        self.path = Path(self.directory.name, "answers.db")
        self.store = SQLiteStore(self.path, clock=self.clock.clock, timeout=30.0)
        self.runner = asyncio.Runner()
        self.model: dict[str, tuple[bytes, float]] = {}

    def teardown(self) -> None:
        self.store.close()
        self.runner.close()
        self.directory.cleanup()

    def live(self, key: str) -> bytes | None:
        data, expires = self.model.get(key, (b"", -inf))
        return data if self.clock.now < expires else None

    @rule(key=keys)
    def get(self, key: str) -> None:
        assert self.store.get(key) == self.live(key)
        assert self.runner.run(self.store.aget(key)) == self.live(key)

    @rule(
        key=keys, data=st.binary(max_size=5), ttl=st.sampled_from([1, 5, inf]), later=st.booleans()
    )
    def set(self, key: str, data: bytes, ttl: float, later: bool) -> None:
        if later:
            assert self.runner.run(self.store.aset(key, data, ttl)) is True
        else:
            assert self.store.set(key, data, ttl) is True
        self.model[key] = data, self.clock.now + ttl

    @rule(key=keys)
    def delete(self, key: str) -> None:
        assert self.store.delete(key) == (self.live(key) is not None)
        self.model.pop(key, None)

    @rule(group=st.sampled_from("gh"))
    def clear(self, group: str) -> None:
        self.store.clear(group)
        self.model = {key: value for key, value in self.model.items() if key[0] != group}

    @rule(group=st.sampled_from("gh"))
    def usage(self, group: str) -> None:
        live = [self.live(key) for key in self.model if key[0] == group]
        found = [data for data in live if data is not None]
        assert self.store.usage(group) == (len(found), sum(map(len, found)))

    @rule(seconds=st.sampled_from([1, 4]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def reopen(self) -> None:
        self.store.close()


TestAgreement = Agreement.TestCase


def test_the_loop_reads_and_leaves_the_writing_to_another_thread(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it is never stalled, however slow the disk is."""
    store = make()
    readers: Counter[int] = Counter()
    writers: Counter[int] = Counter()
    look_up, write = store._look_up, store._write

    def looked_up(*args: Any) -> Any:
        readers[threading.get_ident()] += 1
        return look_up(*args)

    def written(*args: Any) -> Any:
        writers[threading.get_ident()] += 1
        return write(*args)

    async def work(number: int) -> None:
        for turn in range(4):
            assert await store.aset(f"g:{number} {turn}", b"data", inf)
            assert await store.aget("g:hit") == b"data"
            await asyncio.sleep(0)

    async def main() -> None:
        await store.aset("g:hit", b"data", inf)
        await store.aget("g:hit")
        readers.clear()
        await asyncio.gather(*map(work, range(50)))

    monkeypatch.setattr(store, "_look_up", looked_up)
    monkeypatch.setattr(store, "_write", written)
    asyncio.run(main())
    here = threading.get_ident()
    assert readers == {here: 200}
    assert len(writers) == 1
    assert here not in writers
    assert writers.total() >= 201
