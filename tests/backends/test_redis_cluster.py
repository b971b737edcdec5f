"""The Redis store in a cluster: who has which keys, and what happens when that changes."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import redis
from redis_chaos import InThread, Proxy
from redis_groups import SLOTS, ClusterServers, is_primary
from redis_servers import HANG, Server, free_port, running, until
from twins import World, worlds

import llmcache
from llmcache import RedisCacheBackend, StoreUnavailable
from llmcache.backends.base import Count, PartUnavailable
from llmcache.backends.redis import RedisStore
from llmcache.backends.redis_address import parse_nodes
from llmcache.backends.redis_cluster import Cluster
from llmcache.backends.redis_slots import Range, find_slots, parse_slots, slot_of
from llmcache.guard import Visit, visits

from .asker import Asker
from .redis_load import Load

LATE = 0.2
"""Seconds that a node may cost one call: the deadline, and what a busy machine adds."""

BACK = 4.0
"""Seconds until a cluster that is well again is used again, on a busy machine."""

KEYS = [f"g:{number}" for number in range(32)]


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def asks(request: pytest.FixtureRequest) -> Iterator[Callable[..., Asker]]:
    """Make those who ask stores, and are gone after the test."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner()) if request.param else None

        def make(url: str, **options: Any) -> Asker:
            asker = Asker(RedisStore(url, **{"timeout": HANG, **options}), runner)
            stack.callback(asker.store.close)
            stack.callback(asker.close)
            return asker

        yield make


@pytest.fixture
def servers(shared_cluster: ClusterServers) -> ClusterServers:
    for node in shared_cluster.nodes:
        node.say("FLUSHALL")
    return shared_cluster


def cluster_of(store: RedisStore) -> Cluster:
    cluster = store._servers
    assert isinstance(cluster, Cluster)
    return cluster


def ask_of(asker: Asker, *command: str | bytes) -> Any:
    """Return what the cluster says to *command*."""
    cluster = cluster_of(asker.store)
    if asker.runner is not None:
        return asker.runner.run(cluster.aask(command, lambda _: True, HANG))
    return cluster.ask(command, lambda _: True, time.monotonic() + HANG)


def test_each_key_is_at_the_node_that_has_its_slot(
    servers: ClusterServers, asks: Callable[..., Asker]
) -> None:
    asker = asks(servers.url)
    for key in KEYS:
        assert asker.set(key, key.encode(), 60)
    for number, node in enumerate(servers.primaries):
        own = {f"llm_cache:{key}".encode() for key in KEYS if _owner(servers, key) == number}
        assert own
        assert set(node.say("KEYS", "*")) == own
    assert [asker.get(key) for key in KEYS] == [key.encode() for key in KEYS]
    assert all(asker.delete(key) for key in KEYS)
    assert not any(asker.get(key) for key in KEYS)


def _owner(servers: ClusterServers, key: str) -> int:
    slot = slot_of(f"llm_cache:{key}")
    return next(n for n in range(len(servers.primaries)) if slot in servers.slots(n))


def test_entries_are_cleared_and_counted_at_all_nodes(
    servers: ClusterServers, asks: Callable[..., Asker]
) -> None:
    asker = asks(servers.url)
    for number in range(300):
        asker.set(f"g:{number}", b"data", 60)
        asker.set(f"gg:{number}", b"data", 60)
    assert asker.store.count("g") == Count(300, is_estimate=False)
    asker.clear("g")
    assert asker.store.count("g") == Count(0, is_estimate=False)
    assert asker.store.count("gg") == Count(300, is_estimate=False)
    asker.clear("gg")
    assert sum(node.say("DBSIZE") for node in servers.nodes) == 0


def test_a_count_is_an_estimate_if_a_node_is_silent(cluster: ClusterServers) -> None:
    store = RedisStore(cluster.url, timeout=HANG)
    for number in range(900):
        store.set(f"g:{number}", b"data", 60)
    assert store.count("g") == Count(900, is_estimate=False)
    cluster.primaries[1].pause()
    entries, is_estimate = until(lambda: store.count("g", 0.3))
    assert is_estimate
    assert 700 < entries < 1100
    for node in cluster.nodes:
        node.pause()
    with pytest.raises(TimeoutError):
        store.count("g", 0.1)
    for node in cluster.nodes:
        node.go_on()
    store.close()


