"""What a Redis server tells of its own accord is heard, or who follows it knows that it is not."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis_chaos import FakeServer, Proxy
from redis_servers import HANG, Server, free_port, require, running, until
from twins import World, worlds

import llmcache
from llmcache import TieredCacheBackend, llm_cached
from llmcache.backends import redis_tracking
from llmcache.backends.copies import Copies
from llmcache.backends.memory import MemoryStore
from llmcache.backends.redis import RedisStore
from llmcache.backends.redis_pushes import Pushes, Said, Unfinished, parse
from llmcache.backends.redis_tracking import Watch
from llmcache.tiers import Tier, TieredStore

PREFIX = "llm_cache:"
BOUND = 1.0
"""Seconds for which the followers of these tests may go without news."""


class Follower:
    """Notes what it is told."""

    def __init__(self, ttl: float = BOUND) -> None:
        self.ttl = ttl
        self.told: list[str] = []

    def began(self) -> None:
        self.told.append("began")

    def changed(self, key: str) -> None:
        self.told.append(key)

    def lost(self) -> None:
        self.told.append("lost")

    def wait(self, *last: str) -> None:
        until(lambda: self.told[-len(last) :] == list(last))


@pytest.fixture
def store(server: Server) -> Iterator[RedisStore]:
    store = RedisStore(server.url, timeout=HANG)
    yield store
    store.close()


@pytest.fixture
def follower(store: RedisStore) -> Follower:
    follower = Follower()
    store.follow(follower)
    follower.wait("began")
    return follower


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.DEBUG)
    return lambda: [r.getMessage() for r in caplog.records if r.name == "llmcache"]


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "llmcache-tracking"]


def test_whoever_follows_is_told_of_changes(store: RedisStore, follower: Follower) -> None:
    store.set("g:a", b"one", 60)
    follower.wait("began", "g:a")
    store.delete("g:a")
    follower.wait("g:a", "g:a")


def test_others_changes_are_told_and_other_keys_are_not(server: Server, follower: Follower) -> None:
    with server.client as client:
        client.set("other:g:a", b"one")
        client.set(f"{PREFIX}g:a", b"one", px=30)
        follower.wait("began", "g:a", "g:a")  # stored, and over
        client.mset({f"{PREFIX}g:{name}": b"" for name in "abc"})
        follower.wait("g:a", "g:b", "g:c")
        client.set(f"{PREFIX}\xff", b"no key of ours")
    follower.wait("��")


@pytest.mark.parametrize("prefix", ["", "*[o]?\\:"])
def test_any_prefix_can_be_followed(server: Server, prefix: str) -> None:
    store, follower = RedisStore(server.url, prefix=prefix, timeout=HANG), Follower()
    store.follow(follower)
    follower.wait("began")
    store.set("g:a", b"one", 60)
    follower.wait("began", "g:a")
    store.close()


@pytest.mark.parametrize("flush", ["flushall", "flushdb"])
def test_a_server_that_is_emptied_is_a_new_beginning(
    server: Server, follower: Follower, flush: str
) -> None:
    with server.client as client:
        client.set(f"{PREFIX}g:a", b"one")
        getattr(client, flush)()
    follower.wait("began", "g:a", "began")


def test_there_is_one_connection_for_all(
    server: Server, store: RedisStore, follower: Follower
) -> None:
    others = [Follower() for _ in range(10)]
    for other in others:
        for _ in range(2):
            store.follow(other)
        assert other.told == ["began"]
    assert (len(threads()), server.clients()) == (1, 1)
    store.set("g:a", b"one", 60)
    for other in others:
        other.wait("began", "g:a")


def test_who_can_wait_less_is_waited_for(store: RedisStore, follower: Follower) -> None:
    hasty = Follower(ttl=BOUND / 4)
    store.follow(hasty)
    hasty.wait("began")
    follower.wait("began", "lost", "began")
    until(lambda: len(threads()) == 1)


def test_nobody_follows_any_more(server: Server, store: RedisStore) -> None:
    follower = Follower()
    store.follow(follower)
    follower.wait("began")
    del follower
    gc.collect()
    until(lambda: threads() == [])
    assert until(lambda: server.clients() == 0)
    assert until(lambda: server.clients() == 0)


def test_a_connection_that_is_killed(
    server: Server, store: RedisStore, follower: Follower, said: Callable[[], list[str]]
) -> None:
    with server.client as client:
        client.client_kill_filter(_type="normal", skipme=True)
    follower.wait("began", "lost", "began")
    store.set("g:a", b"one", 60)
    follower.wait("began", "g:a")
    until(lambda: len(said()) == 2)
    assert said() == [
        "being told of changes by the Redis server failed (ConnectionResetError): "
        "memory tiers keep copies for their own ttl until it is back",
        "being told of changes by the Redis server is back",
    ]


def test_a_server_that_dies_and_comes_back(
    server: Server, follower: Follower, said: Callable[[], list[str]]
) -> None:
    server.kill()
    follower.wait("began", "lost")
    store = RedisStore(server.url)
    store.follow(other := Follower())
    until(lambda: len(said()) == 2)
    again = store._tracking._connect

    def connect() -> Any:
        attempts.append(1)
        return again()

    attempts: list[int] = []
    store._tracking._connect = connect
    until(lambda: len(attempts) == 2)
    server.start()
    follower.wait("lost", "began")
    other.wait("began")
    until(lambda: len(said()) == 4)
    store.close()


def test_a_server_that_falls_silent_is_noticed_in_time(server: Server, follower: Follower) -> None:
    started = time.monotonic()
    server.pause()
    follower.wait("began", "lost")
    assert time.monotonic() - started < BOUND * 2
    server.go_on()
    follower.wait("lost", "began")


def test_a_process_that_was_stopped_waits_no_longer_than_it_may(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, left = 1000.0, list[float]()

    class Stopped(Pushes):
        def begin(self, prefix: bytes, deadline: float) -> None:
            pass

        def send(self, *command: str | bytes | int, within: float) -> None:
            pass

        def read(self, deadline: float) -> Said:
            nonlocal now
            left.append(deadline - now)
            now += 3600
            raise TimeoutError

    monkeypatch.setattr(redis_tracking, "Pushes", Stopped)
    monkeypatch.setattr(redis_tracking, "monotonic", lambda: now)
    tracking, follower = store._tracking, Follower()
    assert tracking is not None
    tracking._followers.add(follower)
    watch = Watch(lambda watch: None)
    tracking._watch = watch
    with pytest.raises(TimeoutError):
        tracking._listen(watch)
    assert watch.link is not None
    watch.link.close()
    tracking._watch = None
    assert left[0] > 0 > left[1]


def test_a_server_that_has_nothing_to_tell_is_not_lost(
    server: Server, store: RedisStore, follower: Follower
) -> None:
    def asked() -> int:
        with server.client as client:
            return client.info("commandstats")["cmdstat_ping"]["calls"]

    with server.client as client:
        client.ping()
    before = asked()
    until(lambda: asked() > before + 4)
    assert follower.told == ["began"]


def test_a_connection_that_is_cut_on_its_way(server: Server) -> None:
    with Proxy(server.port) as proxy:
        store, follower = RedisStore(proxy.url, timeout=HANG), Follower()
        store.follow(follower)
        follower.wait("began")
        proxy.chop = 1
        with server.client as client:
            client.mset({f"{PREFIX}g:{name}": b"" for name in "abc"})
            follower.wait("began", "g:a", "g:b", "g:c")
            proxy.breaks, proxy.resets = 5, True
            client.set(f"{PREFIX}g:a", b"")
        follower.wait("g:c", "lost")
        proxy.calm()
        follower.wait("lost", "began")
        store.close()


def test_a_server_that_says_more_than_can_be_heard(
    server: Server, store: RedisStore, said: Callable[[], list[str]]
) -> None:
    """What it says is heard late, and so is its sign of life."""
    follower = Follower(ttl=0.05)
    slow = threading.Event()

    def changed(key: str) -> None:
        slow.wait(0.1)

    follower.changed = changed  # type: ignore[method-assign]
    store.follow(follower)
    follower.wait("began")
    with server.client as client:
        until(lambda: client.set(f"{PREFIX}g:a", b"") and said())
    slow.set()
    assert "(TimeoutError)" in said()[0]


def test_a_server_that_is_not_there(said: Callable[[], list[str]]) -> None:
    store, follower = RedisStore(f"redis://127.0.0.1:{free_port()}"), Follower()
    store.follow(follower)
    until(lambda: len(said()) == 1)
    assert "(ConnectionError)" in said()[0]
    assert follower.told == []
    store.close()
    assert threads() == []
    assert len(said()) == 1


def test_a_server_that_must_not_tell_is_not_asked_all_the_time(
    server: Server, said: Callable[[], list[str]]
) -> None:
    with server.client as client:
        client.execute_command(
            "ACL", "SETUSER", "ann", "on", ">hunter2", "~*", "+@all", "-client|tracking"
        )
    store = RedisStore(f"redis://ann:hunter2@127.0.0.1:{server.port}")
    follower = Follower()
    store.follow(follower)
    until(lambda: len(said()) == 1)
    assert "(ResponseError)" in said()[0]
    assert until(lambda: server.clients() == 0)
    assert follower.told == []
    store.close()


def test_a_user_with_a_password_is_told(server: Server) -> None:
    with server.client as client:
        client.execute_command("ACL", "SETUSER", "ann", "on", ">hunter2", "~*", "+@all")
    store = RedisStore(f"redis://ann:hunter2@127.0.0.1:{server.port}/3")
    follower = Follower()
    store.follow(follower)
    follower.wait("began")
    store.close()


def test_whoever_may_not_even_ping_is_lost(server: Server) -> None:
    with server.client as client:
        client.execute_command("ACL", "SETUSER", "ann", "on", ">hunter2", "~*", "+@all", "-ping")
    store = RedisStore(f"redis://ann:hunter2@127.0.0.1:{server.port}")
    follower = Follower()
    store.follow(follower)
    follower.wait("began", "lost")
    store.close()


def test_a_unix_socket_is_followed_too(server: Server) -> None:
    store, follower = RedisStore(f"unix://{server.socket}"), Follower()
    store.follow(follower)
    follower.wait("began")
    store.set("g:a", b"one", 60)
    follower.wait("began", "g:a")
    store.close()


def test_changes_are_told_over_tls_too(server: Server, tls: ssl.SSLContext, trusted: str) -> None:
    with Proxy(server.port, tls) as proxy:
        place = f"rediss://127.0.0.1:{proxy.port}"
        store, follower = RedisStore(f"{place}?ssl_ca_certs={trusted}"), Follower()
        store.follow(follower)
        follower.wait("began")
        with server.client as client:
            client.set(f"{PREFIX}g:a", b"one")
            follower.wait("began", "g:a")
            # It is a sign of life that keeps it from being lost.
            before = client.info("commandstats").get("cmdstat_ping", {}).get("calls", 0)
            until(lambda: client.info("commandstats")["cmdstat_ping"]["calls"] > before + 1)
            assert follower.told == ["began", "g:a"]
            proxy.breaks, proxy.resets = 5, True
            client.set(f"{PREFIX}g:a", b"")
        follower.wait("lost")
        proxy.calm()
        follower.wait("lost", "began")
        store.close()
        assert until(lambda: server.clients() == 0)


@worlds
def test_closing_ends_it_and_the_next_use_begins_anew(world: World, server: Server) -> None:
    store, follower = RedisStore(server.url, timeout=HANG), Follower()
    for _ in range(2):
        store.follow(follower)
        follower.wait("began")
        world.run(store.aclose() if world.is_async else store.close())
        assert follower.told[-1] == "lost"
        assert threads() == []
        assert until(lambda: server.clients() == 0)
        world.run(store.aclose() if world.is_async else store.close())


def test_closing_does_not_wait_for_a_server_that_is_silent(server: Server) -> None:
    server.pause()
    store, follower = RedisStore(server.url), Follower()
    store.follow(follower)
    started = time.monotonic()
    store.close()
    assert time.monotonic() - started < HANG / 6
    server.go_on()
    until(lambda: threads() == [])
    assert follower.told == []


def test_a_copy_of_a_process_leaves_all_to_its_parent(
    server: Server, store: RedisStore, follower: Follower
) -> None:
    store._tracking.forget()
    until(lambda: threads() == [])
    assert until(lambda: server.clients() == 0)
    store._tracking.forget()
    assert follower.told == ["began"]
    store.follow(follower)
    follower.wait("began", "began")


def test_closing_from_within(store: RedisStore) -> None:
    follower = Follower()
    follower.began = store.close  # type: ignore[method-assign]
    store.follow(follower)
    until(lambda: threads() == [])
    assert follower.told == ["lost"]


def test_what_is_said_too_late_is_told_to_nobody(store: RedisStore, follower: Follower) -> None:
    tracking = store._tracking
    watch = tracking._watch
    assert watch is not None
    store.close()
    told = list(follower.told)
    tracking._began(watch)
    tracking._pushed(watch, [b"invalidate", [b"llm_cache:g:a"]])
    tracking._lost(watch, OSError())
    assert follower.told == told


def test_what_is_said_of_other_things_is_left_alone(store: RedisStore, follower: Follower) -> None:
    watch = store._tracking._watch
    assert watch is not None
    store._tracking._pushed(watch, [b"message", b"channel", b"data"])
    assert follower.told == ["began"]


def test_no_thread_starts_while_the_interpreter_ends(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    follower = Follower()
    with monkeypatch.context() as ending:
        ending.setattr(threading.Thread, "start", start)
        store.follow(follower)
    store.follow(follower)
    follower.wait("began")


def test_a_fork_begins_anew(server: Server, store: RedisStore) -> None:
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this platform does not fork")
    tiered = TieredStore(Tier(MemoryStore(), BOUND), store)
    backend = TieredCacheBackend(MemoryStore(), store)
    backend.set("a", "one")
    tiered.get("g:a")
    until(lambda: tiered.copies[0].tracked)
    until(lambda: backend.get("a") and backend.store.copies[0].memory.usage("values").entries)

    def child() -> None:
        copies = backend.store.copies[0]
        assert not copies.tracked
        assert copies.memory.usage("values").entries == 0
        assert not store._tracking.is_open
        assert backend.get("a") == "one"
        until(lambda: copies.tracked)
        backend.set("a", "two")
        os._exit(0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
    process.join(HANG)
    assert process.exitcode == 0
    until(lambda: backend.get("a") == "two")
    assert tiered.copies[0].tracked


def test_the_interpreter_ends_at_once(server: Server) -> None:
    code = """
        import sys, threading
        import llmcache
        assert threading.active_count() == 1
        @llmcache.llm_cached(backend=["memory", sys.argv[1]], name="ask")
        def ask(text):
            return text
        assert threading.active_count() == 1
        for _ in range(3):
            ask("hi")
        while "llmcache-tracking" not in {thread.name for thread in threading.enumerate()}:
            pass
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), server.url],
        capture_output=True,
        timeout=HANG,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


