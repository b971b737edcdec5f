"""The connections of one process to one Redis server, for its threads."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from sys import getswitchinterval
from time import monotonic
from typing import Any, Final, NamedTuple
from weakref import ref

import redis

from llmcache.backends.base import Blameless, Crowded
from llmcache.backends.redis_link import (
    RESPITE,
    STUCK,
    Command,
    Expected,
    Link,
    Pulse,
    ended_at_once,
    unreachable,
)

_LOOK: Final = 0.02
"""Seconds after which a thread that waits looks how late it is woken."""


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
        self._next_attempt = 0.0
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
        began = monotonic()
        link: Link | None = None
        try:
            link = self._take(deadline, began)
            try:
                return self._exchange(link, command, expected, deadline, before)
            except redis.RedisError as error:
                if not link.is_stale(error, began):
                    raise
            link = None
            self._close_ready()
            link = self._take(deadline, began)
            return self._exchange(link, command, expected, deadline, before)
        except Blameless:
            raise
        except TimeoutError:
            at = monotonic()
            silence = self._silence(at) if link is None else link.wire.progress.silence(at)
            why = self._pulse.why(silence, deadline - began, at)
            if link is not None and not isinstance(why, Blameless):
                self._close_ready()
            raise why from None

    def close(self) -> None:
        """Close all connections, those in use when they have been used."""
        self._closed = True
        self._close_ready()

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

    def _silence(self, at: float) -> float:
        """Return for how many seconds the server had owed somebody an answer at that time."""
        asked = [link.wire.progress.asked for link in self._links()]
        return self._pulse.silence((*asked, *list(self._attempts.values())), at)

    def _take(self, deadline: float, began: float) -> Link:
        """Return a connection for what is asked since then."""
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
                if found.made >= began:
                    raise ended_at_once()
            elif found.time >= began:
                raise unreachable(found.error)

    def _wait(self, deadline: float) -> Link | Failure:
        me = threading.get_ident()
        self._waiting.add(me)
        late, looks = 0.0, 0
        try:
            self._begin_to_connect()
            while (now := monotonic()) < deadline:
                ends = min(now + _LOOK, deadline)
                with suppress(Empty):
                    return self._ready.get(timeout=ends - now)
                late, looks = late + monotonic() - ends, looks + 1
        finally:
            self._waiting.discard(me)
        if late > looks * getswitchinterval() and self._silence(now) < STUCK:
            raise Crowded("the threads of this process wait for one another")
        raise TimeoutError("no connection is ready in time")

    def _put(self, link: Link) -> None:
        self._ready.put(link)
        if self._closed and not self._waiting:
            self.close()

    def _close_ready(self) -> None:
        """Close all that nobody uses: each may be as dead as the one that was."""
        with suppress(Empty):
            while True:
                self._drop(self._ready.get_nowait())

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
        links = self._links()
        self._open = list(map(ref, links))
        now = monotonic()
        return (
            sum(now - began < STUCK for began in self._attempts.values()) < len(self._waiting)
            and len(self._attempts) + len(links) < self._limit
            and not (links and now < self._next_attempt)
        )

    def _links(self) -> list[Link]:
        """Return what is open."""
        links = [here() for here in self._open]
        return [link for link in links if link is not None and not link.closed]

    def _attempt(self) -> None:
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
            elif self._links():
                # Who waits may have one of these: so many the server lets us have.
                self._next_attempt = outcome.time + RESPITE
                return
        if isinstance(outcome, Link):
            self._heard(outcome)
        else:
            for _ in range(len(self._waiting)):
                self._ready.put(outcome)
