"""What stands around a value in a store: proof that it answers this key, and is whole.

.. code-block:: text

    checksum   16  SHA-256 over all that follows, its first half
    magic       4  b"LLMC"
    version     1
    flags       1  1: awaited, 2: encrypted
    codec       1  how the payload is written
    packing     1  how it is compressed: 0 not, 1 zlib, 2 zstd
    metadata    4  its length
    plain       8  the payload's length before compression and encryption
    created     8  seconds since the epoch, as a double
    expires     8  likewise, infinity for never
    ttl         8  seconds
    duration    8  seconds that the original call took
    digest     32  the key's
    metadata    …  JSON
    payload     …

Numbers are little-endian. An encrypted payload is a mark of the key (4), a
nonce (12) and AES-GCM, with all from the magic to the metadata as associated
data.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from math import inf
from typing import Any, Final, Literal, NamedTuple

from llmcache.codec.compression import THRESHOLD, compress, decompress
from llmcache.codec.encryption import Keyring
from llmcache.errors import LLMCacheError

VERSION: Final = 1
MAGIC: Final = b"LLMC"
AWAITED: Final = 1
ENCRYPTED: Final = 2
_KNOWN_FLAGS: Final = AWAITED | ENCRYPTED

_HEADER: Final = struct.Struct("<4sBBBBIQdddd32s")
_CHECKSUM: Final = 16
_BODY: Final = _CHECKSUM + _HEADER.size
_SMALL: Final = 1 << 16
_unpack = _HEADER.unpack_from
_sha256 = hashlib.sha256


class CorruptEntry(LLMCacheError, ValueError):
    """Bytes that are no entry, not a whole one, or not the one that was asked for."""


class UnreadableEntry(LLMCacheError, LookupError):
    """A whole entry that this function may not or cannot read: a miss, and no fault of it."""


class Entry(NamedTuple):
    """What an entry says besides its value.

    Args:
        created: seconds since the epoch.
        expires: seconds since the epoch, ``inf`` for never.
        ttl: seconds.
        duration: seconds that the original call took.
        flags: `AWAITED` if the original result had to be awaited though the
            function is no coroutine function.
        codec: how the payload is written.
        metadata: JSON, opaque here.
    """

    created: float
    expires: float
    ttl: float
    duration: float
    flags: int
    codec: int
    metadata: bytes


def expires_of(data: bytes) -> float | None:
    """Return when an entry expires by its own account, ``None`` if it is none of this version.

    Nothing is proven by that.
    """
    if len(data) < _BODY:
        return None
    magic, version, *_, expires, _, _, _ = _unpack(data, _CHECKSUM)
    return expires if magic == MAGIC and version == VERSION else None


class Sealed(bytes):
    """Bytes that stay in this process, and so need to be proven once, or never if it sealed them.

    Bytes cannot change, and a copy that went through a store is not of this
    class. What they say is read once.
    """

    proven: tuple[Frame, bytes, Entry, int] | None = None
    """The frame that proved it, the key's digest, what it says, and where its payload starts."""

    memo: Any = None
    """What who reads it has found out, and needs when reading it again."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        # A copy goes without what only this process knows.
        return bytes, (bytes(self),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """How the entries of one function are sealed and read.

    Args:
        max_plain: entries with a longer payload are not read.
        compress: the algorithm for payloads of some length, or ``None``.
        keyring: encrypts payloads, or ``None``.
    """

    max_plain: int
    compress: Literal["zlib", "zstd"] | None = None
    keyring: Keyring | None = None

    def seal(self, entry: Entry, payload: bytes, digest: bytes) -> bytes:
        """Return *entry* and its payload as the bytes that answer the key of *digest*."""
        plain, packing, flags = len(payload), 0, entry.flags
        if self.compress is not None and len(payload) >= THRESHOLD:
            packing, payload = compress(payload, self.compress)
        if self.keyring is not None:
            flags |= ENCRYPTED
        header = _HEADER.pack(
            MAGIC,
            VERSION,
            flags,
            entry.codec,
            packing,
            len(entry.metadata),
            plain,
            entry.created,
            entry.expires,
            entry.ttl,
            entry.duration,
            digest,
        )
        head = header + entry.metadata
        if self.keyring is not None:
            payload = self.keyring.encrypt(payload, head)
        body = head + payload
        sealed = _sha256(body).digest()[:_CHECKSUM] + body
        if packing or flags & ENCRYPTED:
            return sealed
        memo = Sealed(sealed)
        memo.proven = self, digest, entry, _BODY + len(entry.metadata)
        return memo

    def unseal(self, data: bytes, digest: bytes) -> tuple[Entry, bytes]:
        """Return the entry that *data* is, and its payload; it raises what `open` does."""
        entry, body, start = self.open(data, digest)
        return entry, body[start:]

    def open(self, data: bytes, digest: bytes) -> tuple[Entry, bytes, int]:
        """Return the entry that *data* is, bytes that end with its payload, and its start in them.

        Raises:
            UnreadableEntry: if it is encrypted with a key, or compressed in a
                way, that this process does not have, or larger than it reads.
            CorruptEntry: unless *data* is a whole entry of this version, as
                it was sealed, for the key of *digest*.
        """
        if type(data) is Sealed and (proven := data.proven) is not None:
            frame, owner, entry, start = proven
            if frame is self and owner == digest:
                return entry, data, start
        return self._prove(data, digest)

    def _prove(self, data: bytes, digest: bytes) -> tuple[Entry, bytes, int]:
        size = len(data)
        if size < _BODY:
            raise CorruptEntry("too short for an entry")
        magic, version, flags, codec, packing, meta, plain, created, expires, ttl, took, owner = (
            _unpack(data, _CHECKSUM)
        )
        if magic != MAGIC or version != VERSION or flags > _KNOWN_FLAGS:
            raise CorruptEntry("not an entry of this version")
        if owner != digest:
            raise CorruptEntry("the entry of another key")
        body = data[_CHECKSUM:] if size < _SMALL else memoryview(data)[_CHECKSUM:]
        if _sha256(body).digest()[:_CHECKSUM] != data[:_CHECKSUM]:
            raise CorruptEntry("changed since it was sealed")
        if not 0 <= took < inf:
            raise CorruptEntry("of a call that took no time that there is")
        start = _BODY + meta
        if start > size:
            raise CorruptEntry("not as long as it says")
        entry = Entry(created, expires, ttl, took, flags, codec, data[_BODY:start])
        payload, at = data, start
        if packing or flags & ENCRYPTED:
            payload = self._unpack(data[start:], data[_CHECKSUM:start], flags, packing, plain)
            at = 0
        elif self.keyring is not None:
            raise UnreadableEntry("not encrypted")
        if len(payload) - at != plain:
            raise CorruptEntry("not as long as it says")
        if plain > self.max_plain:
            raise UnreadableEntry("larger than this function reads")
        if type(data) is Sealed and payload is data:
            data.proven = self, digest, entry, start
        return entry, payload, at

    def _unpack(self, payload: bytes, head: bytes, flags: int, packing: int, plain: int) -> bytes:
        if plain > self.max_plain:
            raise UnreadableEntry("larger than this function reads")
        try:
            if flags & ENCRYPTED:
                if self.keyring is None:
                    raise UnreadableEntry("encrypted, and there is no key")
                payload = self.keyring.decrypt(payload, head)
            elif self.keyring is not None:
                raise UnreadableEntry("not encrypted")
            return decompress(packing, payload, plain) if packing else payload
        except UnreadableEntry:
            raise
        except LookupError as error:
            raise UnreadableEntry(str(error)) from None
        except ValueError as error:
            raise CorruptEntry(str(error)) from None
