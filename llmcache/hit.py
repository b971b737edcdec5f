"""A hit, in a straight line: it is what is done a million times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeAlias

from llmcache.backends.base import WouldWait
from llmcache.codec.frame import AWAITED, Entry, Frame, Sealed
from llmcache.codec.shapes import Read
from llmcache.codec.tree import decode, reader
from llmcache.guard import Visit
from llmcache.kept import Kept
from llmcache.keys.repeats import DigestOf
from llmcache.keys.request import Keyer
from llmcache.policy import MAX_CLOCK_SKEW, lifetime
from llmcache.process import Process
from llmcache.runtime import Runtime
from llmcache.stats import FEW_HITS, Counters

Reading: TypeAlias = "Callable[[bytes, bytes, Visit | None], Any]"
"""Returns the answer that a store's bytes are for the key of a digest, or an `Unanswered`."""


class Unanswered(NamedTuple):
    """Stands for the answer to a call that is no plain hit.

    Args:
        runtime: where the call was looked up; ``None`` if it was not.
        digest: the key's.
        visit: the use of the store that goes on; ``None`` if any will do.
        data: what the store has, which is not whole, is not fresh, or is awaited.
        error: what the store raised, if it failed.
        read: reads what the store has, if who asks must wait for that.
    """

    runtime: Runtime | None
    digest: bytes
    visit: Visit | None = None
    data: bytes | None = None
    error: Exception | None = None
    read: Reading | None = None


Known: TypeAlias = "tuple[Frame, bytes, float, float, float, Read, int]"
"""What a hit needs of an entry that it has read before.

That are the frame of the function that it answers, the digest of the key, from
when until when it is fresh, the seconds that the original call took, what makes
its value, and of what part of it.
"""

UNASKED: Final = Unanswered(None, b"")

NOW: Final = attrgetter("get_now")
AT_ONCE: Final = attrgetter("get_at_once")

Hit: TypeAlias = "Callable[[tuple[Any, ...], Mapping[str, Any]], Any]"
"""Returns the answer to a call, or an `Unanswered`."""


def ask_nobody(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Unanswered:
    """Leave every call to others."""
    return UNASKED


def _digest_of(runtime: Runtime) -> DigestOf | None:
    """Return what makes the digests of calls, if that is all that it takes to make them."""
    keyer = runtime.free
    if not isinstance(keyer, Keyer):
        return None
    # Who encrypts the answers wants no requests to be kept in clear.
    return keyer.remembering() if runtime.entries.frame.keyring is None else keyer.digest_of


def straight_line(
    runtime: Runtime, process: Process, counters: Counters, *, way: Callable[[Visit], Any]
) -> Hit:
    """Return what answers calls of what is bound to nothing, if they are hits.

    Whatever is out of the ordinary is left to the engine: settings that were
    changed, arguments without a canonical form, somebody who listens, entries
    that are not whole, results that are awaited. A store that may make its
    callers wait is asked within its deadline.

    Args:
        runtime: the function's.
        process: says whether the runtime still holds, and who listens.
        counters: the function's.
        way: how a store that may make its callers wait is asked, `NOW` or `AT_ONCE`.
    """
    store = runtime.direct
    digest_of = _digest_of(runtime)
    if digest_of is None or not runtime.enabled:
        return ask_nobody
    basis, prefix = runtime.basis, runtime.prefix
    get, begin = None if store is None else store.get, runtime.visit
    read, listeners = _reading(runtime, counters), process.listeners

    def hit(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if process.settings is not basis or listeners.callbacks:
            return UNASKED
        try:
            digest = digest_of(args, kwargs)
        except Exception:  # noqa: BLE001
            return UNASKED
        if digest is None:
            return UNASKED
        visit = None
        try:
            if get is not None:
                data = get(prefix + digest.hex())
            else:
                visit = begin()
                data = way(visit)(prefix + digest.hex())
        except WouldWait:
            return Unanswered(runtime, digest, visit, read=read)
        except Exception as error:  # noqa: BLE001
            return Unanswered(runtime, digest, visit, error=error)
        if data is None:
            return Unanswered(runtime, digest, visit)
        return read(data, digest, visit)

    return hit


def _reading(runtime: Runtime, counters: Counters) -> Reading:
    """Return what makes the answer of an entry, and counts the hit."""
    policy, frame = runtime.policy, runtime.entries.frame
    ttl, wall, open_entry = policy.ttl, policy.clock.wall, frame.open
    saved, add_up = counters.saved, counters.add_up
    kept = Kept()
    kept_for = kept.entries.get

    def read(data: bytes, digest: bytes, visit: Visit | None) -> Any:
        if type(data) is not Sealed:
            copy = kept_for(digest)
            if copy is not None and copy == data:
                data = copy
        try:
            known: Known | None = data.memo if type(data) is Sealed else None
            if known is not None and known[0] is frame and known[1] == digest:
                _, _, begins, ends, took, read_again, start = known
                if not begins <= wall() < ends:
                    return Unanswered(runtime, digest, visit, data)
                value = read_again(data[start:])
            else:
                entry, body, start = open_entry(data, digest)
                created, expires, _, took, flags, codec, _ = entry
                # As `judge` does it: to call that would take a fortieth of a hit.
                now = wall()
                in_time = now < expires and now - created < ttl > 0
                if not in_time or created > now + MAX_CLOCK_SKEW or flags & AWAITED:
                    return Unanswered(runtime, digest, visit, data)
                value = decode(codec, body, start)
                if body is data:
                    remember(data, digest, entry, start)
        except Exception:  # noqa: BLE001
            if type(data) is Sealed:
                # A class in it may be another one now.
                data.memo = None
            return Unanswered(runtime, digest, visit, data)
        saved.append(took)
        if len(saved) > FEW_HITS:
            add_up()
        return value

    def remember(data: bytes, digest: bytes, entry: Entry, start: int) -> None:
        """Keep what the next hit needs of an entry that was read just now."""
        sealed = data if type(data) is Sealed else kept.keep(digest, data)
        if sealed is None:
            return
        begins, ends = lifetime(entry.created, entry.expires, ttl)
        read_again, start = reader(entry.codec, data, start)
        sealed.memo = frame, digest, begins, ends, entry.duration, read_again, start

    return read
