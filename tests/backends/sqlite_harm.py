"""What others do to the file of a SQLite store, and what they see in it."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

WRITERS = ("BEGIN EXCLUSIVE",)
EVERYBODY = ("PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE", "DELETE FROM totals WHERE 0")
"""What locks them out."""


def rows(path: Path, query: str = "SELECT key FROM entries ORDER BY key") -> list[Any]:
    with sqlite3.connect(path) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return [row[0] if len(row) == 1 else row for row in found]


def change(path: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement, values)
    connection.close()


def remove_file(path: Path) -> None:
    path.unlink()


def remove_journal(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def remove_all_files(path: Path) -> None:
    for file in path.parent.iterdir():
        file.unlink()


def remove_directory(path: Path) -> None:
    remove_all_files(path)
    path.parent.rmdir()


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(512)


def empty(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(0)


def overwrite_all(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(random.Random(1).randbytes(size))


def overwrite_pages(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(100)
        file.write(random.Random(1).randbytes(size - 100))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"")
    other.replace(path)


HARMS = (
    remove_file,
    remove_journal,
    remove_all_files,
    remove_directory,
    truncate,
    empty,
    overwrite_all,
    overwrite_pages,
    replace,
)


@contextmanager
def locked(path: Path, *statements: str) -> Iterator[Callable[[], None]]:
    """Have another process execute *statements*; what they lock is locked until the end.

    It gives what ends that earlier.
    """
    code = (
        "import sqlite3, sys\n"
        f"connection = sqlite3.connect({str(path)!r}, isolation_level=None)\n"
        f"for statement in {statements!r}: connection.execute(statement)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stdin is not None
        stdin = child.stdin

        def unlock() -> None:
            stdin.close()
            child.wait()

        try:
            assert child.stdout.readline() == "locked\n"
            yield unlock
        finally:
            unlock()


@contextmanager
def disk(where: Path, megabytes: int = 3) -> Iterator[Path]:
    """Mount a disk of that size."""
    where.mkdir()
    size = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", where], check=True)


@contextmanager
def full(where: Path, but: int = 0) -> Iterator[None]:
    """Leave no room on the disk, *but* so many bytes."""
    filler = where / "filler"
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while True:
            os.write(descriptor, bytes(4096))
    os.ftruncate(descriptor, os.fstat(descriptor).st_size - but)
    os.close(descriptor)
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def read_only(where: Path) -> Iterator[None]:
    """Have the disk take nothing, unless somebody has a file open for writing."""
    subprocess.run(["mount", "-o", "remount,ro", where], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", where], check=True)
