"""What a Redis server says of its own accord: which keys were set, deleted or are over."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from socket import SHUT_RDWR
from time import monotonic
from typing import Any, Final
from weakref import WeakSet

import redis

from llmcache.backends.base import Changes
from llmcache.backends.redis_link import Link
from llmcache.backends.redis_pushes import ERROR, PUSH, Pushes
from llmcache.breaker import FIRST_PAUSE, LONGEST_PAUSE

logger: Final = logging.getLogger("llmcache")

LONGEST_SILENCE: Final = 15.0
"""Seconds without a word from the server after which it is taken to be gone."""

REFUSED_PAUSE: Final = 10.0
"""Seconds until a server is asked again that does not want to tell of changes."""

_PATIENCE: Final = 1.0
_WHAT: Final = "being told of changes by the Redis server"


class Watch:
    """One thread that listens to a server.

    Attributes:
        thread: the thread.
        link: its connection, if there is one.
        over: set when it is to end.
    """

    def __init__(self, run: Callable[[Watch], None]) -> None:
        self.link: Link | None = None
        self.over = threading.Event()
        self.thread = threading.Thread(
            target=run, args=(self,), name="llmcache-tracking", daemon=True
        )

    def end(self) -> None:
        """Have the thread end, whatever it waits for."""
        self.over.set()
        link = self.link
        if link is not None:
            # To close it is left to the thread: it may be about to read.
            with suppress(OSError):
                link.wire.shutdown(SHUT_RDWR)


class Tracking:
    """Tells who follows which keys of one prefix change in one server.

    - It has one connection and one thread, from the first who follows on, as
      long as anybody does, and until `close`.
    - The server is asked for a sign of life again and again: one that says
      nothing for as long as the least patient follower allows is lost.
    - A connection that is lost is made again. One log line says each change.

    Args:
        connect: makes a connection.
        prefix: of the keys, which they are told without.
    """

    def __init__(self, connect: Callable[[], Link], prefix: str) -> None:
        self._connect = connect
        self._prefix = prefix.encode()
        self._lock = threading.RLock()
        self._followers: WeakSet[Changes] = WeakSet()
        self._silence = LONGEST_SILENCE
        self._watch: Watch | None = None
        self._live = False
        self._failing = False

    @property
    def is_open(self) -> bool:
        """Whether there is a thread."""
        return self._watch is not None

    def follow(self, changes: Changes) -> None:
        """Tell *changes* what changes, until it is gone; begin to listen if nobody did yet."""
        with self._lock:
            if changes not in self._followers:
                self._followers.add(changes)
                if changes.ttl < self._silence:
                    self._silence = changes.ttl
                    self._end()
                elif self._live:
                    changes.began()
            if self._watch is None:
                watch = Watch(self._run)
                # No thread starts while the interpreter ends.
                with suppress(RuntimeError):
                    watch.thread.start()
                    self._watch = watch

    def close(self) -> None:
        """Stop listening, and let who follows know."""
        with self._lock:
            watch = self._end()
            self._followers.clear()
        if watch is not None and watch.thread is not threading.current_thread():
            watch.thread.join(_PATIENCE)

    def forget(self) -> None:
        """Begin anew, in a process that was forked."""
        inherited, self._watch = self._watch, None
        self._lock = threading.RLock()
        self._followers = WeakSet()
        self._silence = LONGEST_SILENCE
        self._live = self._failing = False
        if inherited is not None and inherited.link is not None:
            inherited.link.close()

    def _run(self, watch: Watch) -> None:
        pause = FIRST_PAUSE
        while self._goes_on(watch):
            try:
                self._listen(watch)
            except Exception as error:  # noqa: BLE001
                pause = FIRST_PAUSE if self._live else min(pause * 2, LONGEST_PAUSE)
                self._lost(watch, error)
                if isinstance(error, redis.ResponseError):
                    pause = REFUSED_PAUSE
            else:
                return
            finally:
                link, watch.link = watch.link, None
                if link is not None:
                    link.close()
            watch.over.wait(pause * random.uniform(0.75, 1.0))  # noqa: S311

    def _listen(self, watch: Watch) -> None:
        """Pass on what the server says, until nobody wants to know."""
        watch.link = link = self._connect()
        proven, asked, silence = monotonic(), False, self._silence
        pushes = Pushes(link.wire)
        pushes.begin(self._prefix, proven + silence)
        self._began(watch)
        sent = proven
        while self._goes_on(watch):
            now = monotonic()
            if not asked and now >= proven + silence / 3:
                pushes.send("PING", within=silence / 3)
                sent, asked = now, True
            # A process that was stopped has no news of that time, and no time left.
            deadline = proven + (silence if asked else silence / 3)
            try:
                said = pushes.read(deadline)
            except TimeoutError:
                if asked:
                    raise
                continue
            if said.kind == PUSH:
                self._pushed(watch, said.value)
            elif said.kind in ERROR:
                raise redis.ResponseError("PING is refused")
            else:
                proven, asked = sent, False

    def _goes_on(self, watch: Watch) -> bool:
        with self._lock:
            if self._watch is watch and not self._followers:
                self._watch, self._live = None, False
            return self._watch is watch

    def _began(self, watch: Watch) -> None:
        with self._lock:
            if self._watch is not watch:
                return
            self._live = True
            failed, self._failing = self._failing, False
            for changes in self._followers:
                changes.began()
        if failed:
            logger.warning("%s is back", _WHAT)

    def _pushed(self, watch: Watch, push: list[Any]) -> None:
        with self._lock:
            if self._watch is not watch or push[0] != b"invalidate":
                return
            keys = push[1]
            if keys is None:
                # All of them: the server was flushed.
                for changes in self._followers:
                    changes.began()
                return
            names = [key.removeprefix(self._prefix).decode("ascii", "replace") for key in keys]
            for changes in self._followers:
                for name in names:
                    changes.changed(name)

    def _lost(self, watch: Watch, error: Exception) -> None:
        with self._lock:
            if self._watch is not watch:
                return
            self._tell_lost()
            failed, self._failing = self._failing, True
        if not failed:
            logger.warning(
                "%s failed (%s): memory tiers keep copies for their own ttl until it is back",
                _WHAT,
                type(error).__qualname__,
            )

    def _end(self) -> Watch | None:
        """Have the thread end, if there is one."""
        self._tell_lost()
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.end()
        return watch

    def _tell_lost(self) -> None:
        if self._live:
            self._live = False
            for changes in self._followers:
                changes.lost()
