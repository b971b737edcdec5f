"""The connections of one event loop to one Redis server, for its tasks."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError, Future, Handle, Task, TimerHandle
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context
from math import inf
from time import monotonic
from typing import Any, Final, TypeAlias, cast

import redis

from llmcache.backends.base import LONG, Blameless, SlowTransfer
from llmcache.backends.redis_link import (
    RESPITE,
    STUCK,
    Command,
    Expected,
    Progress,
    Pulse,
    ended_at_once,
    unreachable,
)
from llmcache.backends.redis_task_link import TaskLink
from llmcache.errors import StoreUnavailable

Connect: TypeAlias = "Callable[[Progress], Coroutine[Any, Any, TaskLink]]"

_TURNS: Final = 5
"""Of an event loop, after which everything that had come before has been taken note of."""

_FEW: Final = 25
"""As many tasks as may be woken in one turn of an event loop, so that nobody else waits long."""


class Request:
    """What somebody asks, and what becomes of it.

    Args:
        command: what to ask, which does no harm if it is asked twice.
        expected: what the reply must be like.
        within: seconds that there are.
        before: what to say on the same connection just before, if anything.

    Attributes:
        began: when it was asked.
        deadline: in seconds of `time.monotonic`.
        outcome: the reply, or what is wrong: it may be that nobody waits for it.
        struck: when nobody had waited for it any longer.
        due: the turn of the event loop in which that is looked into.
        over: whether it has an outcome.
        link: the connection over which it is asked, or was last.
        asking: what asks, while it does.
    """

    def __init__(
        self, command: Command, expected: Expected, within: float, before: Command
    ) -> None:
        self.command = command
        self.expected = expected
        self.before = before
        self.within = within
        self.began = monotonic()
        self.deadline = self.began + within
        self.outcome: Future[tuple[Any, Exception | None]]
        self.timer: TimerHandle
        self.struck = inf
        self.due = 0
        self.over = False
        self.link: TaskLink | None = None
        self.asking: Task[None] | None = None

    @property
    def is_gone(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.outcome.done()

    def end(self, reply: Any, error: Exception | None = None) -> None:
        """Let this be the outcome."""
        self.over = True
        self.asking = None
        self.timer.cancel()
        if not self.outcome.done():
            self.outcome.set_result((reply, error))


class TaskLinks:
    """Gives each exchange a connection of its own, on one event loop.

    - Connections are made in the background, so that nobody waits for one
      longer than it may: it will be there for who comes next. As many at a
      time as there are, and one more: the first is not held up by the others.
    - An exchange that has begun runs to its end, also when the one who asked is
      cancelled.
    - Who has waited in vain is told a few at a time, and whether the server
      is to blame: only if it had owed an answer for half of that time, to
      this one, or to anybody else if this one was never asked.
    - All are closed when the event loop ends as `asyncio.run` ends it.

    Args:
        connect: makes a connection.
        limit: the most connections.
        pulse: of the server.
    """

    def __init__(self, connect: Connect, limit: int, pulse: Pulse) -> None:
        self._connect = connect
        self._limit = limit
        self._pulse = pulse
        self._ready: deque[TaskLink] = deque()
        self._open: set[TaskLink] = set()
        self._waiting: deque[Request] = deque()
        self._late: deque[Request] = deque()
        self._turn = 0
        self._sweeper: Handle | None = None
        self._next_attempt = 0.0
        # What runs for all must not hold what one caller had set.
        self._context = Context()
        self._attempts: dict[Task[None], Progress] = {}
        self._serving: dict[Task[None], tuple[TaskLink, Request]] = {}
        self._tasks: set[Task[None]] = set()
        self._closed = False
        self._presence = self._present()

    async def ask(
        self, command: Command, expected: Expected, within: float, before: Command = ()
    ) -> Any:
        """Do as `llmcache.backends.redis_links.Links.ask`, within so many seconds."""
        if within <= 0:
            raise TimeoutError("there is no time to ask")
        loop = asyncio.get_running_loop()
        request = Request(command, expected, within, before)
        request.outcome = loop.create_future()
        request.timer = loop.call_later(within, self._expire, request, context=self._context)
        self._accept(request)
        try:
            reply, error = await request.outcome
        except CancelledError:
            if monotonic() - request.began >= within * LONG:
                self._strike(request)
            raise
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
            self._leave_off()
            self._drop_ready()
            # A transport that was told to close does so in the next round.
            await asyncio.sleep(0)

    def _accept(self, request: Request) -> None:
        if self._ready:
            self._begin(self._ready.pop(), request)
        else:
            self._waiting.append(request)
            self._begin_to_connect()

    def _begin(self, link: TaskLink, request: Request) -> None:
        task = self._start(self._serve(link, request), self._served)
        self._serving[task] = link, request

    def _start(
        self, work: Coroutine[Any, Any, None], after: Callable[[Task[None]], object]
    ) -> Task[None]:
        # Not by the loop's factory: an eager one would begin before it is noted down.
        task = Task(work, loop=asyncio.get_running_loop(), context=self._context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard, context=self._context)
        task.add_done_callback(after, context=self._context)
        return task

    async def _serve(self, link: TaskLink, request: Request) -> None:
        """Ask what is to be asked over one connection, until there is nothing or it ends."""
        me = cast("Task[None]", asyncio.current_task())
        while await link.is_usable():
            if not request.is_gone:
                request.asking = me
                if not await self._exchange(link, request):
                    break
            if not self._is_wanted():
                del self._serving[me]
                self._put(link)
                return
            request = self._waiting.popleft()
            self._serving[me] = link, request
        del self._serving[me]
        self._drop(link)
        if request.over:
            return
        if link.made < request.began:
            self._accept(request)
        else:
            request.end(None, ended_at_once())

    def _served(self, task: Task[None]) -> None:
        """See to it that nobody waits for a task that was stopped, maybe before it began."""
        if task in self._serving:
            link, request = self._serving.pop(task)
            if not request.over:
                request.end(None, StoreUnavailable("the store cancelled what it did"))
            self._drop(link)

    async def _exchange(self, link: TaskLink, request: Request) -> bool:
        """Ask something, and say whether something else may be asked over the same connection."""
        is_first, request.link = request.link is None, link
        try:
            if request.before:
                await link.ask(request.before, request.deadline)
            reply = await link.ask(request.command, request.deadline)
            if not request.expected(reply):
                raise redis.InvalidResponse(f"this is no answer to {request.command[0]!r}")
        except redis.ResponseError as error:
            request.end(None, error)
        except Exception as error:  # noqa: BLE001
            request.asking = None
            if is_first and link.is_stale(error, request.began):
                self._drop_ready()
            else:
                request.end(None, error)
            return False
        else:
            request.end(reply)
        link.progress.end()
        self._pulse.heard()
        return True

    def _put(self, link: TaskLink) -> None:
        if self._is_wanted():
            self._begin(link, self._waiting.popleft())
        elif self._closed:
            self._drop(link)
        else:
            self._ready.append(link)

    def _drop(self, link: TaskLink) -> None:
        self._open.discard(link)
        link.close()
        self._begin_to_connect()

    def _drop_ready(self) -> None:
        """Drop all that nobody uses: each may be as dead as the one that was."""
        while self._ready:
            self._drop(self._ready.popleft())

    def _is_wanted(self) -> bool:
        """Say whether somebody waits for a connection."""
        while self._waiting and self._waiting[0].is_gone:
            self._waiting.popleft()
        return bool(self._waiting)

    def _begin_to_connect(self) -> None:
        while self._is_wanted() and self._is_short():
            progress = Progress()
            progress.step()
            attempt = self._start(self._attempt(progress), self._attempted)
            self._attempts[attempt] = progress

    def _is_short(self) -> bool:
        """Say whether there may be another connection, for those who wait."""
        now = monotonic()
        attempts = sum(progress.silence(now) < STUCK for progress in self._attempts.values())
        return (
            attempts < min(len(self._waiting), len(self._open) + 1)
            and len(self._attempts) + len(self._open) < self._limit
            and not (self._open and now < self._next_attempt)
        )

    async def _attempt(self, progress: Progress) -> None:
        try:
            try:
                link = await self._connect(progress)
            finally:
                # Who is told, or finds it broken, needs another attempt at once.
                self._attempted(cast("Task[None]", asyncio.current_task()))
        except Exception as error:  # noqa: BLE001
            if self._open:
                # Who waits may have one of these: so many the server lets us have.
                self._next_attempt = monotonic() + RESPITE
            while self._is_wanted() and not self._open:
                self._waiting.popleft().end(None, unreachable(error))
            return
        progress.end()
        self._pulse.heard()
        self._open.add(link)
        self._put(link)
        self._begin_to_connect()

    def _leave_off(self) -> None:
        """Go on connecting only for who waits."""
        if self._closed and not self._is_wanted():
            for attempt in list(self._attempts):
                attempt.cancel()

    def _attempted(self, attempt: Task[None]) -> None:
        self._attempts.pop(attempt, None)

    def _expire(self, request: Request) -> None:
        """Take note that there is no more time for *request*."""
        # Some event loops are a little early, and call nobody twice.
        request.deadline = min(request.deadline, monotonic())
        self._strike(request)

    def _strike(self, request: Request) -> None:
        """Take note that there is no more time for *request*, or nobody who waits."""
        request.struck = monotonic()
        # Only then is it known what had come by now.
        request.due = self._turn + _TURNS
        self._late.append(request)
        if self._sweeper is None:
            self._sweep_soon()

    def _sweep_soon(self) -> None:
        # Not a task: whoever ends the event loop could not stop one that begins then.
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_soon(self._sweep, context=self._context)

    def _sweep(self) -> None:
        """End a few of those who are late, and leave the others to the next turn."""
        self._sweeper = None
        try:
            self._turn += 1
            for _ in range(_FEW):
                if not self._late or self._late[0].due > self._turn:
                    break
                self._end(self._late[0])
                self._late.popleft()
        finally:
            if self._late:
                self._sweep_soon()
        self._leave_off()

    def _end(self, request: Request) -> None:
        """End *request*, if its time is over, and blame the server if that is why."""
        if request.over:
            return
        error: TimeoutError
        at = request.struck
        progress = request.link.progress if request.asking and request.link else None
        if progress and progress.is_large:
            error = SlowTransfer("a large value was on its way")
        else:
            silence = progress.silence(at) if progress else self._silence(at)
            error = self._pulse.why(silence, min(at - request.began, request.within), at)
        if request.struck >= request.deadline:
            asking = request.asking
            request.end(None, error)
            if asking:
                asking.cancel()
            if progress and not isinstance(error, Blameless):
                self._drop_ready()

    def _silence(self, at: float) -> float:
        """Return for how many seconds the server had owed somebody an answer at that time."""
        asked = [progress.asked for progress in self._attempts.values()]
        asked += [link.progress.asked for link in self._open]
        return self._pulse.silence(asked, at)
