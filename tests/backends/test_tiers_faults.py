"""A server that fails below memory costs its callers no more than alone, and memory goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from redis_servers import HANG, Server, free_port, until
from twins import World

from backends.redis_people import BACK, LATE, NOTHING, QUICK, SLACK, Person, quickest, suffer
from llmcache.backends.memory import MemoryStore
from llmcache.backends.redis import RedisStore
from llmcache.policy import DEFAULT_TIER_TTL
from llmcache.tiers import TieredStore


@pytest.fixture(params=[World("sync"), World("async")], ids=["sync", "async"])
def person(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Person]]:
    with ExitStack() as stack:

        def make(url: str) -> Person:
            store: Any = TieredStore(MemoryStore(), RedisStore(url))
            someone = Person(request.param, store)
            stack.callback(someone.close)
            return someone

        yield make


def memory_goes_on(someone: Person) -> None:
    """Hit what was asked a moment ago, in no time, whatever the server does."""
    someone.ask("known")
    started, late = someone.calls, []
    for _ in range(100):
        late.append(someone.ask("known"))
    assert quickest(late) <= NOTHING
    assert someone.calls <= started + sum(late) // DEFAULT_TIER_TTL + 1


def is_shared(someone: Person, seconds: float = HANG) -> None:
    """Call until the server knows what only memory would know otherwise."""
    memory = someone.store.copies[0].memory  # type: ignore[attr-defined]

    def hits() -> bool:
        memory.empty()
        return someone.hits("known")

    until(hits, seconds)


@pytest.mark.parametrize("how", ["pause", "kill"])
def test_a_server_that_fails_and_comes_back(
    server: Server, person: Callable[[str], Person], how: str
) -> None:
    someone = person(server.url)
    copies = someone.store.copies[0]  # type: ignore[attr-defined]
    copies.ttl = 1.0
    is_shared(someone)
    until(lambda: someone.hits("known") and copies.tracked)
    getattr(server, how)()
    suffer(someone, LATE)
    memory_goes_on(someone)
    until(lambda: not copies.tracked)
    memory_goes_on(someone)
    server.go_on() if how == "pause" else server.start()
    is_shared(someone, BACK * SLACK)
    until(lambda: copies.tracked)


def test_a_server_that_is_silent_from_the_first(
    server: Server, person: Callable[[str], Person]
) -> None:
    server.pause()
    someone = person(server.url)
    suffer(someone, LATE)
    memory_goes_on(someone)
    server.go_on()
    is_shared(someone)


def test_a_server_that_is_not_there(person: Callable[[str], Person]) -> None:
    someone = person(f"redis://127.0.0.1:{free_port()}")
    suffer(someone, QUICK)
    memory_goes_on(someone)


def test_a_server_that_is_full(server: Server, person: Callable[[str], Person]) -> None:
    someone = person(server.url)
    is_shared(someone)
    with server.client as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
    # It still is asked for what it has, and answers.
    suffer(someone, LATE, QUICK)
    memory_goes_on(someone)
