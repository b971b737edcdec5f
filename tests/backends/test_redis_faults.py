"""Whatever a Redis server does, the caller gets the function's own result, on time."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import pytest
import redis
from redis_chaos import SILENCE, FakeServer, Proxy, hog, jitter
from redis_servers import HANG, Server, require, running, until
from twins import World

from backends.redis_people import (
    BACK,
    LATE,
    QUICK,
    SLACK,
    STALL,
    Person,
    recover,
    suffer,
    warm,
)
from llmcache.backends.base import SlowTransfer
from llmcache.backends.redis import RedisStore

pytestmark = pytest.mark.usefixtures("said")


def test_a_server_that_falls_silent(
    server: Server, person: Callable[..., Person], said: Callable[[], list[str]]
) -> None:
    someone = person(server.url)
    warm(someone)
    server.pause()
    suffer(someone, LATE)
    server.go_on()
    recover(someone)
    until(lambda: len(said()) == 4)
    assert ["failed" in line for line in said()] == [True, True, False, False]


def test_a_server_that_is_silent_from_the_first(
    server: Server, person: Callable[..., Person]
) -> None:
    server.pause()
    someone = person(server.url)
    suffer(someone, LATE)
    server.go_on()
    recover(someone)


def test_a_server_that_is_killed_and_comes_back(
    server: Server, person: Callable[..., Person]
) -> None:
    someone = person(server.url)
    warm(someone)
    server.kill()
    suffer(someone, LATE)
    server.start()
    recover(someone)


def test_a_server_that_is_killed_under_load(server: Server) -> None:
    someone = Person(World("sync"), RedisStore(server.url))
    warm(someone)
    late: list[float] = []
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            late.append(someone.ask("known"))
            over.wait(0.002)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(late) > 500)
        server.kill()
        before = len(late)
        until(lambda: len(late) > before + 500)
        server.start()
        recover(someone)
    finally:
        over.set()
        for thread in threads:
            thread.join(HANG)
    assert statistics.quantiles(late, n=100)[-1] <= LATE
    someone.close()
    assert until(lambda: server.clients() == 0)


def test_a_server_that_is_killed_under_many_tasks(server: Server) -> None:
    someone = Person(World("async"), RedisStore(server.url))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for turn in range(30):
            if turn == 10:
                await loop.run_in_executor(None, server.kill)
            if turn == 20:
                await loop.run_in_executor(None, server.start)
            texts = [f"{turn % 3} {number}" for number in range(50)]
            results = await asyncio.gather(*(someone.call(text) for text in texts))
            assert [result["answer"] for result in results] == texts
        await someone.store.aclose()

    asyncio.run(main())
    someone.close()


def test_a_silent_server_does_not_stall_the_event_loop(server: Server) -> None:
    stalls: list[float] = []

    async def beat() -> None:
        while True:
            started = time.thread_time()
            await asyncio.sleep(0.001)
            stalls.append(time.thread_time() - started)

    async def main(someone: Person) -> None:
        await someone.call("known")
        server.pause()
        heart = asyncio.ensure_future(beat())
        started = time.perf_counter()
        await asyncio.gather(*(someone.call(str(number)) for number in range(100)))
        assert time.perf_counter() - started < LATE * SLACK
        heart.cancel()
        server.go_on()
        await someone.store.aclose()

    def stall() -> float:
        """Return the longest time that the event loop was busy."""
        stalls.clear()
        someone = Person(World("async"), RedisStore(server.url))
        asyncio.run(main(someone))
        someone.close()
        return max(stalls)

    assert any(stall() < STALL * SLACK for _ in range(5))


def test_a_thousand_tasks_at_once_do_not_make_a_server_fail(
    server: Server, said: Callable[[], list[str]]
) -> None:
    texts = [str(number) for number in range(1000)]

    async def main(someone: Person) -> None:
        for _ in range(2):
            results = await asyncio.gather(*(someone.call(text) for text in texts))
            assert [result["answer"] for result in results] == texts
        await someone.store.aclose()

    def goes_well() -> bool:
        """Say whether nothing was said to fail."""
        before = len(said())
        someone = Person(World("async"), RedisStore(server.url))
        asyncio.run(main(someone))
        someone.close()
        return len(said()) == before

    # The machine may have other things to do, and the server then is late indeed.
    assert any(goes_well() for _ in range(3))


def test_who_gives_up_because_of_others_does_not_make_a_server_fail(
    server: Server, said: Callable[[], list[str]]
) -> None:
    async def main(someone: Person) -> None:
        await someone.call("known")
        tasks = [asyncio.ensure_future(someone.call(str(number))) for number in range(300)]
        await asyncio.sleep(0)
        # Whatever they wait for, the server has not been asked yet.
        hog(0.03)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await someone.store.aclose()

    someone = Person(World("async"), RedisStore(server.url))
    asyncio.run(main(someone))
    someone.close()
    assert said() == []


def test_a_silent_server_is_left_alone_by_who_is_impatient(
    server: Server, said: Callable[[], list[str]]
) -> None:
    async def main(someone: Person) -> None:
        await someone.call("known")
        server.pause()
        for number in range(20):
            with suppress(TimeoutError):
                await asyncio.wait_for(someone.call(str(number)), LATE / 4)
        server.go_on()
        await someone.store.aclose()

    someone = Person(World("async"), RedisStore(server.url))
    asyncio.run(main(someone))
    someone.close()
    assert "reading from the RedisStore failed (TimeoutError)" in said()[0]


def test_a_plain_function_is_answered_in_time_where_an_event_loop_runs(server: Server) -> None:
    someone = Person(World("sync"), RedisStore(server.url))

    async def main() -> None:
        warm(someone)
        assert someone.hits("known")
        server.pause()
        suffer(someone, LATE)
        server.go_on()
        recover(someone)

    asyncio.run(main())
    someone.close()


def test_a_server_without_room(server: Server, person: Callable[..., Person]) -> None:
    someone = person(server.url)
    warm(someone)
    with server.client as client:
        client.config_set("maxmemory", 1)
        suffer(someone, QUICK * 2)
        assert someone.hits("known")
        client.config_set("maxmemory", 0)
        until(lambda: someone.hits("new"), BACK * SLACK)


def test_a_replica_that_may_not_be_written(server: Server, person: Callable[..., Person]) -> None:
    someone = person(server.url)
    warm(someone)
    with server.client as client:
        client.replicaof("127.0.0.1", "1")
        suffer(someone, QUICK * 2)
        assert someone.hits("known")
        client.config_set("replica-serve-stale-data", "no")
        suffer(someone, QUICK * 2)
        client.replicaof("no", "one")
    recover(someone)


def test_a_server_that_is_loading(person: Callable[..., Person]) -> None:
    server = Server(require("valkey"), "--enable-debug-command", "yes")
    try:
        server.start()
        with server.client as client:
            client.execute_command("DEBUG", "POPULATE", "3000")
            client.save()
        server.kill()
        slow = ("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
        server.start(*slow, wait=False)
        until(lambda: _is_loading(server))
        someone = person(server.url)
        suffer(someone, LATE)
        until(lambda: not _is_loading(server))
        recover(someone)
    finally:
        server.remove()


def _is_loading(server: Server) -> bool:
    with server.client as client:
        try:
            return not client.ping()
        except redis.BusyLoadingError:
            return True


def test_a_password_that_is_missing_or_wrong(
    server: Server, person: Callable[..., Person], said: Callable[[], list[str]]
) -> None:
    with server.client as client:
        client.config_set("requirepass", "hunter2")
    without = person(server.url)
    suffer(without, QUICK * 2)
    wrong = person(server.url.replace("//", "//:hunter3@"))
    suffer(wrong, QUICK * 2)
    right = person(server.url.replace("//", "//:hunter2@"))
    warm(right)
    assert sum("AuthenticationError" in line for line in said()) >= 2
    assert not any("hunter" in line for line in said())


def test_a_password_that_is_asked_for_later(server: Server, person: Callable[..., Person]) -> None:
    someone = person(server.url)
    warm(someone)
    with server.client as client:
        client.config_set("requirepass", "hunter2")
        client.client_kill_filter(_type="normal", skipme=True)
        suffer(someone, QUICK * 2)
        client.config_set("requirepass", "")
    recover(someone)


def test_a_user_who_may_not(server: Server, person: Callable[..., Person]) -> None:
    with server.client as client:
        client.acl_setuser("reader", enabled=True, passwords="+pw", keys="*", commands=["+get"])
    someone = person(server.url.replace("//", "//reader:pw@"))
    suffer(someone, QUICK * 2)
    assert someone.numbers.stored == 0


def test_a_server_with_too_many_clients(person: Callable[..., Person]) -> None:
    with running(Server(require("valkey"), "--maxclients", "8")) as server:
        with ExitStack() as stack:
            for _ in range(8):
                stack.enter_context(server.client).ping()
            someone = person(server.url)
            suffer(someone, QUICK * 2)
        recover(someone)


@pytest.mark.parametrize("delay", [0.01, 0.3, 1.0])
def test_replies_that_are_late(server: Server, person: Callable[..., Person], delay: float) -> None:
    with Proxy(server.port) as proxy:
        someone = person(proxy.url)
        warm(someone)
        proxy.delay = lambda: delay
        if delay < 0.1:
            assert someone.hits("known")
        else:
            suffer(someone, LATE)
        proxy.calm()
        recover(someone)


def test_replies_that_come_byte_by_byte(server: Server, person: Callable[..., Person]) -> None:
    with Proxy(server.port) as proxy:
        someone = person(proxy.url)
        warm(someone)
        proxy.chop = 1
        assert someone.hits("known")
        proxy.delay = lambda: 0.01
        suffer(someone, LATE)


@pytest.mark.parametrize("resets", [True, False], ids=["RST", "FIN"])
@pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
def test_a_reply_that_breaks_off_is_no_reply(server: Server, resets: bool, awaited: bool) -> None:
    data = b"0123456789" * 4
    with Proxy(server.port) as proxy, asyncio.Runner() as runner:
        store = RedisStore(proxy.url, timeout=HANG)

        def get() -> bytes | None:
            return runner.run(store.aget("g:a")) if awaited else store.get("g:a")

        store.set("g:a", data, 60)
        for breaks in range(len(b"$40\r\n\r\n" + data)):
            proxy.calm()
            assert get() == data
            proxy.breaks, proxy.resets = breaks, resets
            with pytest.raises((redis.RedisError, OSError)):
                get()
        proxy.calm()
        assert get() == data
        runner.run(store.aclose())


GARBAGE = {
    "a number": b":1\r\n",
    "a status": b"+OK\r\n",
    "an error": b"-ERR no\r\n",
    "an error of nothing": b"-\r\n",
    "a list": b"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
    "a map": b"%1\r\n+a\r\n:1\r\n",
    "a push": b">1\r\n+a\r\n",
    "no type": b"hello\r\n",
    "an empty line": b"\r\n",
    "no size": b"$abc\r\nabc\r\n",
    "a negative size": b"$-7\r\nabc\r\n",
    "a huge size": b"$99999999999\r\nabc\r\n",
    "a huge list": b"*99999999999\r\n:1\r\n",
    "a deep list": b"*1\r\n" * 5000,
    "half a text": b"$100\r\nabc",
    "binary": bytes(range(256)),
    "two replies": b"$-1\r\n$5\r\nother\r\n",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "nothing": SILENCE,
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage(person: Callable[..., Person], garbage: bytes) -> None:
    with FakeServer(garbage) as fake:
        someone = person(fake.url)
        suffer(someone, LATE, QUICK)
        assert someone.numbers.hits == 0


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
def test_after_garbage_a_connection_is_not_used_again(garbage: bytes, awaited: bool) -> None:
    with FakeServer(garbage) as fake, asyncio.Runner() as runner:
        store = RedisStore(fake.url, timeout=0.5)
        for _ in range(3):
            with suppress(redis.RedisError, OSError, ValueError, RecursionError):
                found = runner.run(store.aget("g:a")) if awaited else store.get("g:a")
                assert found is None or found in garbage
        if garbage not in (
            GARBAGE["a status"],
            GARBAGE["an error"],
            GARBAGE["an error of nothing"],
        ):
            assert fake.connections >= 3
        runner.run(store.aclose())


def test_a_large_value_on_a_slow_line_opens_no_breaker(
    server: Server, person: Callable[..., Person]
) -> None:
    large = "x" * (4 << 20)
    with Proxy(server.port) as proxy:
        patient = person(server.url, timeout=HANG)
        patient.ask(large)
        assert patient.hits(large)
        someone = person(proxy.url)
        warm(someone)
        proxy.delay = lambda: 0.01
        for _ in range(4):
            assert someone.ask(large) <= 2 * LATE
        assert someone.hits("known")


def test_a_large_value_that_is_late_says_so(server: Server) -> None:
    with Proxy(server.port) as proxy, asyncio.Runner() as runner:
        store = RedisStore(proxy.url, timeout=HANG)
        store.set("g:a", bytes(4 << 20), 60)
        assert runner.run(store.aget("g:a")) == store.get("g:a")
        proxy.delay = lambda: 0.01
        with pytest.raises(SlowTransfer):
            store.get("g:a", 0.2)
        with pytest.raises(SlowTransfer):
            runner.run(store.aget("g:a", 0.2))
        server.pause()
        with pytest.raises(TimeoutError) as refusal:
            store.set("g:a", bytes(16 << 20), 60, 0.2)
        assert not isinstance(refusal.value, SlowTransfer)
        server.go_on()
        runner.run(store.aclose())


def test_a_large_request_that_is_late_says_so(server: Server) -> None:
    with Proxy(server.port) as proxy, asyncio.Runner() as runner:
        store = RedisStore(proxy.url, timeout=HANG)
        assert store.set("g:a", b"", 60)
        assert runner.run(store.aset("g:a", b"", 60))
        # The buffers of this machine take some megabytes at a time.
        proxy.hold = lambda: 0.002
        with pytest.raises(SlowTransfer):
            store.set("g:a", bytes(64 << 20), 60, 1.0)
        with pytest.raises(SlowTransfer):
            runner.run(store.aset("g:a", bytes(64 << 20), 60, 1.0))
        runner.run(store.aclose())


def test_a_server_that_hangs_up_on_a_large_request() -> None:
    with FakeServer(SILENCE) as fake, asyncio.Runner() as runner:
        store = RedisStore(fake.url, timeout=HANG)
        with pytest.raises(redis.ConnectionError):
            store.set("g:a", bytes(16 << 20), 60)
        with pytest.raises(redis.ConnectionError):
            runner.run(store.aset("g:a", bytes(16 << 20), 60))
        runner.run(store.aclose())


def test_another_server_at_the_same_place_has_other_answers(
    server: Server, person: Callable[..., Person]
) -> None:
    someone = person(server.url)
    warm(someone)
    server.kill()
    server.start()
    until(lambda: not someone.hits("known"))
    recover(someone)


def test_entries_that_vanish_at_any_time(server: Server, person: Callable[..., Person]) -> None:
    someone = person(server.url)
    over = threading.Event()

    def work() -> None:
        with server.client as client:
            while not over.is_set():
                client.flushall()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for turn in range(300):
            someone.ask(str(turn % 3))
    finally:
        over.set()
        thread.join(HANG)


def test_replies_to_another_question_are_misses(
    server: Server, person: Callable[..., Person]
) -> None:
    with Proxy(server.port) as proxy:
        someone = person(proxy.url)
        texts = ["a", "b"]
        for text in texts:
            someone.ask(text)
        until(lambda: all(someone.hits(text) for text in texts))
        with server.client as client:
            one, other = (
                client.keys("*ask*") if client.keys("*ask*") else client.keys("llm_cache:*")
            )
        proxy.rewrite = lambda request: (
            request.replace(one, b"\0").replace(other, one).replace(b"\0", other)
        )
        for turn in range(20):
            before = someone.calls
            someone.ask(texts[turn % 2])
            assert someone.calls == before + 1 or someone.numbers.corrupt
        assert someone.numbers.corrupt >= 1


def test_replies_in_any_order_and_any_piece(server: Server) -> None:
    chance = jitter(0.002, seed=9)
    with Proxy(server.port) as proxy:
        someone = Person(World("async"), RedisStore(proxy.url))

        async def main() -> None:
            proxy.delay, proxy.chop = chance, 7
            for _ in range(5):
                texts = [str(number) for number in range(20)]
                results = await asyncio.gather(*(someone.call(text) for text in texts))
                assert [result["answer"] for result in results] == texts
            await someone.store.aclose()

        asyncio.run(main())
        someone.close()
