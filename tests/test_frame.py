"""What is not exactly what was sealed, for this key, is no entry."""

from __future__ import annotations

import copy
import hashlib
import os
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from math import inf
from pickle import dumps, loads
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmcache import LLMCacheError
from llmcache.codec.encryption import Keyring
from llmcache.codec.frame import (
    AWAITED,
    ENCRYPTED,
    CorruptEntry,
    Entry,
    Frame,
    Sealed,
    UnreadableEntry,
)

DIGEST = hashlib.sha256(b"this key").digest()
OTHER = hashlib.sha256(b"another key").digest()
KEYS = Keyring([bytes(range(32))])
PAYLOAD = b"answer " * 120
LONG = b"a long answer " * 5000
ENTRY = Entry(
    created=1_700_000_000.25,
    expires=1_700_003_600.25,
    ttl=3600.0,
    duration=1.5,
    flags=AWAITED,
    codec=2,
    metadata=b'{"function":"module.function"}',
)
PLAIN = Frame(max_plain=100_000)
ZLIB = replace(PLAIN, compress="zlib")
ZSTD = replace(PLAIN, compress="zstd")
SECRET = replace(PLAIN, keyring=KEYS)
FRAMES = {
    "plain": PLAIN,
    "zlib": ZLIB,
    "zstd": ZSTD,
    "secret": SECRET,
    "secret zlib": replace(ZLIB, keyring=KEYS),
    "secret zstd": replace(ZSTD, keyring=KEYS),
}
SEALED = bytes(PLAIN.seal(ENTRY, PAYLOAD, DIGEST))
HEADER = 100
MAGIC, VERSION, FLAGS, PACKING, METADATA, LENGTH, CREATED, KEY = 16, 20, 21, 23, 24, 28, 36, 68

in_any_frame = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
numbers = st.floats(allow_nan=False)
digests = st.binary(min_size=32, max_size=32)
entries = st.builds(
    Entry,
    created=numbers,
    expires=numbers,
    ttl=numbers,
    duration=st.floats(min_value=0, allow_nan=False, allow_infinity=False),
    flags=st.sampled_from([0, AWAITED]),
    codec=st.integers(0, 255),
    metadata=st.binary(),
)


def sealed(frame: Frame, payload: bytes = PAYLOAD) -> bytes:
    """Return an entry as it comes from another process."""
    return bytes(frame.seal(ENTRY, payload, DIGEST))


def forged(data: bytes, at: int, patch: bytes) -> bytes:
    """Return an entry with other bytes at one place, and the right checksum for them."""
    body = data[16:at] + patch + data[at + len(patch) :]
    return hashlib.sha256(body).digest()[:16] + body


def is_corrupt(data: bytes, frame: Frame = PLAIN, digest: bytes = DIGEST) -> bool:
    try:
        frame.unseal(data, digest)
    except CorruptEntry:
        return True
    return False


@in_any_frame
@given(entries, st.binary(), digests)
@example(ENTRY._replace(expires=inf, ttl=inf, metadata=b""), b"", DIGEST)
@example(ENTRY, LONG, DIGEST)
def test_an_entry_comes_back_as_it_was(
    frame: Frame, entry: Entry, payload: bytes, digest: bytes
) -> None:
    data = frame.seal(entry, payload, digest)
    for found, content in (frame.unseal(data, digest), frame.unseal(bytes(data), digest)):
        assert found._replace(flags=found.flags & ~ENCRYPTED) == entry
        assert content == payload


@in_any_frame
def test_an_entry_answers_its_own_key_alone(frame: Frame) -> None:
    for digest in (OTHER, DIGEST[:-1], b"", DIGEST + b"\0", bytes(32)):
        assert is_corrupt(frame.seal(ENTRY, PAYLOAD, DIGEST), frame, digest)
        assert is_corrupt(sealed(frame), frame, digest)
        assert is_corrupt(sealed(frame, LONG), frame, digest)


@in_any_frame
def test_a_cut_entry_is_corrupt(frame: Frame) -> None:
    for payload in (PAYLOAD, LONG):
        data = sealed(frame, payload)
        assert all(is_corrupt(data[:size], frame) for size in range(min(len(data), 2000)))
        assert all(is_corrupt(data[start:], frame) for start in range(1, min(len(data), 200)))
        assert is_corrupt(data[:-1], frame)


@in_any_frame
def test_an_entry_with_a_flipped_bit_is_corrupt(frame: Frame) -> None:
    data = sealed(frame)
    assert 950 < len(data) < 1100
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            assert is_corrupt(bytes(flipped), frame)


