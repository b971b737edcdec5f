"""The connections of one process to one Redis server, for its threads."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, NamedTuple
from weakref import ref

import redis

from llmcache.backends.base import SlowTransfer
from llmcache.backends.redis_link import Command, Expected, Link, Pulse, unreachable


class Failure(NamedTuple):
    """Says to who waits for a connection that there will be none."""

    error: Exception
    time: float


class Links:
    """Gives each exchange a connection of its own.

    - Connections are made by threads in the background, so that nobody waits
      for one longer than it may: it will be there for who comes next.
    - Between two exchanges a connection is here, within one it is not. One
      whose exchange does not end well does not come back, whatever ends it:
      nobody can read another's reply.
    - What is open is counted by what there is, not by who says that it took or
      gave something: no exception at whatever instant makes the pool smaller.
    - Signal handlers may use it in the middle of anything.

    Args:
        connect: makes a connection.
        limit: the most connections.
        pulse: of the server.
    """

    def __init__(self, connect: Callable[[], Link], limit: int, pulse: Pulse) -> None:
        self._connect = connect
        self._limit = limit
        self._pulse = pulse
        self._ready: SimpleQueue[Link | Failure] = SimpleQueue()
        self._lock = threading.RLock()
        self._open: list[ref[Link]] = []
        self._attempts: dict[object, float] = {}
        self._waiting: set[int] = set()
        self._closed = False

    def ask(
        self, command: Command, expected: Expected, deadline: float, before: Command = ()
    ) -> Any:
        """Return the reply to *command*, from another connection if the first is found closed.

        Args:
            command: what to ask, which does no harm if it is asked twice.
            expected: what the reply must be like.
            deadline: in seconds of `time.monotonic`.
            before: what to say on the same connection just before, if anything.

        Raises:
            TimeoutError: there was none at *deadline*.
            redis.RedisError, OSError: there is none.
        """
        started = monotonic()
        used: list[Link] = []
        try:
            used.append(self._take(deadline))
            try:
                return self._exchange(used[-1], command, expected, deadline, before)
            except redis.RedisError as error:
                if not used[-1].is_stale(error):
                    raise
            used.append(self._take(deadline))
            return self._exchange(used[-1], command, expected, deadline, before)
        except SlowTransfer:
            raise
        except TimeoutError:
            at = monotonic()
            raise self._pulse.why(self._silence(at, used), deadline - started, at) from None

    def close(self) -> None:
        """Close all connections, those in use when they have been used."""
        self._closed = True
        with suppress(Empty):
            while True:
                self._drop(self._ready.get_nowait())

    def _exchange(
        self, link: Link, command: Command, expected: Expected, deadline: float, before: Command
    ) -> Any:
        try:
            if before:
                link.ask(before, deadline)
            reply = link.ask(command, deadline)
            if not expected(reply):
                raise redis.InvalidResponse(f"this is no answer to {command[0]!r}")
        except redis.ResponseError:
            self._heard(link)
            raise
        except BaseException:
            self._drop(link)
            raise
        self._heard(link)
        return reply

    def _heard(self, link: Link) -> None:
        link.wire.progress.end()
        self._pulse.heard()
        self._put(link)

    def _silence(self, at: float, used: Iterable[Link]) -> float:
        """Return for how many seconds the server had owed somebody an answer at that time.

        Args:
            at: that time.
            used: connections to take into account that may be closed by now.
        """
        links = [link for link in (here() for here in self._open) if link is not None]
        asked = [link.wire.progress.asked for link in (*links, *used)]
        return self._pulse.silence((*asked, *list(self._attempts.values())), at)

    def _take(self, deadline: float) -> Link:
        started = monotonic()
        while True:
            if monotonic() >= deadline:
                raise TimeoutError("there is no time for a connection")
            try:
                found = self._ready.get_nowait()
            except Empty:
                found = self._wait(deadline)
            if isinstance(found, Link):
                if found.is_usable():
                    return found
                self._drop(found)
            elif found.time >= started:
                raise unreachable(found.error)

    def _wait(self, deadline: float) -> Link | Failure:
        me = threading.get_ident()
        self._waiting.add(me)
        try:
            self._begin_to_connect()
            return self._ready.get(timeout=min(deadline - monotonic(), threading.TIMEOUT_MAX))
        except (Empty, ValueError):
            raise TimeoutError("no connection is ready in time") from None
        finally:
            self._waiting.discard(me)

    def _put(self, link: Link) -> None:
        self._ready.put(link)
        if self._closed and not self._waiting:
            self.close()

    def _drop(self, link: Link | Failure) -> None:
        if isinstance(link, Link):
            link.close()
        if self._waiting:
            with suppress(RuntimeError):
                self._begin_to_connect()

    def _begin_to_connect(self) -> None:
        with self._lock:
            if self._is_short():
                # `threading.Thread` waits until it runs, and an exception from a
                # signal handler in the middle of that would be lost.
                _thread.start_new_thread(self._attempt, ())

    def _is_short(self) -> bool:
        """Say whether there may be another connection, and somebody needs it."""
        links = [(here, here()) for here in self._open]
        self._open = [here for here, link in links if link is not None and not link.closed]
        attempts = len(self._attempts)
        return attempts < len(self._waiting) and attempts + len(self._open) < self._limit

    def _attempt(self) -> None:  # pragma: no cover - where nobody measures
        me = object()
        with self._lock:
            if not self._is_short():
                return
            self._attempts[me] = monotonic()
        outcome: Link | Failure
        try:
            outcome = self._connect()
        except Exception as error:  # noqa: BLE001
            outcome = Failure(error, monotonic())
        # Who finds the new connection broken needs another attempt at once.
        with self._lock:
            del self._attempts[me]
            if isinstance(outcome, Link):
                self._open.append(ref(outcome))
        if isinstance(outcome, Link):
            self._heard(outcome)
        else:
            for _ in range(len(self._waiting)):
                self._ready.put(outcome)
