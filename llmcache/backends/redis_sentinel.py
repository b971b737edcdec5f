"""The primary of a service, which sentinels watch and replace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from time import monotonic
from typing import Any

from redis.exceptions import NoPermissionError, ReadOnlyError

from llmcache.backends.redis_address import Address, Service
from llmcache.backends.redis_link import SHARE, Command, Expected, Link, Progress
from llmcache.backends.redis_server import Server
from llmcache.backends.redis_task_link import TaskLink
from llmcache.errors import StoreUnavailable

_ROLE = ("ROLE",)


class Watched(Server):
    """The server that is the primary now.

    - Sentinels are asked in the background whenever a connection is made, and
      by nobody else: who has a connection does not wait for them.
    - What they say is believed when the server itself says that it is primary.
    - A server that says that it may not be written has become a replica: all
      its connections are closed.

    Args:
        service: what the sentinels watch.
        connect_timeout: seconds until a connection must be made, with all the
            sentinels that do not answer.
        limit: the most connections for all threads, and for all tasks of a loop.
    """

    def __init__(self, service: Service, connect_timeout: float, limit: int) -> None:
        search = Search(service, connect_timeout)
        super().__init__(search.connect, search.aconnect, limit)

    def ask(
        self, command: Command, expected: Expected, deadline: float, before: Command = ()
    ) -> Any:
        """Return the reply to *command*."""
        try:
            return super().ask(command, expected, deadline, before)
        except ReadOnlyError:
            self.close()
            raise

    async def aask(
        self, command: Command, expected: Expected, within: float, before: Command = ()
    ) -> Any:
        """Do as `ask`, without blocking the event loop, within so many seconds."""
        try:
            return await super().aask(command, expected, within, before)
        except ReadOnlyError:
            await self.aclose()
            raise


class Search:
    """Finds the primary, and makes connections to it.

    The sentinels are asked one after the other, the one first that answered
    last. None has more than its share of the time: a silent one must not be
    all that was asked.

    Args:
        service: what the sentinels watch.
        connect_timeout: seconds that it may take altogether.
    """

    def __init__(self, service: Service, connect_timeout: float) -> None:
        self._service = service
        self._question: Command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service.name)
        self._longest = connect_timeout
        self._share = connect_timeout * SHARE
        self._first = 0

    def connect(self) -> Link:
        """Return a new connection to the primary.

        Raises:
            StoreUnavailable: no sentinel knows one that is there.
        """
        failure: Exception | None = None
        for sentinel, within in self._turns():
            ends = monotonic() + within
            try:
                watcher = Link(sentinel, within)
                try:
                    reply = watcher.ask(self._question, ends)
                finally:
                    watcher.close()
                return self._checked(self._primary(reply))
            except Exception as error:  # noqa: BLE001
                failure = error
        raise _nobody(failure)

    async def aconnect(self, progress: Progress) -> TaskLink:
        """Do as `connect`, on the running loop."""
        failure: Exception | None = None
        for sentinel, within in self._turns():
            try:
                async with asyncio.timeout(within):
                    watcher = await TaskLink.connect(sentinel, within, progress)
                    try:
                        reply = await watcher.ask(self._question, monotonic() + within)
                    finally:
                        watcher.close()
                return await self._achecked(self._primary(reply), progress)
            except Exception as error:  # noqa: BLE001
                failure = error
        raise _nobody(failure)

    def _turns(self) -> Iterator[tuple[Address, float]]:
        """Yield the sentinels, each with the seconds that it has."""
        ends = monotonic() + self._longest
        sentinels = self._service.sentinels
        first = self._first
        for turn in range(len(sentinels)):
            left = ends - monotonic()
            if left > 0:
                self._first = (first + turn) % len(sentinels)
                yield sentinels[self._first], min(self._share, left)

    def _primary(self, reply: Any) -> Address:
        match reply:
            case [bytes() as host, bytes() as port] if port.isdigit():
                return self._service.server.at(host.decode(), int(port))
        raise StoreUnavailable("a sentinel knows no primary of this service")

    def _checked(self, address: Address) -> Link:
        ends = monotonic() + self._share
        link = Link(address, self._share)
        try:
            _check_role(link.ask(_ROLE, ends))
        except NoPermissionError:
            # Who may not ask finds out by what cannot be written.
            return link
        except BaseException:
            link.close()
            raise
        return link

    async def _achecked(self, address: Address, progress: Progress) -> TaskLink:
        async with asyncio.timeout(self._share):
            link = await TaskLink.connect(address, self._share, progress)
            try:
                _check_role(await link.ask(_ROLE, monotonic() + self._share))
            except NoPermissionError:
                return link
            except BaseException:
                link.close()
                raise
            return link


def _check_role(reply: Any) -> None:
    match reply:
        case [b"master", *_]:
            return
    raise StoreUnavailable("what a sentinel calls the primary is none")


def _nobody(failure: Exception | None) -> StoreUnavailable:
    why = type(failure).__qualname__
    error = StoreUnavailable(f"no sentinel leads to a primary ({why})")
    error.__cause__ = failure
    return error
