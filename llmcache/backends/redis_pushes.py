"""What a Redis server says in RESP3, where it may speak without being asked."""

from __future__ import annotations

from time import monotonic
from typing import Any, Final, NamedTuple

import redis

from llmcache.backends.redis_link import Packer, Wire

PUSH: Final = b">"
ERROR: Final = (b"-", b"!")

_MOST: Final = 1 << 16
_END: Final = b"\r\n"
_BULKS: Final = b"$=!"
_LISTS: Final[dict[bytes, int]] = {b"*": 1, b"~": 1, b">": 1, b"%": 2}


class Said(NamedTuple):
    """One reply or push.

    Args:
        kind: its first byte on the wire.
        value: bytes, a list, or ``None``; a map is the list of its keys and values.
    """

    kind: bytes
    value: Any


class Unfinished(Exception):
    """There is more to come."""


class Pushes:
    """Reads replies and pushes from a connection, as they come.

    Args:
        wire: the connection, over which nothing is asked any more but here.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._heard = bytearray()

    def begin(self, prefix: bytes, deadline: float) -> None:
        """Have the server tell which keys of *prefix* change.

        Raises:
            redis.ResponseError: the server does not want to.
            OSError, ValueError: it cannot be understood or does not answer.
        """
        only = ("PREFIX", prefix) if prefix else ()
        for command in (("HELLO", 3), ("CLIENT", "TRACKING", "ON", "BCAST", *only)):
            self.send(*command, within=deadline - monotonic())
            if self.read(deadline).kind in ERROR:
                # Its text may repeat the name of a user.
                raise redis.ResponseError(f"{command[0]} is refused")

    def send(self, *command: str | bytes | int, within: float) -> None:
        """Ask for something; the reply comes when it comes."""
        self._wire.begin(monotonic() + within)
        for data in Packer().pack(*command):
            self._wire.sendall(data)

    def read(self, deadline: float) -> Said:
        """Return what is said next.

        Raises:
            TimeoutError: it was not said in full at *deadline*; what was heard
                counts when this is called again.
            ConnectionError: nothing will be said any more.
            ValueError: it cannot be understood.
        """
        while True:
            if monotonic() > deadline:
                raise TimeoutError("what the server says is heard too late")
            try:
                said, end = parse(self._heard)
            except Unfinished:
                self._wire.begin(deadline)
                data = self._wire.recv(_MOST)
                if not data:
                    raise ConnectionResetError("the server has hung up") from None
                self._heard += data
            else:
                del self._heard[:end]
                return said


def parse(data: bytes | bytearray, start: int = 0) -> tuple[Said, int]:
    """Return what is said from *start* on, and where it ends.

    Raises:
        Unfinished: there is more to come.
        ValueError: it cannot be understood.
    """
    line_end = data.find(_END, start)
    if line_end < 0:
        raise Unfinished
    kind, word, at = bytes(data[start : start + 1]), bytes(data[start + 1 : line_end]), line_end + 2
    if kind in _LISTS:
        parts = []
        for _ in range(int(word) * _LISTS[kind]):
            part, at = parse(data, at)
            parts.append(part.value)
        return Said(kind, parts), at
    if not kind or kind not in b"+-:_,#($=!":
        raise ValueError("this is no RESP3")
    if kind not in _BULKS:
        return Said(kind, None if kind == b"_" else word), at
    end = at + int(word)
    if len(data) < end + 2:
        raise Unfinished
    return Said(kind, bytes(data[at:end])), end + 2
