"""A cluster: servers that share the keys out among them, by slots."""

from __future__ import annotations

import _thread
import asyncio
import random
import threading
from asyncio import CancelledError, Future
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias

from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError, TryAgainError

from llmcache.backends.apart import settle
from llmcache.backends.base import LONG, Blameless, Crowded, PartUnavailable
from llmcache.backends.redis_address import Address
from llmcache.backends.redis_link import Command, Expected, unreachable
from llmcache.backends.redis_node import Node
from llmcache.backends.redis_slots import SLOTS, Place, Range, find_slots, slot_of
from llmcache.errors import StoreUnavailable

PAUSE: Final = 0.5
"""Seconds between two looks at who has which slots."""

_STEPS: Final = 3
_FEW: Final = 2
_ASKING: Final = ("ASKING",)
_PATIENT: Final = "UNLINK"


class Turn(NamedTuple):
    """Whom to ask next.

    Args:
        node: that one.
        before: what to say to it first.
    """

    node: Node
    before: Command = ()


Slots: TypeAlias = "list[Node | None]"
"""The node of each slot."""

Outcome: TypeAlias = "Slots | Exception"


class Cluster:
    """The nodes of a cluster, and which of them has which key.

    - Who has which slots is found out in the background, from whatever node
      answers: before anything is asked, and again when a node says that a key
      is elsewhere, or fails.
    - A key that is elsewhere is asked for there, within the same deadline.
    - A node that fails is left alone by who looks up or stores, until it is
      back or another has its slots; all others are asked as ever.

    Args:
        seeds: those that are asked for the others.
        timeout: seconds that a node may add to one call altogether.
        connect_timeout: seconds until a connection must be made.
        limit: the most connections to each node, for all threads and for all
            tasks of a loop.
    """

    rounds: ClassVar[int] = 2

    def __init__(
        self, seeds: tuple[Address, ...], timeout: float, connect_timeout: float, limit: int
    ) -> None:
        self._seeds = seeds
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._limit = limit
        self._begin_anew()

    def ask(self, command: Command, expected: Expected, deadline: float) -> Any:
        """Return the reply to *command*, whose second part is a key, from who has the key.

        Raises:
            TimeoutError: there was none at *deadline*.
            PartUnavailable: the node that has the key fails.
            redis.RedisError, OSError: there is none.
        """
        turn = self._first(command, self._slots or self._learn(deadline))
        for _ in range(_STEPS):
            started = _in_time(deadline)
            try:
                reply = turn.node.ask(command, expected, deadline, turn.before)
            except TryAgainError:
                # While a slot moves, some of its keys are here and some are there.
                keys = _singly(command)
                return sum(self.ask(each, expected, deadline) for each in keys)
            except Exception as error:  # noqa: BLE001
                turn = self._next(turn.node, command, error, monotonic() - started)
            else:
                turn.node.worked()
                return reply
        raise StoreUnavailable("the nodes of a cluster do not agree on who has a key")

    async def aask(self, command: Command, expected: Expected, within: float) -> Any:
        """Do as `ask`, without blocking the event loop, within so many seconds."""
        deadline = monotonic() + within
        turn = self._first(command, self._slots or await self._alearn(within))
        for _ in range(_STEPS):
            started = _in_time(deadline)
            try:
                reply = await turn.node.aask(command, expected, deadline - started, turn.before)
            except TryAgainError:
                keys = _singly(command)
                return sum(
                    [await self.aask(each, expected, deadline - monotonic()) for each in keys]
                )
            except CancelledError:
                self._given_up(turn.node, monotonic() - started)
                raise
            except Exception as error:  # noqa: BLE001
                turn = self._next(turn.node, command, error, monotonic() - started)
            else:
                turn.node.worked()
                return reply
        raise StoreUnavailable("the nodes of a cluster do not agree on who has a key")

    def silence(self) -> float:
        """Say nothing of single nodes, which have breakers of their own."""
        return inf if self._slots is None else 0.0

    def all(self, deadline: float) -> Sequence[Node]:
        """Return all nodes that have slots, as it is now."""
        return _owners(self._learn(deadline))

    async def aall(self, within: float) -> Sequence[Node]:
        """Do as `all`, without blocking the event loop."""
        return _owners(await self._alearn(within))

    def together(self, keys: list[bytes]) -> list[list[bytes]]:
        """Return *keys*, grouped by their slots."""
        groups: dict[int, list[bytes]] = {}
        for key in keys:
            groups.setdefault(slot_of(key), []).append(key)
        return list(groups.values())

    def close(self) -> None:
        """Close all connections; those of other event loops close when these run or end."""
        for node in self._leave():
            node.close()

    async def aclose(self) -> None:
        """Do as `close`, without blocking the event loop."""
        for node in self._leave():
            await node.aclose()

    def forget(self) -> None:
        """Begin anew, in a process that was forked."""
        for node in self._nodes.values():
            node.forget()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._lock = threading.RLock()
        self._nodes: dict[Place, Node] = {}
        self._slots: Slots | None = None
        self._waiting: deque[Callable[[Outcome], object]] = deque()
        self._looking = False
        self._next_look = 0.0

    def _leave(self) -> list[Node]:
        with self._lock:
            nodes, self._nodes, self._slots = list(self._nodes.values()), {}, None
        return nodes

    def _first(self, command: Command, slots: Slots) -> Turn:
        """Return whom to ask first, unless it is known to fail."""
        node = slots[slot_of(command[1])]
        if node is None:
            self._look()
            raise PartUnavailable("no node of a cluster has the slot of a key")
        if command[0] != _PATIENT and node.breaker.turns_away():
            self._look()
            raise PartUnavailable(f"{node} is not asked")
        return Turn(node)

    def _next(self, node: Node, command: Command, error: Exception, seconds: float) -> Turn:
        """Return whom *node* says to ask instead; raise *error* if it says something else."""
        if isinstance(error, Blameless):
            raise error
        if not isinstance(error, ResponseError):
            node.breaker.failed(error, seconds)
            self._look()
            raise PartUnavailable(f"{node} failed ({type(error).__qualname__})") from error
        if isinstance(error, ClusterDownError):
            node.says_down()
            self._look()
            raise PartUnavailable(f"{node} says that the cluster is down") from error
        node.breaker.worked()
        if isinstance(error, AskError):
            there = self._node((error.host or node.address.place["host"], error.port))
            if not isinstance(error, MovedError):
                return Turn(there, _ASKING)
            if self._slots is not None:
                self._slots[slot_of(command[1])] = there
            self._look()
            return Turn(there)
        raise error

    def _given_up(self, node: Node, seconds: float) -> None:
        """Take note that somebody has stopped waiting for *node*."""
        if seconds >= self._timeout * LONG and node.silence() >= seconds:
            node.breaker.failed(TimeoutError(), seconds)
            self._look()

    def _node(self, place: Place) -> Node:
        with self._lock:
            if place not in self._nodes:
                address = self._seeds[0].at(*place)
                self._nodes[place] = Node(
                    address, self._timeout, self._connect_timeout, self._limit
                )
            return self._nodes[place]

    def _learn(self, deadline: float) -> Slots:
        """Return who has which slots, as it is found out now."""
        outcomes: SimpleQueue[Outcome] = SimpleQueue()
        _in_time(deadline)
        self._waiting.append(outcomes.put)
        self._begin_to_look()
        try:
            return _found(outcomes.get(timeout=min(deadline - monotonic(), threading.TIMEOUT_MAX)))
        except (Empty, ValueError):
            raise TimeoutError("the nodes of a cluster are not known in time") from None

    async def _alearn(self, within: float) -> Slots:
        """Do as `_learn`, without blocking the event loop."""
        outcome: Future[Outcome] = asyncio.get_running_loop().create_future()
        _in_time(monotonic() + within)
        self._waiting.append(lambda found: settle(outcome, partial(outcome.set_result, found)))
        self._begin_to_look()
        try:
            async with asyncio.timeout(within):
                return _found(await outcome)
        except TimeoutError:
            # If they are known now, it is this event loop that was late.
            kind = TimeoutError if self._slots is None else Crowded
            raise kind("the nodes of a cluster are not known in time") from None

    def _look(self) -> None:
        """Find out who has which slots, unless that has just been done."""
        if monotonic() >= self._next_look:
            self._begin_to_look()

    def _begin_to_look(self) -> None:
        with self._lock:
            if not self._looking:
                # No thread starts while the interpreter ends.
                with suppress(RuntimeError):
                    _thread.start_new_thread(self._look_around, ())

    def _look_around(self) -> None:
        """Find out who has which slots, and tell who waits for it."""
        with self._lock:
            if self._looking:
                return
            self._looking = True
        outcome: Outcome
        try:
            outcome = self._install(find_slots(self._whom(), self._connect_timeout))
        except Exception as error:  # noqa: BLE001
            outcome = error
        with self._lock:
            self._looking = False
            self._next_look = monotonic() + PAUSE
        with suppress(IndexError):
            while True:
                self._waiting.popleft()(outcome)

    def _whom(self) -> list[Address]:
        """Return who may know: some who were well, those that never change, and the others."""
        with self._lock:
            nodes = list(self._nodes.values())
        random.shuffle(nodes)
        nodes.sort(key=lambda node: node.breaker.is_open)
        well = [node.address for node in nodes[:_FEW] if not node.breaker.is_open]
        rest = [node.address for node in nodes if node.address not in well]
        return [*well, *self._seeds, *rest]

    def _install(self, ranges: list[Range]) -> Slots:
        """Let this be who has which slots."""
        slots: Slots = [None] * SLOTS
        with self._lock:
            for first, last, place in ranges:
                slots[first : last + 1] = [self._node(place)] * (last + 1 - first)
            places = {place for _, _, place in ranges}
            gone = [node for place, node in self._nodes.items() if place not in places]
            self._nodes = {place: self._nodes[place] for place in places}
            self._slots = slots
        for node in gone:
            node.close()
        return slots


def _in_time(deadline: float) -> float:
    """Return the time, if there is some left."""
    now = monotonic()
    if now >= deadline:
        raise TimeoutError("there is no time to ask")
    return now


def _singly(command: Command) -> list[Command]:
    """Return the same of each key alone."""
    if len(command) <= 2:
        raise StoreUnavailable("a node of a cluster does not know where a key is")
    return [(command[0], key) for key in command[1:]]


def _owners(slots: Slots) -> Sequence[Node]:
    owners = dict.fromkeys(slots)
    if None in owners:
        raise StoreUnavailable("some slots of a cluster have no node")
    return [node for node in owners if node is not None]


def _found(outcome: Outcome) -> Slots:
    if isinstance(outcome, Exception):
        raise unreachable(outcome)
    return outcome
