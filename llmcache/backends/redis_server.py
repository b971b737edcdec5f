"""Whom a Redis store asks: one server, or several that act as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, ClassVar, Protocol, TypeAlias

from llmcache.backends.redis_link import Command, Expected, Link, Pulse
from llmcache.backends.redis_links import Links
from llmcache.backends.redis_loops import Loops
from llmcache.backends.redis_tasks import Connect as ConnectTask

Connect: TypeAlias = "Callable[[], Link]"


class Servers(Protocol):
    """One server, or several that act as one.

    Attributes:
        rounds: how often all must be looked through to miss no key: one may
            have moved to a server that had been looked through.
    """

    rounds: ClassVar[int]

    def ask(self, command: Command, expected: Expected, deadline: float) -> Any:
        """Return the reply to *command*, whose second part is a key."""
        ...

    async def aask(self, command: Command, expected: Expected, within: float) -> Any:
        """Do as `ask`, without blocking the event loop, within so many seconds."""
        ...

    def all(self, deadline: float) -> Sequence[Server]:
        """Return all servers that have keys of their own."""
        ...

    async def aall(self, within: float) -> Sequence[Server]:
        """Do as `all`, without blocking the event loop."""
        ...

    def together(self, keys: list[bytes]) -> list[list[bytes]]:
        """Return *keys*, grouped by what one command may name."""
        ...

    def silence(self) -> float:
        """Return for how many seconds they have owed an answer, as far as somebody found out."""
        ...

    def close(self) -> None:
        """Close all connections; those of other event loops close when these run or end."""
        ...

    async def aclose(self) -> None:
        """Do as `close`, without blocking the event loop."""
        ...

    def forget(self) -> None:
        """Begin anew, in a process that was forked."""
        ...


class Server:
    """One server, and the connections to it for all threads and event loops of this process.

    Args:
        connect: makes a connection for threads.
        aconnect: makes one for the tasks of an event loop.
        limit: the most connections for all threads, and for all tasks of a loop.
    """

    rounds: ClassVar[int] = 1

    def __init__(self, connect: Connect, aconnect: ConnectTask, limit: int) -> None:
        self._connect = connect
        self._limit = limit
        self._pulse = Pulse()
        self._loops = Loops(aconnect, limit, self._pulse)
        self._links = Links(connect, limit, self._pulse)

    def ask(
        self, command: Command, expected: Expected, deadline: float, before: Command = ()
    ) -> Any:
        """Do as `llmcache.backends.redis_links.Links.ask`."""
        return self._links.ask(command, expected, deadline, before)

    async def aask(
        self, command: Command, expected: Expected, within: float, before: Command = ()
    ) -> Any:
        """Do as `ask`, without blocking the event loop, within so many seconds."""
        return await self._loops.ask(command, expected, within, before)

    def all(self, deadline: float) -> Sequence[Server]:
        """Return this one."""
        return (self,)

    async def aall(self, within: float) -> Sequence[Server]:
        """Return this one."""
        return (self,)

    def together(self, keys: list[bytes]) -> list[list[bytes]]:
        """Return *keys* as they are."""
        return [keys] if keys else []

    def silence(self) -> float:
        """Return for how many seconds it has owed an answer, as far as somebody found out."""
        return self._pulse.silence((), monotonic())

    def close(self) -> None:
        """Close all connections; those of other event loops close when these run or end."""
        self._close_links()
        self._loops.close()

    async def aclose(self) -> None:
        """Do as `close`, without blocking the event loop."""
        self._close_links()
        await self._loops.aclose()

    def forget(self) -> None:
        """Begin anew, in a process that was forked."""
        self._links = Links(self._connect, self._limit, self._pulse)
        self._loops.forget()

    def _close_links(self) -> None:
        links, self._links = self._links, Links(self._connect, self._limit, self._pulse)
        links.close()