@worlds
def test_functions_of_two_processes_agree(world: World, server: Server) -> None:
    """Two stores of one process stand for two processes."""
    answers = {"hi": "one"}

    def make() -> Any:
        store = TieredStore(MemoryStore(), RedisStore(server.url, timeout=HANG))
        stores.append(store)
        return world.cached(lambda text: answers[text], backend=store, name="ask")

    stores: list[TieredStore] = []
    ours, theirs = make(), make()

    async def main() -> None:
        async def call(result: Any) -> Any:
            return await result if world.is_async else result

        for function in (ours, theirs):
            await call(function("hi"))
        for store in stores:
            await asyncio.to_thread(until, lambda store=store: store.copies[0].tracked)
        for function in (ours, theirs):
            for _ in range(50):
                assert await call(function("hi")) == "one"
                await asyncio.sleep(0)
        answers["hi"] = "two"
        assert await call(ours.cache.invalidate("hi"))
        deadline = time.monotonic() + HANG
        while await call(theirs("hi")) != "two":
            assert time.monotonic() < deadline
        assert await call(ours("hi")) == "two"
        for store in stores:
            await store.aclose()

    asyncio.run(main())
    assert threads() == []
    assert until(lambda: server.clients() == 0)


def test_closing_the_process_closes_tiers(server: Server) -> None:
    @llm_cached(backend=["memory", server.url], name="ask")
    def ask(text: str) -> str:
        return text

    ask("hi")
    until(threads)
    llmcache.close()
    assert threads() == []
    assert until(lambda: server.clients() == 0)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"+OK\r\n", Said(b"+", b"OK")),
        (b"-ERR no\r\n", Said(b"-", b"ERR no")),
        (b":1\r\n", Said(b":", b"1")),
        (b"_\r\n", Said(b"_", None)),
        (b"$3\r\na\r\n\r\n", Said(b"$", b"a\r\n")),
        (b"%1\r\n+a\r\n*2\r\n:1\r\n_\r\n", Said(b"%", [b"a", [b"1", None]])),
        (b">2\r\n$10\r\ninvalidate\r\n_\r\n", Said(b">", [b"invalidate", None])),
        (b"*0\r\n", Said(b"*", [])),
        (b"=5\r\ntxt:a\r\n", Said(b"=", b"txt:a")),
    ],
)
def test_what_is_said_is_understood_when_it_is_whole(data: bytes, said: Said) -> None:
    assert parse(data) == (said, len(data))
    assert parse(data * 2, len(data)) == (said, 2 * len(data))
    for end in range(len(data)):
        with pytest.raises(Unfinished):
            parse(data[:end])


