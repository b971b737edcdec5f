"""The store in Redis servers: answers that machines share."""

from __future__ import annotations

import re
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Final

from redis import ResponseError

from llmcache.backends.apart import apart
from llmcache.backends.base import DEFAULT_TIMEOUT, Changes, Count, Store
from llmcache.backends.forks import forget_after_fork
from llmcache.backends.redis_address import parse_address, parse_nodes, parse_service
from llmcache.backends.redis_cluster import Cluster
from llmcache.backends.redis_link import Command, Expected, Link
from llmcache.backends.redis_sentinel import Watched
from llmcache.backends.redis_server import Server, Servers
from llmcache.backends.redis_task_link import TaskLink
from llmcache.backends.redis_tracking import Tracking
from llmcache.backends.registry import CLUSTER, SENTINEL
from llmcache.backends.urls import parse_url
from llmcache.policy import (
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_CONNECTIONS,
    DEFAULT_PREFIX,
    Clock,
    parse_bound,
)

BATCH: Final = 1000
"""Keys that the server looks at in one go, while it serves nobody else."""

_PATIENCE: Final = 1.0
_LONGEST: Final = 1e12
_START: Final = b"0"
_SPECIAL: Final = re.compile(r"[*?\[\]^\\]")
_WRONG_TYPE: Final = "WRONGTYPE"