@in_any_frame
@given(st.binary(min_size=1, max_size=200))
@example(b"\0")
@example(SEALED)
def test_an_entry_with_more_after_it_is_corrupt(frame: Frame, more: bytes) -> None:
    assert is_corrupt(sealed(frame) + more, frame)


@in_any_frame
@given(st.binary(max_size=500))
@example(b"")
@example(bytes(len(SEALED)))
def test_other_bytes_are_corrupt(frame: Frame, data: bytes) -> None:
    assert is_corrupt(data, frame)
    for size in (16, 22, 60, HEADER):
        assert is_corrupt(SEALED[:size] + data, frame)


def test_an_unforged_entry_is_whole() -> None:
    assert forged(SEALED, MAGIC, b"LLMC") == SEALED
    assert forged(SEALED, KEY, DIGEST) == SEALED
    assert struct.unpack_from("<IQd", SEALED, METADATA) == (
        len(ENTRY.metadata),
        len(PAYLOAD),
        ENTRY.created,
    )


@pytest.mark.parametrize(
    ("at", "patch"),
    [
        (MAGIC, b"LLMX"),
        (VERSION, b"\0"),
        (VERSION, b"\2"),
        (FLAGS, b"\4"),
        (FLAGS, b"\xff"),
        (METADATA, struct.pack("<I", 0)),
        (METADATA, struct.pack("<I", len(ENTRY.metadata) + 1)),
        (METADATA, struct.pack("<I", 2**32 - 1)),
        (METADATA, struct.pack("<IQ", len(ENTRY.metadata) + len(PAYLOAD) + 1, 0)),
        (METADATA, struct.pack("<IQ", 2**32 - 1, 0)),
        (LENGTH, struct.pack("<Q", 0)),
        (LENGTH, struct.pack("<Q", len(PAYLOAD) - 1)),
        (LENGTH, struct.pack("<Q", 2**64 - 1)),
        (KEY, OTHER),
    ],
    ids=repr,
)
def test_a_right_checksum_does_not_make_an_entry(at: int, patch: bytes) -> None:
    assert is_corrupt(forged(SEALED, at, patch))


@pytest.mark.parametrize("frame", [ZLIB, ZSTD], ids=["zlib", "zstd"])
def test_long_payloads_are_compressed(frame: Frame) -> None:
    assert len(sealed(frame, LONG)) < len(LONG) / 10
    assert sealed(frame) == SEALED
    assert PLAIN.unseal(sealed(frame, LONG), DIGEST) == (ENTRY, LONG)


@pytest.mark.parametrize("length", [0, 1, len(LONG) - 1, len(LONG) + 1])
@pytest.mark.parametrize("frame", [ZLIB, ZSTD], ids=["zlib", "zstd"])
def test_a_compressed_payload_is_as_long_as_it_says(frame: Frame, length: int) -> None:
    assert is_corrupt(forged(sealed(frame, LONG), LENGTH, struct.pack("<Q", length)), frame)


@pytest.mark.parametrize("packing", [1, 2])
def test_what_was_not_compressed_is_corrupt_if_it_says_so(packing: int) -> None:
    assert is_corrupt(forged(SEALED, PACKING, bytes([packing])))


@pytest.mark.parametrize("more", [b"\0", zlib.compress(b"more")])
def test_nothing_follows_a_compressed_payload(more: bytes) -> None:
    assert is_corrupt(forged(sealed(ZLIB, LONG) + more, MAGIC, b"LLMC"))


@in_any_frame
def test_what_is_larger_than_a_function_reads_is_not_read(frame: Frame) -> None:
    data = sealed(frame, LONG)
    assert replace(frame, max_plain=len(LONG)).unseal(data, DIGEST)[1] == LONG
    with pytest.raises(UnreadableEntry):
        replace(frame, max_plain=len(LONG) - 1).unseal(data, DIGEST)


def test_a_bomb_does_not_go_off() -> None:
    bomb = sealed(ZLIB, bytes(3 * 10**7))
    with pytest.raises(UnreadableEntry):
        PLAIN.unseal(bomb, DIGEST)
    tracemalloc.start()
    try:
        assert is_corrupt(forged(bomb, LENGTH, struct.pack("<Q", 1000)))
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_a_compression_of_another_version_is_a_miss() -> None:
    with pytest.raises(UnreadableEntry):
        PLAIN.unseal(forged(SEALED, PACKING, b"\3"), DIGEST)