def test_by_name(servers: ClusterServers) -> None:
    cache = RedisCacheBackend(servers.url, "p:", 60, timeout=HANG)
    for number in range(20):
        assert cache.set(str(number), {"number": number})
    assert cache.get("7") == {"number": 7}
    stats = cache.get_stats()
    assert (stats["backend"], stats["size"], stats["size_is_estimate"]) == ("redis", 20, False)
    cache.clear()
    assert cache.get_stats()["size"] == 0
    cache.close()


def test_nothing_is_open_before_the_first_use_and_after_close(cluster: ClusterServers) -> None:
    before = cluster.clients()
    store = RedisStore(cluster.url, timeout=HANG)
    assert cluster.clients() == before

    async def main() -> None:
        for key in KEYS:
            await store.aget(key)
            store.get(key)
        assert cluster.clients() == before + 6
        await store.aclose()
        assert until(lambda: cluster.clients() == before)
        await store.aget("g:a")
        store.close()
        await asyncio.sleep(0.01)
        assert until(lambda: cluster.clients() == before)

    asyncio.run(main())
    store.get("g:a")
    store.close()
    assert until(lambda: cluster.clients() == before)
    forgotten = RedisStore(cluster.url, timeout=HANG)
    forgotten.get("g:a")
    assert cluster.clients() == before + 1
    del forgotten
    gc.collect()
    assert until(lambda: cluster.clients() == before)


def test_a_fork_opens_its_own_connections(servers: ClusterServers) -> None:
    store = RedisStore(servers.url, timeout=HANG)
    for key in KEYS:
        store.set(key, key.encode(), 60)

    async def main() -> None:
        await store.aget("g:1")
        child = os.fork()
        if child == 0:  # pragma: no cover - where nobody measures
            os._exit(0 if [store.get(key) for key in KEYS] == [k.encode() for k in KEYS] else 1)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert status == 0
        assert await store.aget("g:1") == b"g:1"

    asyncio.run(main())
    assert [store.get(key) for key in KEYS] == [key.encode() for key in KEYS]
    nodes = cluster_of(store)
    before = nodes.all(time.monotonic() + HANG)
    links = [node._links for node in before]
    store.forget()
    assert not nodes._nodes
    assert store.get("g:1") == b"g:1"
    for link in links:
        link.close()
    store.close()


@worlds
def test_a_primary_that_is_killed_in_mid_load(world: World, cluster: ClusterServers) -> None:
    with Load(world, RedisStore(cluster.url)) as load:
        load.hit()
        cluster.nodes[0].kill()
        until(lambda: is_primary(cluster.nodes[-1]) and cluster.is_ready())
        load.hit(BACK)
        cluster.nodes[0].start()
        load.hit(BACK)
    assert load.late(than=LATE) < 0.01


@pytest.mark.slow
@worlds
def test_a_primary_that_falls_silent_in_mid_load(world: World, cluster: ClusterServers) -> None:
    with Load(world, RedisStore(cluster.url)) as load:
        load.hit()
        cluster.nodes[0].pause()
        until(lambda: is_primary(cluster.nodes[-1]))
        load.hit(BACK)
        cluster.nodes[0].go_on()
        load.hit(BACK)
    assert load.late(than=LATE) < 0.01


@pytest.mark.slow
@worlds
def test_a_primary_without_a_replica_that_is_killed_and_comes_back(
    world: World, cluster: ClusterServers
) -> None:
    gone = cluster.primaries[1]
    with Load(world, RedisStore(cluster.url)) as load:
        load.hit()
        gone.kill()
        until(lambda: b"cluster_state:fail" in cluster.nodes[0].say("CLUSTER", "INFO"))
        gone.start()
        until(cluster.is_ready)
        load.hit(BACK)
    assert load.late(than=LATE) < 0.01


