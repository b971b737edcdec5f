"""What the SQLite store does under killed processes, failing disks and full ones: all for real."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from math import inf
from pathlib import Path

import pytest

from backends.sqlite_workload import answer
from llmcache.backends.sqlite import SQLiteStore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="strace and tmpfs are Linux's"),
]

HERE = Path(__file__).parent
ROUNDS = 250
"""Of four killed processes each."""

"""The most calls of one kind that are made to fail, one in each run."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")


def run(*command: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def check(path: Path, output: str, *, unreadable: bool = False) -> None:
    """Check what is in the file against what the process said about it.

    A file that stays unreadable may be set aside, with what is in it.
    """
    kept: dict[str, bool | None] = {}
    for line in output.splitlines():
        if line[0] in "?+-":
            kept[line[1:]] = {"?": None, "+": True, "-": False}[line[0]]
    assert "wrong" not in output
    aside = list(path.parent.glob("*.corrupt-*"))
    assert not aside or unreadable
    store = SQLiteStore(path, timeout=30.0)
    for key, there in kept.items():
        found = store.get(key)
        assert found in (None, answer(key))
        if there is not None and not aside:
            assert (found is not None) is there, f"{key} was acknowledged"
    assert store.set("g:after", b"data", inf) is True
    assert store.get("g:after") == b"data"
    store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    totals = "SELECT entries, bytes FROM totals"
    counted = "SELECT count(*), sum(length(data)) FROM entries"
    assert connection.execute(totals).fetchall() == connection.execute(counted).fetchall()
    connection.close()
    assert list(path.parent.glob("*.corrupt-*")) == aside


# Killed.


def test_what_killed_processes_said_was_stored_is_there(tmp_path: Path) -> None:
    script = str(HERE / "killed_writers.py")
    done = run(sys.executable, script, str(tmp_path / "answers.db"), str(ROUNDS), "1", timeout=900)
    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout)
    assert numbers["kills"] == ROUNDS * 4
    assert numbers["acknowledged"] > numbers["kills"]
    assert (numbers["lost"], numbers["wrong"], numbers["set aside"]) == (0, 0, 0)
    assert numbers["slowest opening"] < 1


# System calls that fail, or are the last ones.

CALLS = ("pwrite64", "fdatasync", "ftruncate", "unlink")
READS = ("pread64",)


def traced(path: Path, *inject: str) -> subprocess.CompletedProcess[str]:
    calls = ",".join((*CALLS, *READS))
    files = [f"{path}{suffix}" for suffix in ("", "-wal", "-shm", "-journal")]
    return run(
        *("strace", "-f", "-qq", "-o", str(path.with_name("trace")), "-e", f"trace={calls}"),
        *(word for file in files for word in ("-P", file)),
        *inject,
        *(sys.executable, str(HERE / "sqlite_workload.py"), str(path)),
        timeout=120,
    )


@cache
def count(where: Path) -> dict[str, int]:
    """Return how often each call is made when nothing fails."""
    path = where / "answers.db"
    done = traced(path)
    assert done.stdout.endswith("done\n"), done.stderr
    assert "!" not in done.stdout
    check(path, done.stdout)
    trace = (where / "trace").read_text()
    return {call: len(re.findall(rf"\b{call}\(", trace)) for call in (*CALLS, *READS)}


def points(tmp_path_factory: pytest.TempPathFactory, call: str) -> list[int]:
    root = tmp_path_factory.getbasetemp() / "counted"
    root.mkdir(exist_ok=True)
    calls = count(root)[call]
    assert calls
    return list(range(1, calls + 1))


@pytest.mark.parametrize("call", CALLS)
def test_a_process_may_be_killed_at_every_call(
    tmp_path_factory: pytest.TempPathFactory, call: str
) -> None:
    for point in points(tmp_path_factory, call):
        path = tmp_path_factory.mktemp("killed") / "answers.db"
        done = traced(path, "-e", f"inject={call}:signal=SIGKILL:when={point}")
        assert "done" not in done.stdout
        check(path, done.stdout)
        shutil.rmtree(path.parent)


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("call", [*CALLS[:3], *READS])
@pytest.mark.parametrize("forever", [False, True], ids=["once", "from then on"])
def test_every_call_may_fail(
    tmp_path_factory: pytest.TempPathFactory, call: str, error: str, forever: bool
) -> None:
    if call in READS and error == "ENOSPC":
        pytest.skip("no read ends like this")
    failed = 0
    for point in points(tmp_path_factory, call)[:: 4 if forever else 2]:
        path = tmp_path_factory.mktemp("failed") / "answers.db"
        when = f"{point}+" if forever else str(point)
        done = traced(path, "-e", f"inject={call}:error={error}:when={when}")
        assert done.stdout.endswith("done\n"), done.stderr
        failed += "!" in done.stdout
        if not forever:
            assert done.stdout.count("!") <= 1, done.stdout
        check(path, done.stdout, unreadable=forever and call in READS)
        shutil.rmtree(path.parent)


