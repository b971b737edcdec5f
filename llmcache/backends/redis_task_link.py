"""A connection to a Redis server, for one task of an event loop at a time."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from time import monotonic
from typing import Any, Final

import redis
from redis import asyncio as aredis
from redis._parsers import _AsyncRESP2Parser
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from llmcache.backends.apart import apart
from llmcache.backends.redis_address import Address
from llmcache.backends.redis_link import LARGE, SETTINGS, Command, Progress


class _Link(AbstractConnection):
    """A connection that takes note of each step, and is closed at once, however the server is.

    A transport that is asked to close waits until all is sent, and under TLS
    for the server's farewell as well: longer than the event loop may live.
    """

    progress: Progress

    async def _connect(self) -> None:
        await super()._connect()  # type: ignore[safe-super, no-untyped-call]
        self.progress.step()

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().read_response(*args, **kwargs)
        finally:
            self.progress.step()

    async def disconnect(self, *args: Any, **kwargs: Any) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        await super().disconnect(*args, **kwargs)


class _Named(_Link):
    """A connection whose host is looked up by a thread of its own."""

    host: str
    port: int
    _place: str

    async def _connect(self) -> None:
        failure: OSError | None = None
        for place in await _places(self.host, self.port):
            self._place = place
            try:
                return await super()._connect()
            except OSError as error:
                failure = error
        raise failure or OSError("the host has no address")

    def _connection_arguments(self) -> dict[str, Any]:
        given = {**super()._connection_arguments(), "host": self._place}  # type: ignore[misc]
        return given | {"server_hostname": self.host} if "ssl" in given else given


class _Connection(_Named, aredis.Connection):
    pass


class _SSLConnection(_Named, aredis.SSLConnection):
    pass


class _UnixDomainSocketConnection(_Link, aredis.UnixDomainSocketConnection):
    pass


_KINDS: Final[dict[str, Any]] = {
    "redis": _Connection,
    "rediss": _SSLConnection,
    "unix": _UnixDomainSocketConnection,
}


async def _places(host: str, port: int) -> list[str]:
    """Return the addresses of *host*."""
    with suppress(ValueError):
        ip_address(host)
        return [host]
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    return [str(place[0]) for *_, place in await apart(look_up)]


class TaskLink:
    """One connection of one event loop, which is asked one thing after the other.

    Attributes:
        made: when, in seconds of `time.monotonic`.
        progress: of the exchange that goes on.
    """

    def __init__(self, connection: Any) -> None:
        self.made = monotonic()
        self.progress: Progress = connection.progress
        self._connection = connection
        reader = connection._reader
        feed = reader.feed_data

        def feed_data(data: bytes) -> None:
            self.progress.got(len(data))
            feed(data)

        reader.feed_data = feed_data

    @classmethod
    async def connect(
        cls, address: Address, connect_timeout: float, progress: Progress
    ) -> TaskLink:
        """Return a new connection, which takes note of its *progress*, of this one first.

        Raises:
            redis.RedisError, OSError, TimeoutError: if it cannot be made in time.
        """
        connection = _KINDS[address.scheme](
            **address.arguments(),
            **SETTINGS,
            retry=Retry(NoBackoff(), 0),
            parser_class=_AsyncRESP2Parser,
            # Each exchange has a deadline of its own.
            socket_timeout=None,
            socket_connect_timeout=connect_timeout,
        )
        connection.progress = progress
        try:
            async with asyncio.timeout(connect_timeout):
                if address.scheme == "rediss":
                    # It reads files, and the event loop must not wait for that.
                    await apart(connection.ssl_context.get)
                await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return cls(connection)

    async def ask(self, command: Command, deadline: float) -> Any:
        """Return the reply to *command*; whoever asks sees to it that it ends at *deadline*.

        Raises:
            redis.ResponseError: the reply is an error, and whole.
            redis.RedisError, OSError: there is no reply.
        """
        self.progress.begin(deadline)
        self.progress.step()
        request = b"".join(self._connection.pack_command(*command))
        if len(request) <= LARGE:
            await self._connection.send_packed_command(request, check_health=False)
        else:
            await self._send_in_pieces(request)
        return await self._connection.read_response(disable_decoding=True)

    async def _send_in_pieces(self, request: bytes) -> None:
        """Send what is large so that it is seen to be on its way."""
        # redis-py's writelines() does not wait for room from Python 3.12 on.
        writer = self._connection._writer
        try:
            for start in range(0, len(request), LARGE):
                piece = request[start : start + LARGE]
                writer.write(piece)
                await writer.drain()
                self.progress.sent(len(piece))
        except OSError as error:
            raise redis.ConnectionError("the connection ended while it was written to") from error

    def is_stale(self, error: Exception, since: float) -> bool:
        """Say whether *error* may only mean that the server had closed this connection before."""
        return (
            self.made < since
            and isinstance(error, redis.ConnectionError)
            and not self.progress.received
        )

    async def is_usable(self) -> bool:
        """Say whether it is connected, and the server has said nothing that it was not asked."""
        connection = self._connection
        try:
            said = getattr(connection, "can_read", None) or connection.can_read_destructive
            return connection.is_connected and not await said()
        except (redis.RedisError, OSError):
            return False

    def close(self) -> None:
        """Close it."""
        if self._connection._writer is not None:
            self._connection._writer.transport.abort()
        self._connection._parser.on_disconnect()
        self._connection._close()
