"""Kills processes in the middle of their writes and counts what they lost: run by a test.

    python killed_writers.py FILE ROUNDS SEED

Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from hashlib import sha256
from math import inf
from pathlib import Path

from llmcache.backends.sqlite import SQLiteStore

WRITERS = 4


def answer(key: str) -> bytes:
    """Return the one right answer: 32 bytes to 16 kB, so that some take many pages."""
    digest = sha256(key.encode()).digest()
    return digest * (1 + digest[0] * 2)


def write(path: str, writer: str, acknowledge: int) -> None:
    store = SQLiteStore(path, max_bytes=None, timeout=30.0)
    for turn in range(100_000):
        key = f"g{writer[-1]}:{writer} {turn}"
        if store.set(key, answer(key), inf):
            os.write(acknowledge, f"{key}\n".encode())
        if turn % 5 == 4:
            gone = f"{key} gone"
            store.set(gone, answer(gone), inf)
            store.delete(gone)


def one_round(path: str, number: int, chance: random.Random) -> list[str]:
    """Start the writers, kill them, and return what they said was stored."""
    children, ends = [], []
    for writer in range(WRITERS):
        read, acknowledge = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            try:
                write(path, f"{number} {writer}", acknowledge)
            finally:
                os._exit(1)
        os.close(acknowledge)
        children.append(child)
        ends.append(read)
    for child in children:
        time.sleep(chance.uniform(0.0, 0.05))
        os.kill(child, signal.SIGKILL)
    for child in children:
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL, "a writer failed of its own accord"
    keys = []
    for read in ends:
        with os.fdopen(read) as file:
            keys += [line.strip() for line in file if line.endswith("\n")]
    return keys


def main() -> None:
    path, rounds, chance = sys.argv[1], int(sys.argv[2]), random.Random(sys.argv[3])
    stored: list[str] = []
    lost = wrong = 0
    slowest = 0.0
    for number in range(rounds):
        new = one_round(path, number, chance)
        stored += new
        asked = stored if number == rounds - 1 else new + chance.sample(stored, len(stored) // 50)
        store = SQLiteStore(path, max_bytes=None, timeout=30.0)
        before = time.perf_counter()
        store.get("g:first")
        slowest = max(slowest, time.perf_counter() - before)
        for key in asked:
            found = store.get(key)
            lost += found is None
            wrong += found not in (None, answer(key))
        store.close()
    aside = list(Path(path).parent.glob("*.corrupt-*"))
    numbers = {"kills": rounds * WRITERS, "acknowledged": len(stored), "lost": lost, "wrong": wrong}
    json.dump({**numbers, "set aside": len(aside), "slowest opening": slowest}, sys.stdout)


if __name__ == "__main__":
    main()