def test_the_others_go_on_while_one_fails(
    cluster: ClusterServers, caplog: pytest.LogCaptureFixture
) -> None:
    for node in cluster.nodes:
        # Nobody takes anybody to be dead.
        node.say("CONFIG", "SET", "cluster-node-timeout", 60_000)
    store = RedisStore(cluster.url)
    calls: list[str] = []
    ask = World("sync").cached(lambda text: calls.append(text) or text, backend=store)
    texts = [str(number) for number in range(40)]

    def known() -> set[str]:
        calls.clear()
        assert [ask(text) for text in texts] == texts
        return set(texts) - set(calls)

    until(lambda: len(known()) == len(texts))
    cluster.primaries[1].pause()
    others = known()
    assert others
    assert others < set(texts)
    for _ in range(20):
        started = time.monotonic()
        assert known() >= others
        assert time.monotonic() - started < 1
    cluster.primaries[1].go_on()
    until(lambda: len(known()) == len(texts), BACK)
    lines = [line for line in caplog.messages if "node" in line]
    assert [f":{cluster.primaries[1].port} of" in line for line in lines] == [True, True]
    assert len(caplog.messages) <= 6
    store.close()


@pytest.fixture
def keys_of_one_slot() -> list[str]:
    return [f"g:{{a}}{number}" for number in range(40)]


@worlds
def test_a_slot_that_moves_in_mid_load_is_never_missed(
    world: World, servers: ClusterServers
) -> None:
    store = RedisStore(servers.url, timeout=HANG, prefix="{one}:")
    slot = slot_of("{one}")
    here, there, _ = sorted(
        servers.primaries, key=lambda node: slot not in servers.slots(servers.primaries.index(node))
    )
    with Load(world, store) as load:
        load.hit()
        before = load.calls

        def rest() -> None:
            seen = len(load.seconds)
            until(lambda: len(load.seconds) > seen + 8)

        servers.move(slot, here, there, rest)
        load.hit()
        servers.move(slot, there, here, rest)
        load.hit()
        assert load.calls == before


def test_a_slot_that_is_half_moved(
    servers: ClusterServers, asks: Callable[..., Asker], keys_of_one_slot: list[str]
) -> None:
    slot = slot_of("{a}")
    number = next(n for n in range(3) if slot in servers.slots(n))
    here, there = servers.primaries[number], servers.primaries[number - 1]
    asker = asks(servers.url)
    for key in keys_of_one_slot:
        asker.set(key, key.encode(), 60)
    steps = 0

    def look() -> None:
        nonlocal steps
        steps += 1
        if steps == 20:
            assert here.say("CLUSTER", "COUNTKEYSINSLOT", slot) > 10
            assert there.say("CLUSTER", "COUNTKEYSINSLOT", slot) > 10
            for key in keys_of_one_slot[::3]:
                assert asker.get(key) == key.encode()
                assert asker.delete(key)
                assert asker.get(key) is None
                assert asker.set(key, b"new", 60)
                assert asker.get(key) == b"new"
            names = [f"llm_cache:{key}".encode() for key in keys_of_one_slot]
            assert ask_of(asker, "UNLINK", *names[:20], names[-1]) == 21
            asker.clear("g")
            assert not any(asker.get(key) for key in keys_of_one_slot)
            for key in keys_of_one_slot[::2]:
                asker.set(key, b"again", 60)

    servers.move(slot, here, there, look)
    expected = [b"again" if n % 2 == 0 else None for n in range(len(keys_of_one_slot))]
    assert [asker.get(key) for key in keys_of_one_slot] == expected
    servers.move(slot, there, here, lambda: None)
    assert [asker.get(key) for key in keys_of_one_slot] == expected


def test_a_password_and_a_user() -> None:
    with running(ClusterServers(primaries=1)) as servers:
        node = servers.nodes[0]
        node.say("ACL", "SETUSER", "ours", "on", ">pw", "~*", "+@all")
        node.say("ACL", "SETUSER", "default", "resetpass", ">hunter2", "on")
        for who, right in (
            ("ours:pw@", True),
            (":hunter2@", True),
            ("", False),
            (":hunter3@", False),
        ):
            store = RedisStore(servers.url.replace("//", f"//{who}"), timeout=HANG)
            for call in (lambda: store.get("g:a"), lambda: asyncio.run(store.aget("g:a"))):
                if right:
                    assert call() is None
                else:
                    with pytest.raises(StoreUnavailable, match="AuthenticationError") as refusal:
                        call()
                    assert "hunter" not in str(refusal.value)
            store.close()


