"""Who has which keys of a cluster: each key is in one of its slots, and each slot at one node."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import Any, Final, NamedTuple, TypeAlias

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from llmcache.backends.redis_address import Address
from llmcache.backends.redis_link import SHARE, Link
from llmcache.errors import StoreUnavailable

SLOTS: Final = REDIS_CLUSTER_HASH_SLOTS

Place: TypeAlias = "tuple[str, int]"
"""Host and port of a node."""


class Range(NamedTuple):
    """Slots that follow each other, and are at one node.

    Args:
        first: of them.
        last: likewise.
        place: of their node.
    """

    first: int
    last: int
    place: Place


def slot_of(key: str | bytes | int) -> int:
    """Return the slot of a key.

    Example:
        >>> slot_of("a") == slot_of("{a}b") != slot_of("b")
        True
    """
    return key_slot(key if isinstance(key, bytes) else str(key).encode())


def find_slots(addresses: Iterable[Address], connect_timeout: float) -> list[Range]:
    """Return what the first of some nodes says that knows who has which slots.

    Args:
        addresses: of the nodes.
        connect_timeout: seconds that it may take altogether.

    Raises:
        StoreUnavailable: none of them knows in time.
    """
    ends = monotonic() + connect_timeout
    failure: Exception = TimeoutError()
    for address in addresses:
        within = min(connect_timeout * SHARE, ends - monotonic())
        if within <= 0:
            break
        try:
            return _ask(address, within)
        except Exception as error:  # noqa: BLE001
            failure = error
    why = type(failure).__qualname__
    raise StoreUnavailable(f"no node of the cluster tells who has which keys ({why})") from failure


def _ask(address: Address, within: float) -> list[Range]:
    ends = monotonic() + within
    link = Link(address, within)
    try:
        reply = link.ask(("CLUSTER", "SLOTS"), ends)
    finally:
        link.close()
    return parse_slots(reply, address.place["host"])


def parse_slots(reply: Any, host: str) -> list[Range]:
    """Return what the reply to ``CLUSTER SLOTS`` says.

    Args:
        reply: what came.
        host: whom it came from, which stands for a host that is not said.

    Raises:
        ValueError: it says nothing, or something else.
    """
    ranges = []
    for entry in reply if isinstance(reply, list) else ():
        match entry:
            case [int() as first, int() as last, [bytes() | None as named, int() as port, *_], *_]:
                place = (named or b"").decode() or host, port
                ranges.append(Range(first, last, place))
            case _:
                raise ValueError("this is no range of slots")
    if not ranges or not all(0 <= r.first <= r.last < SLOTS for r in ranges):
        raise ValueError("these are no slots")
    return ranges