def test_a_compression_that_is_not_installed_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    data = sealed(ZSTD, LONG)
    for module in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnreadableEntry):
        PLAIN.unseal(data, DIGEST)


@pytest.mark.parametrize("payload", [PAYLOAD, LONG], ids=["short", "long"])
@pytest.mark.parametrize("name", ["secret", "secret zlib", "secret zstd"])
def test_an_encrypted_payload_cannot_be_read(name: str, payload: bytes) -> None:
    frame = FRAMES[name]
    one, two = sealed(frame, payload), sealed(frame, payload)
    assert one != two
    assert b"answer" not in one
    for reader in (PLAIN, ZLIB, replace(frame, keyring=Keyring([os.urandom(32)]))):
        with pytest.raises(UnreadableEntry):
            reader.unseal(one, DIGEST)


def test_what_is_not_encrypted_is_not_read_by_who_encrypts() -> None:
    for data in (PLAIN.seal(ENTRY, PAYLOAD, DIGEST), SEALED, sealed(ZLIB, LONG)):
        with pytest.raises(UnreadableEntry):
            SECRET.unseal(data, DIGEST)


def test_keys_are_replaced_one_by_one() -> None:
    old, new = os.urandom(32), os.urandom(16)
    before, between, after = (
        replace(PLAIN, keyring=Keyring(keys)) for keys in ([old], [new, old], [new])
    )
    assert between.unseal(sealed(before), DIGEST)[1] == PAYLOAD
    assert after.unseal(sealed(between), DIGEST)[1] == PAYLOAD
    with pytest.raises(UnreadableEntry):
        after.unseal(sealed(before), DIGEST)
    with pytest.raises(UnreadableEntry):
        before.unseal(sealed(between), DIGEST)


@pytest.mark.parametrize(
    ("at", "patch"),
    [
        (FLAGS, bytes([ENCRYPTED])),
        (CREATED, struct.pack("<d", ENTRY.created + 1)),
        (CREATED + 8, struct.pack("<d", inf)),
        (HEADER, b"{'"),
        (HEADER + len(ENTRY.metadata) + 4, bytes(12)),
    ],
    ids=repr,
)
def test_a_right_checksum_does_not_make_an_encrypted_entry(at: int, patch: bytes) -> None:
    assert is_corrupt(forged(sealed(SECRET), at, patch), SECRET)


def test_an_encrypted_payload_does_not_answer_another_key() -> None:
    assert is_corrupt(forged(sealed(SECRET), KEY, OTHER), SECRET, OTHER)


def test_a_part_of_an_encrypted_payload_is_no_entry() -> None:
    data = sealed(SECRET)
    for size in range(HEADER + len(ENTRY.metadata), len(data)):
        with pytest.raises((CorruptEntry, UnreadableEntry)):
            SECRET.unseal(forged(data[:size], MAGIC, b"LLMC"), DIGEST)


def test_what_another_frame_sealed_is_proved() -> None:
    data: Any = PLAIN.seal(ENTRY, PAYLOAD, DIGEST)
    assert replace(PLAIN).unseal(data, DIGEST) == (ENTRY, PAYLOAD)
    assert is_corrupt(data, replace(PLAIN), OTHER)
    assert is_corrupt(data, PLAIN, OTHER)
    assert is_corrupt(data[:-1])
    assert data == SEALED


def test_errors_are_of_this_package_and_builtins() -> None:
    assert issubclass(CorruptEntry, ValueError)
    assert issubclass(UnreadableEntry, LookupError)
    assert issubclass(CorruptEntry, LLMCacheError)
    assert issubclass(UnreadableEntry, LLMCacheError)


def test_the_layout_is_the_one_of_this_version() -> None:
    assert SEALED[MAGIC : VERSION + 1] == b"LLMC\1"
    assert SEALED[HEADER:] == ENTRY.metadata + PAYLOAD
    assert hashlib.sha256(SEALED).hexdigest() == (
        "504b002c0566db2a267ddaa8bf2f36b66a01c8916e5ef7c0121d5a11b83fbf98"
    )


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda data: loads(dumps(data))])
def test_a_copy_of_an_entry_is_plain_bytes(copied: Callable[[bytes], bytes]) -> None:
    data = PLAIN.seal(ENTRY, PAYLOAD, DIGEST)
    assert type(data) is Sealed
    data.memo = sys
    assert copied(data) == data
    assert type(copied(data)) is bytes