class RedisStore(Store):
    """Keeps the entries in Redis or Valkey servers, which let each expire.

    - No method makes its caller wait longer than it may. A connection is made
      in the background; until there is one, callers are told that they had no
      more time.
    - A connection serves one exchange at a time, and is thrown away unless that
      ends well: no interrupt, cancellation or timeout can hand one caller the
      reply to another.
    - Nothing is tried again, but once what was asked over a connection that the
      server had closed in the meantime, and what another node of a cluster has.
    - What is no text under a key of this store is nothing to `get`, which
      leaves it alone; `set` replaces it.
    - Each event loop has connections of its own, and so has a process that was
      forked. None is open before the first use or after `close`.

    Args:
        url: ``redis://user:password@host:port/database``, ``rediss://``
            likewise for TLS, ``unix:///path/of/socket?db=database``,
            ``redis+cluster://user:password@host:port,host:port``, or
            ``redis+sentinel://user:password@host:port,host:port/service/database``.
        prefix: of every key.
        timeout: seconds that it may add to one call altogether.
        connect_timeout: seconds until a connection must be made.
        max_connections: the most connections for all threads together, and for
            all tasks of one event loop; in a cluster, to each node.
        clock: not used: the server's decides.

    Raises:
        ConfigurationError: if *url* cannot be meant.
        redis.RedisError, OSError, TimeoutError: from every method that cannot
            do its work.

    Example:
        >>> store = RedisStore("redis://localhost")  # doctest: +SKIP
        >>> store.set("group:name", b"answer", 60.0)  # doctest: +SKIP
        True
        >>> store.get("group:name")  # doctest: +SKIP
        b'answer'
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = DEFAULT_PREFIX,
        timeout: float = DEFAULT_TIMEOUT,
        connect_timeout: float = DEFAULT_CONNECT_TIMEOUT,
        max_connections: int = DEFAULT_CONNECTIONS,
        clock: Clock | None = None,
    ) -> None:
        self.prefix = prefix
        self.timeout = timeout
        self._timeout = timeout
        self.connect_timeout = connect_timeout
        self.max_connections = parse_bound("max_connections", max_connections)
        self._servers = _servers(url, timeout, connect_timeout, max_connections)
        self._tracking = _tracking(url, connect_timeout, prefix)
        forget_after_fork(self)

    def get(self, key: str, within: float = inf) -> bytes | None:
        """Return what is stored under *key*, ``None`` for nothing."""
        try:
            found: bytes | None = self._ask(
                self._at_most(within), _is_entry, "GET", self.prefix + key
            )
        except ResponseError as error:
            _check_type(error)
            return None
        return found

    def set(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        """Store *data* for *ttl* seconds; say whether it was stored."""
        life = _life(ttl)
        if life is None:
            self.delete(key, within)
            return False
        return bool(self._ask(self._at_most(within), _is_ok, "SET", self.prefix + key, data, *life))

    def delete(self, key: str, within: float = inf) -> bool:
        """Forget *key*; say whether there was something to forget."""
        return bool(self._ask(self._at_most(within), _is_number, "UNLINK", self.prefix + key))

    def clear(self, group: str) -> None:
        """Forget all keys of *group*, a batch at a time; it is no part of a call and may wait."""
        for _ in range(self._servers.rounds):
            for server in self._servers.all(monotonic() + _PATIENCE):
                cursor = None
                while cursor != _START:
                    command = self._scan(group, cursor or _START)
                    cursor, keys = server.ask(command, _is_batch, monotonic() + _PATIENCE)
                    for batch in self._servers.together(keys):
                        self._ask(_PATIENCE, _is_number, "UNLINK", *batch)

    def count(self, group: str, within: float = inf) -> Count:
        """Return the number of entries in *group*, an estimate if time is short."""
        ends = monotonic() + min(within, self._timeout)
        servers = self._servers.all(ends)
        counts, late = list[Count](), TimeoutError("there is no time to count")
        for number, server in enumerate(servers):
            share = (ends - monotonic()) / (len(servers) - number)
            try:
                counts.append(self._count(server, group, share))
            except TimeoutError as error:
                late = error
        if not counts:
            raise late
        # The servers of a cluster hold about the same.
        entries = sum(count.entries for count in counts) * len(servers) / len(counts)
        is_estimate = len(counts) < len(servers) or any(count.is_estimate for count in counts)
        return Count(round(entries), is_estimate)

    def silence(self) -> float:
        """Return for how many seconds it has owed somebody an answer, as far as that was found."""
        return self._servers.silence()

    def follow(self, changes: Changes) -> None:
        """Tell *changes* what the server says, over a connection and by a thread for that alone."""
        if self._tracking is not None:
            self._tracking.follow(changes)

    def close(self) -> None:
        """Close all connections; those of other event loops close when these run or end."""
        if self._tracking is not None:
            self._tracking.close()
        self._servers.close()

    async def aget(self, key: str, within: float = inf) -> bytes | None:
        """Do as `get`, without blocking the event loop."""
        try:
            found: bytes | None = await self._aask(
                self._at_most(within), _is_entry, "GET", self.prefix + key
            )
        except ResponseError as error:
            _check_type(error)
            return None
        return found

    async def aset(self, key: str, data: bytes, ttl: float, within: float = inf) -> bool:
        """Do as `set`, without blocking the event loop."""
        life = _life(ttl)
        if life is None:
            await self.adelete(key, within)
            return False
        return bool(
            await self._aask(self._at_most(within), _is_ok, "SET", self.prefix + key, data, *life)
        )

    async def adelete(self, key: str, within: float = inf) -> bool:
        """Do as `delete`, without blocking the event loop."""
        return bool(
            await self._aask(self._at_most(within), _is_number, "UNLINK", self.prefix + key)
        )

    async def aclear(self, group: str) -> None:
        """Do as `clear`, without blocking the event loop."""
        for _ in range(self._servers.rounds):
            for server in await self._servers.aall(_PATIENCE):
                cursor = None
                while cursor != _START:
                    command = self._scan(group, cursor or _START)
                    cursor, keys = await server.aask(command, _is_batch, _PATIENCE)
                    for batch in self._servers.together(keys):
                        await self._aask(_PATIENCE, _is_number, "UNLINK", *batch)

    async def aclose(self) -> None:
        """Do as `close`, without blocking the event loop."""
        if self._tracking is not None and self._tracking.is_open:
            await apart(self._tracking.close)
        await self._servers.aclose()

    def _ask(self, within: float, expected: Expected, *command: str | bytes | int) -> Any:
        return self._servers.ask(command, expected, monotonic() + within)

    async def _aask(self, within: float, expected: Expected, *command: str | bytes | int) -> Any:
        return await self._servers.aask(command, expected, within)

    def _at_most(self, within: float) -> float:
        return min(within, self._timeout)

    def _scan(self, group: str, cursor: bytes) -> Command:
        pattern = _SPECIAL.sub(r"\\\g<0>", f"{self.prefix}{group}:") + "*"
        return "SCAN", cursor, "MATCH", pattern, "COUNT", BATCH

    def _count(self, server: Server, group: str, within: float) -> Count:
        """Return the number of entries of one server."""
        ends = monotonic() + within
        # Asked first: there would be no time for it when it is needed.
        total = server.ask(("DBSIZE",), _is_number, ends)
        cursor, found, seen = _START, set[bytes](), 0
        while seen == 0 or cursor != _START:
            try:
                cursor, keys = server.ask(self._scan(group, cursor), _is_batch, ends)
            except TimeoutError:
                if seen == 0:
                    raise
                return Count(round(len(found) * max(total / seen, 1)), is_estimate=True)
            found.update(keys)
            seen += BATCH
        return Count(len(found), is_estimate=False)

    def forget(self) -> None:
        """Begin anew, in a process that was forked."""
        self._servers.forget()
        if self._tracking is not None:
            self._tracking.forget()


def _tracking(url: str, connect_timeout: float, prefix: str) -> Tracking | None:
    """Return what is told of changes, ``None`` where one connection would not be told of all."""
    if parse_url(url).scheme in (*CLUSTER, *SENTINEL):
        return None
    address = parse_address(url)
    return Tracking(lambda: Link(address, connect_timeout), prefix)


def _servers(url: str, timeout: float, connect_timeout: float, limit: int) -> Servers:
    """Return whom *url* means."""
    scheme = parse_url(url).scheme
    if scheme in CLUSTER:
        return Cluster(parse_nodes(url), timeout, connect_timeout, limit)
    if scheme in SENTINEL:
        return Watched(parse_service(url), connect_timeout, limit)
    address = parse_address(url)
    return Server(
        lambda: Link(address, connect_timeout),
        partial(TaskLink.connect, address, connect_timeout),
        limit,
    )


def _life(ttl: float) -> Command | None:
    """Return how long to keep an entry, as `SET` takes it; ``None`` for not at all."""
    if ttl == inf:
        return ()
    milliseconds = int(min(ttl, _LONGEST) * 1000) if ttl > 0 else 0
    return ("PX", milliseconds) if milliseconds else None


def _check_type(error: ResponseError) -> None:
    """Raise *error*, unless it says that something is there which is no text."""
    if not str(error).startswith(_WRONG_TYPE):
        raise error


def _is_entry(reply: Any) -> bool:
    return reply is None or isinstance(reply, bytes)


def _is_ok(reply: Any) -> bool:
    return bool(reply == b"OK")


def _is_number(reply: Any) -> bool:
    return isinstance(reply, int)


def _is_batch(reply: Any) -> bool:
    return (
        isinstance(reply, list)
        and len(reply) == 2
        and isinstance(reply[0], bytes)
        and isinstance(reply[1], list)
        and all(isinstance(key, bytes) for key in reply[1])
    )
