"""The connections of one process to one Redis server, for the tasks of its event loops."""

from __future__ import annotations

import asyncio
import threading
from asyncio import AbstractEventLoop, CancelledError, Future, Task
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

import redis

from llmcache.backends.base import whose
from llmcache.backends.redis_link import Command, Expected, unreachable
from llmcache.backends.redis_task_link import TaskLink

_inherited: Final[list[object]] = []
"""What a fork has of its parent's event loops: to drop it would close it in the parent, too."""


class TaskLinks:
    """Gives each exchange a connection of its own, on one event loop.

    - Connections are made in the background, so that nobody waits for one
      longer than it may: it will be there for who comes next.
    - An exchange runs to its end, also when the one who asked is cancelled.
    - All are closed when the event loop ends as `asyncio.run` ends it.

    Args:
        connect: makes a connection.
        limit: the most connections.
    """

    def __init__(self, connect: Callable[[], Coroutine[Any, Any, TaskLink]], limit: int) -> None:
        self._connect = connect
        self._limit = limit
        self._ready: deque[TaskLink] = deque()
        self._open: set[TaskLink] = set()
        self._waiting: deque[Future[TaskLink]] = deque()
        self._attempts: set[Task[None]] = set()
        self._exchanges: set[Task[Any]] = set()
        self._closed = False
        self._presence = self._present()

    async def ask(
        self, command: Command, expected: Expected, within: float, before: Command = ()
    ) -> Any:
        """Do as `llmcache.backends.redis_links.Links.ask`, within so many seconds."""
        if within <= 0:
            raise TimeoutError("there is no time to ask")
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._outcome(command, expected, within, before))
        self._exchanges.add(task)
        task.add_done_callback(self._exchanges.discard)
        try:
            reply, error = await asyncio.shield(task)
        except CancelledError as error:
            raise whose(error) from None
        if error is not None:
            raise error
        return reply

    async def begin(self) -> None:
        """Be there until the event loop ends."""
        await anext(self._presence)

    async def close(self) -> None:
        """Close all connections, those in use when they have been used."""
        await self._presence.aclose()

    async def _present(self) -> AsyncGenerator[None, None]:
        """Close all when the event loop closes its generators, as it does last of all."""
        try:
            yield
        finally:
            self._closed = True
            for attempt in list(self._attempts if not self._waiting else ()):
                attempt.cancel()
            while self._ready:
                await self._drop(self._ready.popleft())
            # A transport that was told to close does so in the next round.
            await asyncio.sleep(0)

    async def _outcome(
        self, command: Command, expected: Expected, within: float, before: Command
    ) -> tuple[Any, Exception | None]:
        """Return the reply, or what is wrong: a task that nobody waits for may not raise."""
        deadline = monotonic() + within
        links: list[TaskLink] = []
        exchange = partial(self._exchange, command, expected, deadline, before, links)
        try:
            async with asyncio.timeout(within):
                try:
                    return await exchange(), None
                except redis.RedisError as error:
                    if not links or not links[-1].is_stale(error):
                        return None, error
                return await exchange(), None
        except TimeoutError:
            if not links:
                return None, TimeoutError("no connection is ready in time")
            return None, links[-1].progress.late()
        except Exception as error:  # noqa: BLE001
            return None, error

    async def _exchange(
        self,
        command: Command,
        expected: Expected,
        deadline: float,
        before: Command,
        links: list[TaskLink],
    ) -> Any:
        link = await self._take()
        links.append(link)
        try:
            if before:
                await link.ask(before, deadline)
            reply = await link.ask(command, deadline)
            if not expected(reply):
                raise redis.InvalidResponse(f"this is no answer to {command[0]!r}")
        except redis.ResponseError:
            await self._put(link)
            raise
        except BaseException:
            await self._drop(link)
            raise
        await self._put(link)
        return reply

    async def _take(self) -> TaskLink:
        while True:
            link = self._ready.pop() if self._ready else await self._wait()
            usable = False
            try:
                usable = await link.is_usable()
            finally:
                if not usable:
                    await self._drop(link)
            if usable:
                return link

    async def _wait(self) -> TaskLink:
        waiter: Future[TaskLink] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._begin_to_connect()
        try:
            return await waiter
        except CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                await self._put(waiter.result())
            raise
        finally:
            with suppress(ValueError):
                self._waiting.remove(waiter)

    async def _put(self, link: TaskLink) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(link)
                return
        if self._closed:
            await self._drop(link)
        else:
            self._ready.append(link)

    async def _drop(self, link: TaskLink) -> None:
        self._open.discard(link)
        await link.close()
        if self._waiting:
            self._begin_to_connect()

    def _begin_to_connect(self) -> None:
        attempts = len(self._attempts)
        if attempts < len(self._waiting) and attempts + len(self._open) < self._limit:
            attempt = asyncio.get_running_loop().create_task(self._attempt())
            self._attempts.add(attempt)
            attempt.add_done_callback(self._attempts.discard)

    async def _attempt(self) -> None:
        try:
            try:
                link = await self._connect()
            finally:
                # Who finds the new connection broken needs another attempt at once.
                self._attempts.discard(cast("Task[None]", asyncio.current_task()))
        except Exception as error:  # noqa: BLE001
            while self._waiting:
                waiter = self._waiting.popleft()
                if not waiter.done():
                    waiter.set_exception(unreachable(error))
            return
        self._open.add(link)
        await self._put(link)


class Loops:
    """Gives each event loop connections of its own.

    Args:
        connect: makes a connection.
        limit: the most connections of one loop.
    """

    def __init__(self, connect: Callable[[], Coroutine[Any, Any, TaskLink]], limit: int) -> None:
        self._connect = connect
        self._limit = limit
        self._begin_anew()

    async def ask(
        self, command: Command, expected: Expected, within: float, before: Command = ()
    ) -> Any:
        """Do as `TaskLinks.ask`, on the running loop."""
        links = self._links.get(asyncio.get_running_loop()) or await self._begin()
        return await links.ask(command, expected, within, before)

    async def aclose(self) -> None:
        """Close all connections of the running loop now, and of the others soon."""
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
        links = TaskLinks(self._connect, self._limit)
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