@pytest.mark.parametrize("data", [b"HTTP/1.1 400\r\n", b"\r\n", b"$x\r\n", b"*1\r\n?\r\n"])
def test_what_cannot_be_understood(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"RESP3|int"):
        parse(data)


def test_an_older_server_that_tells_nothing(said: Callable[[], list[str]]) -> None:
    """It knows no RESP3, as a proxy or Redis 5 does not."""
    with FakeServer(b"-ERR unknown command\r\n") as old:
        store, follower = RedisStore(old.url), Follower()
        store.follow(follower)
        until(lambda: len(said()) == 1)
        store.close()
    assert follower.told == []
    assert redis.ResponseError.__name__ in said()[0]


def test_debians_server_tells_of_changes() -> None:
    with running(Server(require("redis"))) as server:
        store, follower = RedisStore(server.url, timeout=HANG), Follower()
        store.follow(follower)
        follower.wait("began")
        store.set("g:a", b"one", 60)
        follower.wait("began", "g:a")
        store.close()


@pytest.mark.parametrize(
    "url", ["redis+cluster://localhost:1", "redis+sentinel://localhost:1/service"]
)
def test_several_servers_are_not_followed(url: str) -> None:
    store = RedisStore(url)
    before = threading.active_count()
    store.follow(Copies(MemoryStore(), 1.0))
    assert threading.active_count() == before
    store.close()
    asyncio.run(store.aclose())