def test_tls(tls: ssl.SSLContext, trusted: str) -> None:
    with (
        running(ClusterServers(primaries=1)) as servers,
        Proxy(servers.nodes[0].port, tls) as proxy,
    ):
        servers.nodes[0].say("CONFIG", "SET", "cluster-announce-port", proxy.port)
        url = f"rediss+cluster://127.0.0.1:{proxy.port}"
        store = RedisStore(f"{url}?ssl_ca_certs={trusted}", timeout=HANG)
        assert store.set("g:a", b"data", 60)
        assert store.get("g:a") == b"data"
        assert asyncio.run(store.aget("g:a")) == b"data"
        assert proxy.connections == 3
        store.close()
        stranger = RedisStore(url, timeout=HANG)
        with pytest.raises(StoreUnavailable, match="no node of the cluster tells"):
            stranger.get("g:a")
        assert until(lambda: servers.clients() == 0)


def test_a_server_that_is_no_cluster(server: Server, asks: Callable[..., Asker]) -> None:
    asker = asks(f"redis+cluster://127.0.0.1:{server.port}")
    with pytest.raises(StoreUnavailable, match=r"tells who has which keys \(ResponseError\)"):
        asker.get("g:a")
    with pytest.raises(StoreUnavailable):
        asker.clear("g")


def test_nodes_that_are_found_while_callers_pass_through(asks: Callable[..., Asker]) -> None:
    with Proxy(free_port()) as nowhere:
        port = nowhere.port
    with Scripted(lambda _: None) as silent:
        url = f"redis+cluster://127.0.0.1:{silent.port},127.0.0.1:{port}"
        asker = asks(url, timeout=0.05, connect_timeout=0.5)
        for within in (-1, 0):
            with pytest.raises(TimeoutError):
                asker.get("g:a", within)
        started = time.monotonic()
        with pytest.raises(TimeoutError, match="not known in time"):
            asker.get("g:a")
        assert time.monotonic() - started < 1
        until(lambda: not cluster_of(asker.store)._looking)


class Scripted(InThread):
    """A server that says what a function of what it was asked returns.

    Attributes:
        asked: the first word of each command.
    """

    def __init__(self, answer: Callable[[list[bytes]], bytes | None]) -> None:
        self._answer = answer
        self.asked: list[bytes] = []

    @property
    def slots(self) -> bytes:
        """What a node that has all slots says."""
        return f"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$-1\r\n:{self.port}\r\n".encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            command = []
            for _ in range(int(head[1:])):
                size = int((await reader.readline())[1:])
                command.append((await reader.readexactly(size + 2))[:-2])
            if command[0] == b"CLIENT":
                writer.write(b"+OK\r\n")
                continue
            self.asked.append(command[0])
            reply = self._answer(command)
            if reply is not None:
                writer.write(reply)


class OneNode(Scripted):
    """Says that it has all slots, and to all else what it is told to."""

    def __init__(self, reply: Callable[[list[bytes]], bytes | None]) -> None:
        super().__init__(lambda command: self.slots if command[0] == b"CLUSTER" else reply(command))

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.port}"


def test_nodes_that_send_each_other_on_for_ever(asks: Callable[..., Asker]) -> None:
    with OneNode(lambda _: f"-MOVED 1 :{node.port}\r\n".encode()) as node:
        asker = asks(node.url)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="do not agree"):
                asker.get("g:a")
        assert node.asked.count(b"GET") == 6


def test_a_node_asks_to_be_asked_at_another(asks: Callable[..., Asker]) -> None:
    with (
        Scripted(lambda c: b"+OK\r\n" if c[0] == b"ASKING" else b"$4\r\ndata\r\n") as other,
        OneNode(lambda _: f"-ASK 1 127.0.0.1:{other.port}\r\n".encode()) as node,
    ):
        asker = asks(node.url)
        for _ in range(2):
            assert asker.get("g:a") == b"data"
        assert node.asked.count(b"GET") == 2
        assert other.asked == [b"ASKING", b"GET"] * 2


@pytest.mark.parametrize("reply", [b"-TRYAGAIN later\r\n", b"-OOM\r\n"])
def test_what_a_node_says_of_a_key_is_its_answer(asks: Callable[..., Asker], reply: bytes) -> None:
    with OneNode(lambda _: reply) as node:
        asker = asks(node.url)
        for _ in range(5):
            with pytest.raises((redis.ResponseError, StoreUnavailable)) as refusal:
                asker.get("g:a")
            assert not isinstance(refusal.value, PartUnavailable)


