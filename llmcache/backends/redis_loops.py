"""The connections of one process to one Redis server, for each of its event loops."""

from __future__ import annotations

import asyncio
import threading
from asyncio import AbstractEventLoop, Task
from contextlib import suppress
from typing import Any, Final
from weakref import WeakKeyDictionary

from llmcache.backends.redis_link import Command, Expected, Pulse
from llmcache.backends.redis_tasks import Connect, TaskLinks

_inherited: Final[list[object]] = []
"""What a fork has of its parent's event loops: to drop it would close it in the parent, too."""


class Loops:
    """Gives each event loop connections of its own.

    Args:
        connect: makes a connection.
        limit: the most connections of one loop.
        pulse: of the server.
    """

    def __init__(self, connect: Connect, limit: int, pulse: Pulse) -> None:
        self._connect = connect
        self._limit = limit
        self._pulse = pulse
        self._begin_anew()

    async def ask(
        self, command: Command, expected: Expected, within: float, before: Command = ()
    ) -> Any:
        """Do as `TaskLinks.ask`, on the running loop."""
        links = self._links.get(asyncio.get_running_loop()) or await self._begin()
        return await links.ask(command, expected, within, before)

    async def aclose(self) -> None:
        """Close all connections of the running loop now, and of the others soon."""
        with self._lock:
            here = self._links.pop(asyncio.get_running_loop(), None)
        self.close()
        if here is not None:
            await here.close()

    def close(self) -> None:
        """Have each loop that runs close its connections; one that does not does when it ends."""
        with self._lock:
            links = dict(self._links)
            self._links.clear()
        for loop, there in links.items():
            # If the loop is closed, so are its connections.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_close, loop, there)

    def forget(self) -> None:
        """Begin anew, in a process that was forked."""
        _inherited.append(self._links)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._links: WeakKeyDictionary[AbstractEventLoop, TaskLinks] = WeakKeyDictionary()

    async def _begin(self) -> TaskLinks:
        links = TaskLinks(self._connect, self._limit, self._pulse)
        with self._lock:
            for loop in [loop for loop in self._links if loop.is_closed()]:
                del self._links[loop]
            self._links[asyncio.get_running_loop()] = links
        await links.begin()
        return links


_closing: Final[set[Task[None]]] = set()


def _close(loop: AbstractEventLoop, links: TaskLinks) -> None:
    task = loop.create_task(links.close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)
