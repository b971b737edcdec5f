"""A connection to a Redis server, for one thread at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from math import inf
from ssl import SSLWantReadError, SSLWantWriteError
from time import monotonic
from typing import Any, Final, TypeAlias
from weakref import finalize

import redis
from redis._parsers import _RESP2Parser
from redis.backoff import NoBackoff
from redis.retry import Retry

from llmcache.backends.base import Crowded, SlowTransfer
from llmcache.backends.redis_address import Address
from llmcache.errors import StoreUnavailable

Command: TypeAlias = "tuple[str | bytes | int, ...]"
Expected: TypeAlias = "Callable[[Any], bool]"
"""Whether a reply can be the answer to what was asked."""

SETTINGS: Final[dict[str, Any]] = {
    "protocol": 2,
    "health_check_interval": 0,
    "decode_responses": False,
}
"""What redis-py must not choose: every server speaks RESP2, which has no notifications.

Those of maintenance are asked for by its clients only, and never by a bare connection.
"""

with suppress(ImportError):  # older ones have none
    from redis.driver_info import DriverInfo

    # redis-py would read a file for that, for every connection.
    SETTINGS["driver_info"] = DriverInfo()

LARGE: Final = 1 << 16
"""Bytes that only a large value has; as many within its time are no sign of a server that fails."""

SHARE: Final = 1 / 5
"""How much of its time to connect one of many servers has: a silent one must not take it all."""

STUCK: Final = 1.0
"""Seconds after which an attempt to connect does not keep others from being made beside it."""

RESPITE: Final = 0.5
"""Seconds for which a server that refuses another connection is spared, if it has some."""


class Progress:
    """How far an exchange is.

    Attributes:
        received: bytes of the reply.
        asked: when the server was asked what it has not answered, in seconds
            of `time.monotonic`; ``inf`` if it owes nothing.
    """

    asked = inf
    received = _moved = 0
    _last = -inf
    _halfway = inf

    def begin(self, deadline: float) -> None:
        """Begin another exchange, which ends at *deadline* in seconds of `time.monotonic`."""
        self.received = self._moved = 0
        self._last = -inf
        self.asked = inf
        self._halfway = (monotonic() + deadline) / 2

    def step(self) -> None:
        """Take note that the server has the next thing to do, of what makes a connection."""
        self.asked = monotonic()

    def end(self) -> None:
        """Take note that the server has answered."""
        self.asked = inf

    def sent(self, size: int) -> None:
        """Take note of so many bytes of the request that are on their way."""
        self._moved += size
        self._last = monotonic()
        if self._moved >= LARGE or self.asked == inf:
            self.asked = self._last

    def got(self, size: int) -> None:
        """Take note of so many bytes of the reply."""
        self.received += size
        self.sent(size)

    @property
    def is_large(self) -> bool:
        """Whether it takes long because of its size.

        A server that died in between moves nothing any more, and what a
        request fills at once are the buffers of this machine.
        """
        return self._moved >= LARGE and self._last > self._halfway

    def silence(self, at: float) -> float:
        """Return for how many seconds the server had owed an answer at that time."""
        return max(at - self.asked, 0.0)


class Pulse:
    """When a server was heard last, by any thread or task of this process."""

    def __init__(self) -> None:
        self._answered = 0.0
        self._owed = inf

    def heard(self) -> None:
        """Take note that the server has answered somebody."""
        self._answered = monotonic()
        self._owed = inf

    def silence(self, asked: Iterable[float], at: float) -> float:
        """Return for how many seconds it had owed an answer to anybody, and said nothing.

        Args:
            asked: the times at which it was asked what it has not answered.
            at: when, in seconds of `time.monotonic`.
        """
        return max(at - max(min(self._owed, *asked, inf), self._answered), 0.0)

    def why(self, seconds: float, within: float, at: float) -> TimeoutError:
        """Return the error of who has waited so many seconds while there was such a silence.

        The server is to blame if it had half of the time, and owes that until it
        answers.
        """
        if seconds < within / 2:
            return Crowded("the time was over before the server had had half of it")
        self._owed = min(self._owed, at - seconds)
        return TimeoutError("the server has not answered in time")


class Wire:
    """A socket all of whose reads and writes end at one deadline.

    redis-py bounds each of them alone: a server that sends a byte at a time
    would keep its caller for ever.

    Args:
        socket: what redis-py has connected.
        deadline: in seconds of `time.monotonic`.

    Attributes:
        progress: of the exchange that goes on.
    """

    def __init__(self, socket: Any, deadline: float) -> None:
        self._socket = socket
        self._polls = False
        self.progress = Progress()
        self.begin(deadline)

    def begin(self, deadline: float) -> None:
        """Begin another exchange."""
        self._deadline = deadline
        self._is_over = False
        self.progress.begin(deadline)

    def recv(self, size: int) -> bytes:
        data: bytes = self._read(self._socket.recv, size)
        self.progress.got(len(data))
        return data

    def recv_into(self, buffer: Any) -> int:
        size: int = self._read(self._socket.recv_into, buffer)
        self.progress.got(size)
        return size

    def sendall(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            if not self._arm():
                raise TimeoutError
            sent = self._socket.send(left)
            self.progress.sent(sent)
            left = left[sent:]

    def settimeout(self, seconds: float | None) -> None:
        """Poll from now on, if *seconds* is zero; the deadline bounds everything else."""
        self._polls = seconds == 0

    def shutdown(self, how: int) -> None:
        self._socket.shutdown(how)

    def close(self) -> None:
        self._socket.close()

    def _read(self, method: Callable[[Any], Any], what: Any) -> Any:
        """Return what *method* does before the deadline, or once, without waiting, after it."""
        if self._polls:
            self._socket.settimeout(0.0)
            return method(what)
        if self._arm():
            return method(what)
        if self._is_over:
            raise TimeoutError
        # Where threads wait for one another, what came in time is found late.
        self._is_over = True
        try:
            return method(what)
        except (BlockingIOError, SSLWantReadError, SSLWantWriteError):
            raise TimeoutError from None

    def _arm(self) -> bool:
        """Let the socket wait until the deadline, and say whether that is still to come."""
        left = max(self._deadline - monotonic(), 0.0)
        self._socket.settimeout(left)
        return left > 0


class Packer:
    """Writes commands as they go over the wire.

    That of hiredis, which redis-py takes where it is installed, can end the
    process if a signal handler raises in the middle of it.
    """

    def pack(self, *parts: str | bytes | int) -> list[bytes]:
        written = [b"*%d\r\n" % len(parts)]
        for part in parts:
            data = part if isinstance(part, bytes) else str(part).encode()
            written.append(b"$%d\r\n%b\r\n" % (len(data), data))
        return [b"".join(written)]


class _Wired:
    """A connection of redis-py over a `Wire`."""

    wire: Wire
    deadline: float

    def _connect(self) -> Any:
        self.wire = Wire(super()._connect(), self.deadline)  # type: ignore[misc]
        return self.wire


class _TCP(_Wired, redis.Connection):
    pass


class _TLS(_Wired, redis.SSLConnection):
    pass


class _Unix(_Wired, redis.UnixDomainSocketConnection):
    pass


_KINDS: Final[dict[str, Any]] = {"redis": _TCP, "rediss": _TLS, "unix": _Unix}


class Link:
    """One connection, which is asked one thing after the other.

    Args:
        address: of the server.
        connect_timeout: seconds until it must be connected.

    Raises:
        redis.RedisError, OSError: if it cannot be.

    Attributes:
        made: when, in seconds of `time.monotonic`.
        closed: whether it is.
    """

    closed = False

    def __init__(self, address: Address, connect_timeout: float) -> None:
        self._connection = connection = _KINDS[address.scheme](
            **address.arguments(),
            **SETTINGS,
            retry=Retry(NoBackoff(), 0),
            command_packer=Packer(),
            parser_class=_RESP2Parser,
            socket_timeout=connect_timeout,
            socket_connect_timeout=connect_timeout,
        )
        connection.deadline = monotonic() + connect_timeout
        connection.connect()
        # In a cycle that is collected the socket may come first, and complain.
        finalize(self, connection.disconnect).atexit = False
        self.made = monotonic()

    @property
    def wire(self) -> Wire:
        """What it is made over."""
        return self._connection.wire  # type: ignore[no-any-return]

    def ask(self, command: Command, deadline: float) -> Any:
        """Return the reply to *command*.

        Raises:
            TimeoutError: there was none at *deadline*.
            redis.ResponseError: the reply is an error, and whole.
            redis.RedisError, OSError: there is no reply.
        """
        wire = self._connection.wire
        wire.begin(deadline)
        try:
            self._connection.send_command(*command, check_health=False)
            return self._connection.read_response(disable_decoding=True)
        except redis.TimeoutError:
            if wire.progress.is_large:
                raise SlowTransfer("a large value was on its way") from None
            raise TimeoutError("the server has not answered in time") from None

    def is_stale(self, error: Exception, since: float) -> bool:
        """Say whether *error* may only mean that the server had closed this connection before."""
        return (
            self.made < since
            and isinstance(error, redis.ConnectionError)
            and not self.wire.progress.received
        )

    def is_usable(self) -> bool:
        """Say whether it is connected, and the server has said nothing that it was not asked."""
        try:
            return not self.closed and not self._connection.can_read(0)
        except (redis.RedisError, OSError):
            return False

    def close(self) -> None:
        """Close it; a fork's copy of the parent's connection is left to the parent."""
        self.closed = True
        self._connection.disconnect()


def ended_at_once() -> StoreUnavailable:
    """Return what says that a new connection was of no use."""
    return StoreUnavailable("the server ends a connection as soon as it is made")


def unreachable(why: Exception) -> StoreUnavailable:
    """Return what says that there is no connection; a foreign text may hold a password."""
    ours = isinstance(why, StoreUnavailable)
    error = StoreUnavailable(str(why) if ours else f"cannot connect ({type(why).__qualname__})")
    error.__cause__ = why
    return error