def test_a_node_that_takes_its_cluster_to_be_down_says_so_alone(
    asks: Callable[..., Asker], caplog: pytest.LogCaptureFixture
) -> None:
    reply = b"-CLUSTERDOWN down\r\n"
    with OneNode(lambda _: reply) as node:
        asker = asks(node.url)
        for _ in range(5):
            with pytest.raises(PartUnavailable, match="says that the cluster is down"):
                asker.get("g:a")
        reply = b"$4\r\ndata\r\n"
        for _ in range(5):
            assert asker.get("g:a") == b"data"
    name = f"the node 127.0.0.1:{node.port} of a Redis cluster"
    assert caplog.messages == [
        f"{name} says that all is down: calls go through until it is back",
        f"{name} is back",
    ]


def test_a_node_that_fails_is_left_alone_until_it_is_back(asks: Callable[..., Asker]) -> None:
    silent = False

    def answer(command: list[bytes]) -> bytes | None:
        if silent:
            return None
        return b"+PONG\r\n" if command[0] == b"PING" else b"$4\r\ndata\r\n"

    with OneNode(answer) as node:
        asker = asks(node.url, timeout=0.2)
        assert until(lambda: asker.get("g:a") == b"data")
        silent = True
        with pytest.raises(PartUnavailable, match=r"failed \(TimeoutError\)"):
            asker.get("g:a")
        asked = node.asked.count(b"GET")
        for _ in range(20):
            with pytest.raises(PartUnavailable, match="is not asked"):
                asker.get("g:a")
        assert node.asked.count(b"GET") == asked
        with pytest.raises(PartUnavailable, match=r"failed \(TimeoutError\)"):
            asker.delete("g:a")
        silent = False
        assert until(lambda: asker.get("g:a") == b"data")


def test_slots_that_nobody_has(asks: Callable[..., Asker]) -> None:
    few = b"*1\r\n*3\r\n:0\r\n:0\r\n*2\r\n$9\r\n127.0.0.1\r\n:1\r\n"
    with Scripted(lambda _: few) as node:
        asker = asks(f"redis+cluster://127.0.0.1:{node.port}")
        with pytest.raises(PartUnavailable, match="no node"):
            asker.get("g:a")
        with pytest.raises(StoreUnavailable, match="some slots"):
            asker.clear("g")


def test_nodes_that_are_gone_are_closed_and_new_ones_are_asked() -> None:
    reply = b"$-1\r\n"
    with OneNode(lambda _: reply) as one, OneNode(lambda _: reply) as other:
        cluster = Cluster(parse_nodes(f"{one.url}"), HANG, HANG, 4)
        assert cluster.ask(("GET", "a"), lambda _: True, time.monotonic() + HANG) is None
        (node,) = cluster.all(time.monotonic() + HANG)
        cluster._install([Range(0, SLOTS - 1, ("127.0.0.1", other.port))])
        assert node._links._ready.empty()
        assert cluster.ask(("GET", "a"), lambda _: True, time.monotonic() + HANG) is None
        assert other.asked == [b"GET"]
        cluster.close()


def test_who_may_know_the_nodes() -> None:
    seeds = parse_nodes("redis+cluster://one")
    cluster = Cluster(seeds, 1.0, 1.0, 1)
    assert cluster._whom() == list(seeds)
    places = [("127.0.0.1", port) for port in range(1, 6)]
    cluster._install([Range(slot, slot, place) for slot, place in enumerate(places)])
    for node in cluster._nodes.values():
        node.breaker.is_open = node.address.place["port"] <= 2
    ports = [address.place["port"] for address in cluster._whom()]
    assert ports[2] == 6379
    assert {*ports[:2], *ports[3:4]} == {3, 4, 5}
    assert set(ports[4:]) == {1, 2}


def test_a_key_moves_while_the_cluster_is_closed() -> None:
    with OneNode(lambda _: None) as node:
        cluster = Cluster(parse_nodes(node.url), HANG, HANG, 1)
        here = cluster._node(("127.0.0.1", node.port))
        there = cluster._next(here, ("GET", "a"), redis.exceptions.MovedError("1 two:1"), 0.0)
        assert there.node is cluster._node(("two", 1))
        until(lambda: cluster._slots is not None and not cluster._looking)


