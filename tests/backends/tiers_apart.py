"""Tiers that a state machine drives, in its own process or in another one: lines in, lines out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from math import inf
from pathlib import Path
from typing import Any

from framed import Framed

from llmcache.backends import redis_tracking
from llmcache.backends.memory import MemoryStore
from llmcache.backends.redis import RedisStore
from llmcache.testing.caller import Caller
from llmcache.tiers import TieredStore

MARK = "zzz:mark"
PATIENCE = 60.0
PAUSE = 0.01
"""Seconds until a connection that was killed is made again: at once, nearly."""


class Here:
    """Memory over a server, in this process.

    Args:
        url: of the server.
        awaited: whether its awaitable methods are called.
    """

    def __init__(self, url: str, *, awaited: bool) -> None:
        self.store = TieredStore(MemoryStore(), RedisStore(url, timeout=PATIENCE))
        self.copies = self.store.copies[0]
        self.caller = Caller(Framed(self.store), awaited=awaited)

    def get(self, key: str) -> str | None:
        found = self.caller.get(key)
        return None if found is None else found.decode()

    def set(self, key: str, data: str) -> bool:
        return self.caller.set(key, data.encode(), inf)

    def delete(self, key: str) -> bool:
        return self.caller.delete(key)

    def clear(self, group: str) -> None:
        self.caller.clear(group)

    def plant(self) -> bool:
        """Have a copy that goes when everything that was told before is known; say whether."""
        self.store.get(MARK)
        return self.copies.tracked and self.copies.memory.set(MARK, b"", inf)

    def has_grown(self) -> bool:
        """Say whether everything is known."""
        return self.copies.memory.get(MARK) is None

    def forget(self) -> None:
        """Have no copies."""
        self.copies.memory.empty()

    def copied(self) -> int | None:
        """Return how many copies there are."""
        return self.copies.memory.usage("g").entries

    def close(self) -> None:
        self.caller.close()
        with self.caller:
            pass


class There:
    """The same in a process of its own."""

    def __init__(self, url: str, *, awaited: bool) -> None:
        path = Path(__file__)
        paths = [str(path.parent.parent), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, str(path), url, str(int(awaited))],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __getattr__(self, method: str) -> Any:
        def call(*arguments: str) -> Any:
            process = self._process
            assert process.poll() is None
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps([method, *arguments]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        return call

    def close(self) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(PATIENCE) == 0


def main(url: str, awaited: str) -> None:
    redis_tracking.FIRST_PAUSE = PAUSE
    here = Here(url, awaited=awaited == "1")
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        sys.stdout.write(json.dumps(getattr(here, method)(*arguments)) + "\n")
        sys.stdout.flush()
    here.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
