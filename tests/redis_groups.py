"""Real servers that act as one: clusters, and primaries that sentinels watch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis_servers import Server, free_port, require, until

SERVICE = "answers"

PATIENCE = 500
"""Milliseconds after which the others take a server to be dead."""

_AT_ONCE = ("--repl-diskless-sync-delay", "0")


def is_primary(server: Server) -> bool:
    return bool(server.say("ROLE")[0] == b"master")


def is_in_step(replica: Server) -> bool:
    said = replica.say("ROLE")
    return bool(said[0] == b"slave" and said[3] == b"connected")


class ClusterNode(Server):
    """One server of a cluster."""

    def __init__(self, *options: str) -> None:
        self.bus = free_port()
        super().__init__(
            require("valkey"),
            *("--cluster-enabled", "yes", "--cluster-port", str(self.bus)),
            *("--cluster-node-timeout", str(PATIENCE), "--cluster-replica-validity-factor", "0"),
            *("--cluster-allow-replica-migration", "no", *_AT_ONCE, *options),
        )

    @property
    def name(self) -> str:
        name: str = self.say("CLUSTER", "MYID").decode()
        return name


class ClusterServers:
    """Primaries that share the slots equally, and a replica of the first of them.

    Args:
        options: of all servers, as on the command line.
        replica: whether there is one.
        primaries: how many there are.

    Attributes:
        primaries: those that were, at first.
        nodes: the primaries, and the replica.
    """

    def __init__(self, *options: str, replica: bool = False, primaries: int = 3) -> None:
        self.primaries = [ClusterNode(*options) for _ in range(primaries)]
        self.nodes = [*self.primaries, *(ClusterNode(*options) for _ in range(replica))]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{n.port}" for n in self.nodes[:2])

    def start(self) -> ClusterServers:
        first, *others = self.nodes
        for node in self.nodes:
            node.start()
        for number, node in enumerate(self.primaries):
            slots = self.slots(number)
            node.say("CLUSTER", "ADDSLOTSRANGE", slots[0], slots[-1])
            node.say("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in others:
            node.say("CLUSTER", "MEET", "127.0.0.1", first.port, first.bus)
        for node in self.nodes:
            until(lambda node=node: self._knows_all(node))  # type: ignore[misc]
        for node in self.nodes[len(self.primaries) :]:
            node.say("CLUSTER", "REPLICATE", first.name)
            until(lambda node=node: is_in_step(node))  # type: ignore[misc]
        until(self.is_ready)
        return self

    def slots(self, number: int) -> range:
        """Return the slots of one primary, as it was at first."""
        share = SLOTS // len(self.primaries)
        is_last = number == len(self.primaries) - 1
        return range(number * share, SLOTS if is_last else (number + 1) * share)

    def is_ready(self) -> bool:
        """Say whether each server that runs knows who has all the slots."""
        return all(
            b"cluster_state:ok" in node.say("CLUSTER", "INFO")
            and sum(s[1] + 1 - s[0] for s in node.say("CLUSTER", "SLOTS")) == SLOTS
            for node in self.nodes
            if node.runs
        )

    def move(
        self, slot: int, here: ClusterNode, there: ClusterNode, between: Callable[[], Any]
    ) -> None:
        """Move a slot with its keys, one after the other, as clusters are rebalanced."""
        there.say("CLUSTER", "SETSLOT", slot, "IMPORTING", here.name)
        here.say("CLUSTER", "SETSLOT", slot, "MIGRATING", there.name)
        between()
        while keys := here.say("CLUSTER", "GETKEYSINSLOT", slot, 1):
            here.say("MIGRATE", "127.0.0.1", there.port, keys[0], 0, 60_000)
            between()
        for node in (there, here):
            node.say("CLUSTER", "SETSLOT", slot, "NODE", there.name)
        between()

    def clients(self) -> int:
        """Return how many connections there are besides those of this and of each other."""
        return sum(
            b"flags=N" in line and b"cmd=client" not in line
            for node in self.nodes
            if node.runs
            for line in node.say("CLIENT", "LIST").splitlines()
        )

    def remove(self) -> None:
        for node in self.nodes:
            node.remove()

    def _knows_all(self, node: Server) -> bool:
        lines = node.say("CLUSTER", "NODES").decode().splitlines()
        return len(lines) == len(self.nodes) and not any("handshake" in line for line in lines)


class Sentinel(Server):
    """Watches a server.

    Args:
        watched: that server.
        password: of the sentinel.
        theirs: of the server.
    """

    def __init__(
        self, watched: Server, password: str | None = None, theirs: str | None = None
    ) -> None:
        super().__init__(require("valkey"), password=password)
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self._folder}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {watched.port} 1",
            f"sentinel down-after-milliseconds {SERVICE} {PATIENCE}",
            f"sentinel failover-timeout {SERVICE} 2000",
        ]
        lines += [f"requirepass {password}"] * bool(password)
        lines += [f"sentinel auth-pass {SERVICE} {theirs}"] * bool(theirs)
        self._file = self._folder / "sentinel.conf"
        self._file.write_text("\n".join(lines))

    def command(self) -> list[str]:
        return [self._program, str(self._file), "--sentinel"]


class WatchedServers:
    """A primary and its replica, and a sentinel that watches them.

    Args:
        password: of the two.
        sentinel_password: of the sentinel.

    Attributes:
        servers: the two.
        sentinel: who watches them.
    """

    def __init__(self, password: str | None = None, sentinel_password: str | None = None) -> None:
        secret = ("--requirepass", password, "--primaryauth", password) if password else ()
        self.servers = [
            Server(require("valkey"), *_AT_ONCE, *secret, password=password) for _ in range(2)
        ]
        self.sentinel = Sentinel(self.servers[0], sentinel_password, password)

    @property
    def url(self) -> str:
        """Where they are; the first place is nobody's."""
        return f"redis+sentinel://127.0.0.1:1,127.0.0.1:{self.sentinel.port}/{SERVICE}"

    def start(self) -> WatchedServers:
        primary, replica = self.servers
        primary.start()
        replica.start("--replicaof", "127.0.0.1", str(primary.port))
        until(lambda: is_in_step(replica))
        self.sentinel.start()
        until(self.is_ready)
        return self

    def is_ready(self) -> bool:
        """Say whether the sentinel knows a primary and a replica that are well."""
        primaries = self.sentinel.say("SENTINEL", "MASTERS")
        replicas = self.sentinel.say("SENTINEL", "REPLICAS", SERVICE)
        flags = [_flags(each) for each in (*primaries, *replicas)]
        return flags == [b"master", b"slave"]

    def is_led(self, by: Server) -> bool:
        """Say whether the sentinel takes a server to be the primary, and so does that one."""
        _, port = self.sentinel.say("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(port) == by.port and is_primary(by)

    def remove(self) -> None:
        for server in (self.sentinel, *self.servers):
            server.remove()


def _flags(entry: list[bytes]) -> bytes:
    return dict(zip(entry[::2], entry[1::2], strict=True))[b"flags"]