def test_a_look_around_is_done_by_one_at_a_time() -> None:
    with OneNode(lambda _: None) as node:
        cluster = Cluster(parse_nodes(node.url), 1.0, HANG, 1)
        cluster._looking = True
        cluster._look_around()
        assert node.asked == []
        cluster._look()
        assert cluster._slots is None
        cluster._looking = False
        outcomes: list[Any] = []
        cluster._waiting.append(outcomes.append)
        cluster._look_around()
        assert outcomes == [cluster._slots]
        assert node.asked == [b"CLUSTER"]
        # It has just been done.
        cluster._look()
        assert node.asked == [b"CLUSTER"]
    cluster._waiting.append(outcomes.append)
    cluster._look_around()
    assert isinstance(outcomes[-1], StoreUnavailable)
    cluster.close()


def test_a_loop_that_is_gone_is_told_nothing() -> None:
    async def main(store: RedisStore) -> None:
        with pytest.raises(TimeoutError):
            await store.aget("g:a")

    with Scripted(lambda _: None) as silent:
        store = RedisStore(f"redis+cluster://127.0.0.1:{silent.port}", timeout=0.05)
        asyncio.run(main(store))
        cluster = cluster_of(store)
        assert len(cluster._waiting) == 1
        cluster._waiting.popleft()(OSError())


def test_what_is_said_of_slots() -> None:
    node = [b"two", 2, b"id", []]
    reply = [[0, 5, [None, 1, b"id"]], [6, 7, [b"", 1]], [8, SLOTS - 1, node, [b"replica", 3]]]
    assert parse_slots(reply, "one") == [
        (0, 5, ("one", 1)),
        (6, 7, ("one", 1)),
        (8, SLOTS - 1, ("two", 2)),
    ]
    nonsense = (None, [], b"", [1], [[1]], [[0, 1, [1, b"a"]]], [[5, 4, node]], [[0, SLOTS, node]])
    for reply in nonsense:
        with pytest.raises(ValueError, match="slots"):
            parse_slots(reply, "one")


def test_slots_are_asked_for_until_somebody_knows(servers: ClusterServers) -> None:
    nowhere = parse_nodes(f"redis+cluster://127.0.0.1:{free_port()}")
    assert len(find_slots([*nowhere, *parse_nodes(servers.url)], HANG)) == 3
    with pytest.raises(StoreUnavailable, match="ConnectionError"):
        find_slots(nowhere, HANG)
    with pytest.raises(StoreUnavailable, match="TimeoutError"):
        find_slots(parse_nodes(servers.url), 0.0)


def test_who_is_impatient_with_one_node_leaves_no_other_alone(
    cluster: ClusterServers, caplog: pytest.LogCaptureFixture
) -> None:
    there, elsewhere = (
        next(key for key in KEYS if slot_of(f"llm_cache:{key}") in cluster.slots(number))
        for number in (1, 2)
    )
    store = RedisStore(cluster.url)
    visit = visits(store, time.monotonic)

    async def main() -> None:
        await asyncio.to_thread(until, lambda: store.set(elsewhere, b"data", HANG))
        for key in (there, elsewhere):
            while isinstance(await _found(visit, key), type):
                pass
        cluster.primaries[1].pause()
        for _ in range(20):
            with suppress(TimeoutError, PartUnavailable):
                await asyncio.wait_for(visit().aget_now(there), 0.03)
        with pytest.raises(PartUnavailable, match="is not asked"):
            await visit().aget_now(there)
        assert await visit().aget_now(elsewhere) == b"data"
        cluster.primaries[1].go_on()
        await store.aclose()

    asyncio.run(main())
    assert not any("RedisStore" in message for message in caplog.messages)
    assert "of a Redis cluster failed (TimeoutError)" in caplog.text


async def _found(visit: Callable[..., Visit], key: str) -> Any:
    try:
        return await visit().aget_now(key)
    except TimeoutError as error:
        return type(error)


def test_a_thousand_tasks_at_once_do_not_make_a_cluster_fail(
    servers: ClusterServers, caplog: pytest.LogCaptureFixture
) -> None:
    @llmcache.llm_cached(backend=(store := RedisStore(servers.url)), name="ask")
    async def ask(text: str) -> str:
        return text

    async def main() -> None:
        for _ in range(2):
            await asyncio.gather(*(ask(str(number)) for number in range(1000)))
        await store.aclose()

    def goes_well() -> bool:
        caplog.clear()
        asyncio.run(main())
        return not caplog.messages

    # The machine may have other things to do, and the nodes then are late indeed.
    assert any(goes_well() for _ in range(3))