# Disks.


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB."""
    where = tmp_path / "disk"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", where], check=True)
    yield where
    subprocess.run(["umount", "--lazy", where], check=True)


def fill(file: Path) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while True:
            os.write(descriptor, bytes(4096))
    os.close(descriptor)


@as_root
def test_a_full_disk_costs_what_is_new_and_nothing_that_is_there(disk: Path) -> None:
    store = SQLiteStore(disk / "answers.db", timeout=30.0)
    store.set("g:old", b"old", inf)
    filler = disk / "filler"
    fill(filler)
    stored = []
    with suppress(sqlite3.OperationalError):
        for name in range(1000):
            assert store.set(f"g:{name}", bytes(10_000), inf) is True
            stored.append(f"g:{name}")
    assert len(stored) < 1000
    for _ in range(3):
        with pytest.raises(sqlite3.OperationalError):
            store.set("g:more", bytes(10_000), inf)
        assert store.get("g:old") == b"old"
    assert all(store.get(key) == bytes(10_000) for key in stored)
    asyncio.run(_hits_while_nothing_can_be_stored(store))
    filler.unlink()
    assert store.set("g:more", bytes(10_000), inf) is True
    assert store.get("g:more") == bytes(10_000)
    assert store.get("g:old") == b"old"
    store.close()
    assert not list(disk.glob("*.corrupt-*"))


async def _hits_while_nothing_can_be_stored(store: SQLiteStore) -> None:
    assert await store.aget("g:old") == b"old"
    with pytest.raises(sqlite3.OperationalError):
        await store.aset("g:more", bytes(10_000), inf)
    assert await store.aget("g:old") == b"old"


@as_root
@pytest.mark.parametrize("left", ["closed", "killed"])
def test_what_is_on_a_read_only_disk_answers(disk: Path, left: str) -> None:
    path = disk / "answers.db"
    code = (
        "import os\n"
        "from llmcache.backends.sqlite import SQLiteStore\n"
        f"store = SQLiteStore({str(path)!r}, timeout=30)\n"
        "for n in range(20): store.set(f'g:{n}', b'data' * n, float('inf'))\n"
        + ("store.close()\n" if left == "closed" else "os.kill(os.getpid(), 9)\n")
    )
    run(sys.executable, "-c", code)
    assert Path(f"{path}-wal").exists() is (left == "killed")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    store = SQLiteStore(path, timeout=30.0)
    for _ in range(2):
        assert all(store.get(f"g:{n}") == b"data" * n for n in range(20))
        assert store.get("g:none") is None
        with pytest.raises(sqlite3.OperationalError):
            store.set("g:new", b"new", inf)
    assert store.usage("g").entries == 20
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert store.set("g:new", b"new", inf) is True
    assert store.get("g:new") == b"new"
    assert all(store.get(f"g:{n}") == b"data" * n for n in range(20))
    store.close()


@as_root
def test_where_there_is_nothing_and_nothing_can_be_made_every_use_raises(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for path in (disk / "answers.db", disk / "new" / "answers.db"):
        store = SQLiteStore(path)
        with pytest.raises(OSError, match="Read-only"):
            store.get("g:a")
        with pytest.raises(OSError, match="Read-only"):
            store.set("g:a", b"data", inf)


@as_root
@pytest.mark.parametrize(("directory", "file"), [(0o555, 0o644), (0o755, 0o444), (0o555, 0o444)])
def test_what_somebody_may_only_read_answers(directory: int, file: int) -> None:
    """As another user, since nothing is forbidden to root."""
    where = Path("/var/tmp") / f"llmcache-{os.getpid()}-{directory}-{file}"
    where.mkdir()
    try:
        path = where / "answers.db"
        store = SQLiteStore(path, timeout=30.0)
        store.set("g:a", b"data", inf)
        store.close()
        path.chmod(file)
        where.chmod(directory)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setgid(65534)
                os.setuid(65534)
                assert store.get("g:a") == b"data"
                with pytest.raises(sqlite3.OperationalError):
                    store.set("g:a", b"new", inf)
                assert store.get("g:a") == b"data"
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        shutil.rmtree(where)


# Forks, processes and loops.


def test_a_child_s_lock_is_its_own_when_its_parent_has_gone_on(tmp_path: Path) -> None:
    """SQLite takes an inherited lock for the child's, and others then delete its journal."""
    path = tmp_path / "answers.db"
    store = SQLiteStore(path, timeout=30.0)
    store.set("g:a", b"data", inf)
    read, write = os.pipe()
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert store.set("g:child", b"1", inf)
            os.write(tell, b"1")
            os.read(read, 1)
            assert store.set("g:child again", b"2", inf)
            code = 0
        finally:
            os._exit(code)
    os.read(ready, 1)
    store.close()
    other = (
        "from llmcache.backends.sqlite import SQLiteStore\n"
        f"store = SQLiteStore({str(path)!r}, timeout=30)\n"
        "store.set('g:other', b'3', 60)\n"
        "store.close()\n"
    )
    try:
        assert run(sys.executable, "-c", other).returncode == 0
        kept = Path(f"{path}-wal").exists()
    finally:
        os.write(write, b"1")
        _, status = os.waitpid(child, 0)
    assert status == 0
    assert kept
    assert store.get("g:child again") == b"2"
    assert store.get("g:other") == b"3"
    store.close()
    for descriptor in (read, write, ready, tell):
        os.close(descriptor)


def test_forked_processes_of_many_writes_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    store = SQLiteStore(path, timeout=30.0)
    store.set("g:a", b"data", inf)
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for turn in range(150):
                    key = f"g:{number} {turn}"
                    assert store.set(key, key.encode(), inf)
                    assert store.get(key) == key.encode()
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    for turn in range(150):
        assert store.set(f"g:parent {turn}", b"data", inf)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert store.usage("g").entries == 1 + 5 * 150
    store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
