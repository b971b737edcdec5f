"""What the fault tests have done to a SQLite store by a process that they harm.

    python sqlite_workload.py FILE [stored]

Does the same sets, look-ups and deletions each time, closing in between so that
the journal is written back. Prints ``+key``, ``-key`` for what was stored or
deleted, ``?key`` before it tries, ``!`` for what raised, ``wrong`` for an answer
that is none, and at last ``done``.
"""

from __future__ import annotations

import sqlite3
import sys
from hashlib import sha256
from math import inf

from llmcache.backends.sqlite import SQLiteStore


def answer(key: str) -> bytes:
    """Return the one right answer, of up to 12 kB."""
    digest = sha256(key.encode()).digest()
    return digest * (1 + 3 * (digest[0] // 2))


def say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main() -> None:
    store = SQLiteStore(sys.argv[1], max_bytes=None, timeout=5.0)
    for name in range(8):
        key = f"g:{name}"
        try:
            say(f"?{key}")
            if store.set(key, answer(key), inf):
                say(f"+{key}")
            if store.get(key) not in (None, answer(key)):
                say("wrong")
            if name % 3 == 2:
                gone = f"g:{name - 1}"
                say(f"?{gone}")
                store.delete(gone)
                say(f"-{gone}")
        except (sqlite3.Error, OSError) as error:
            say(f"!{type(error).__name__}: {error}")
        if name % 4 == 3:
            store.close()
    store.close()
    say("done")


if __name__ == "__main__":
    main()
