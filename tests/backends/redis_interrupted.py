"""A process that is interrupted while it asks a Redis server; prints what its calls did.

It is one of its own because an interrupt strikes anything, such as what measures coverage.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import redis

from llmcache.backends.redis import RedisStore

KEYS = [f"g:{number}" for number in range(16)]
PATIENCE = 30.0
CONNECTIONS = 4


class Interrupt(BaseException):
    """What a signal handler raises: a soft limit, or Ctrl-C."""


def data_of(key: str) -> bytes:
    return f"{key} ".encode() * (20 + int(key[2:]))


def interrupted(get: Callable[[str], bytes | None], times: int) -> Counter[str]:
    """Call *get* and interrupt it, at an instant that nobody foresees, and count what it did."""

    def strike(number: int, frame: FrameType | None) -> None:
        raise Interrupt

    chance = random.Random(7)
    count: Counter[str] = Counter()
    before = signal.signal(signal.SIGALRM, strike)
    try:
        for turn in range(times):
            key = KEYS[turn % len(KEYS)]
            with suppress(Interrupt):
                try:
                    signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 400e-6))
                    found = get(key)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except Interrupt:
                    count["interrupted"] += 1
                except Exception as error:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    count[type(error).__name__] += 1
                else:
                    count["right" if found == data_of(key) else "wrong"] += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return count


def together(store: RedisStore) -> int:
    """Return how many look-ups are right when as many threads as there may be connections ask."""
    all_there = threading.Barrier(CONNECTIONS)
    right = []

    def work() -> None:
        all_there.wait(PATIENCE)
        right.extend(key for key in KEYS if store.get(key) == data_of(key))

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return len(right)


def others(client: redis.Redis, most: int) -> int:
    """Return how many more connections there are, once the server knows of those that closed."""
    deadline = time.monotonic() + PATIENCE
    while (found := len(client.client_list()) - 1) > most and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def main(who: str, port: int, times: int) -> None:
    # An interrupt that strikes while an object is being finalised can only be reported.
    warnings.simplefilter("ignore")
    if who == "plain":
        client = redis.Redis(port=port, max_connections=CONNECTIONS)
        sys.stdout.write(json.dumps(interrupted(lambda key: client.get(f"llm_cache:{key}"), times)))
        return
    scheme = "redis+cluster" if who == "ours in a cluster" else "redis"
    url = f"{scheme}://127.0.0.1:{port}"
    store = RedisStore(url, timeout=PATIENCE, max_connections=CONNECTIONS)
    count = interrupted(store.get, times)
    count["together"] = together(store)
    with redis.Redis(port=port) as client:
        count["open"] = others(client, CONNECTIONS)
        store.close()
        count["left open"] = others(client, 0)
    sys.stdout.write(json.dumps(count))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
