"""Values as the entries of a store, and entries as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmcache.codec.classes import ClassGone
from llmcache.codec.frame import CorruptEntry, Entry, Frame, UnreadableEntry
from llmcache.codec.size import exceeds
from llmcache.codec.tree import check_comes_back, decode, encode
from llmcache.errors import UncacheableValue
from llmcache.policy import Policy, judge


class TooLarge(UncacheableValue):
    """A value of more bytes than one entry may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFormat:
    """How the values of one function are kept.

    Args:
        policy: how long they live, and how large they may be.
        frame: how entries are sealed.
        metadata: stands in each entry.
    """

    policy: Policy
    frame: Frame
    metadata: bytes

    def write(
        self, value: Any, digest: bytes, *, ttl: float, duration: float, flags: int = 0
    ) -> bytes:
        """Return the entry of *value*.

        Args:
            value: what is kept.
            digest: the key's.
            ttl: seconds.
            duration: seconds that it took to make the value.
            flags: the frame's.

        Raises:
            TooLarge: if it is larger than it may be.
            UncacheableValue: if it would not come back as it is.
        """
        most = self.policy.max_value_bytes
        if exceeds(value, most):
            raise TooLarge("the result is too large")
        codec, payload = encode(value)
        if len(payload) > most:
            raise TooLarge("the result is too large")
        check_comes_back(value, codec, payload)
        now = self.policy.clock.wall()
        entry = Entry(
            created=now,
            expires=now + ttl,
            ttl=ttl,
            duration=max(duration, 0.0),
            flags=flags,
            codec=codec,
            metadata=self.metadata,
        )
        return self.frame.seal(entry, payload, digest)

    def read(self, data: bytes, digest: bytes, ttl: float) -> tuple[Entry, Any] | None:
        """Return an entry and its value, ``None`` if it may not answer any more or not here.

        Args:
            data: what a store returned.
            digest: the key's.
            ttl: seconds; an older entry does not answer, whatever it says.

        Raises:
            CorruptEntry: if it is not the entry that was stored under that key.
        """
        try:
            entry, payload = self.frame.unseal(data, digest)
            created, expires, _, _, _, codec, _ = entry
            if judge(created, expires, self.policy.clock.wall(), ttl) != "fresh":
                return None
            return entry, decode(codec, payload)
        except (ClassGone, UnreadableEntry, RecursionError):
            return None
        except CorruptEntry:
            raise
        except Exception as error:  # noqa: BLE001
            raise CorruptEntry(f"no payload: {type(error).__qualname__}") from None

    def answers(self, data: bytes, digest: bytes, ttl: float) -> bool:
        """Say whether *data* is an entry that may still answer, without making its value."""
        try:
            entry, _ = self.frame.unseal(data, digest)
        except (CorruptEntry, UnreadableEntry):
            return False
        now = self.policy.clock.wall()
        return judge(entry.created, entry.expires, now, ttl) == "fresh"
