"""One server of a cluster."""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import Any, Final

from llmcache.backends.redis_address import Address
from llmcache.backends.redis_link import Link
from llmcache.backends.redis_server import Server
from llmcache.backends.redis_task_link import TaskLink
from llmcache.breaker import Breaker, logger

_MOST: Final = 3 / 4


class Node(Server):
    """One server of a cluster, which may fail alone.

    Args:
        address: of the server.
        timeout: seconds that failures on end may take, until nobody waits for it.
        connect_timeout: seconds until a connection must be made.
        limit: the most connections for all threads, and for all tasks of a loop.

    Attributes:
        address: as above.
        breaker: stands before it.
    """

    def __init__(
        self, address: Address, timeout: float, connect_timeout: float, limit: int
    ) -> None:
        super().__init__(
            lambda: Link(address, connect_timeout),
            partial(TaskLink.connect, address, connect_timeout),
            limit,
        )
        self.address = address
        self._says_down = False
        self.breaker = Breaker(
            str(self),
            # Who asks has spent a little of the time before.
            limit=timeout * _MOST,
            monotonic=monotonic,
            probe=lambda: self.ask(("PING",), _is_pong, monotonic() + timeout),
        )

    def worked(self) -> None:
        """Take note that it has done what it was asked."""
        self.breaker.worked()
        if self._says_down:
            self._says_down = False
            logger.warning("%s is back", self)

    def says_down(self) -> None:
        """Take note that it does nothing, as long as it takes its cluster to be down."""
        self.breaker.worked()
        if not self._says_down:
            self._says_down = True
            logger.warning("%s says that all is down: calls go through until it is back", self)

    def __str__(self) -> str:
        return "the node {host}:{port} of a Redis cluster".format(**self.address.place)


def _is_pong(reply: Any) -> bool:
    return bool(reply == b"PONG")
