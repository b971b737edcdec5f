"""Entries that were stored once are still read, and those of other versions never misread.

The files were written by ``python -m codec.test_golden_entries``, once for each version of the
format; who has to write one again has changed the format, and its version with it.
"""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from uuid import UUID

import pytest
from twins import worlds

from codec.planting import Upstream, sealed
from codec.samples import (
    Access,
    Answer,
    Box,
    Choice,
    Color,
    FrozenPoint,
    LooseToken,
    Node,
    Pair,
    Point,
    Shape,
    SlottedPoint,
    Tags,
    Usage,
)
from llmcache.codec.encryption import Keyring
from llmcache.codec.frame import AWAITED, CorruptEntry, Entry, Frame, UnreadableEntry
from llmcache.codec.tree import decode, encode, same

FILES = Path(__file__).parent / "entries"
DIGEST = hashlib.sha256(b"golden").digest()
KEYS = Keyring([bytes(range(32))])
ABOUT = Entry(
    created=1_700_000_000.25,
    expires=math.inf,
    ttl=math.inf,
    duration=1.5,
    flags=0,
    codec=0,
    metadata=b'{"function":"golden","version":"1"}',
)


def answer():
    found = Answer(
        id="1",
        choices=[Choice(index=0, text="é\u2028"), Choice(index=1)],
        usage=Usage(tokens=3, details={"a": (1, 2.5)}),
        content=[Node(name="a", children=[Node(name="b")]), Box[int](item=1), Tags(["t"])],
        more={"!": [None, True]},
    )
    found._request_id = "req_1"
    return found


def record():
    found = Answer(
        id="1",
        choices=[Choice(index=0, text="é\u2028"), Choice(index=1)],
        usage=Usage.model_construct(tokens="many"),
        content=["text", -2.5, None, {"a": True}],
        more={"b": [2**64 - 1]},
    )
    found._request_id = "req_1"
    vars(found)["beside"] = "req_2"
    return found


VALUES = {
    "text": "what was answered, \"quoted\" and 'é'",
    "json-text": "what was answered, \"quoted\" and 'é'",
    "json": {"a": [1, -2.5, None, True, {"b": "c", "d": 2**64 - 1}], "e": {}},
    "model": answer(),
    "record": record(),
    "record-tree": record(),
    "objects": [
        Point([1], {"a": 2}),
        SlottedPoint(1, 2),
        Pair(1),
        Shape("a", [1]),
        LooseToken(text="a", scores=[1]),
        Color.GREEN,
        Access(3),
        {FrozenPoint(1, 2): {"!": 1}, (1, "a"): frozenset({1})},
    ],
    "words": [
        *(2**70, math.nan, -math.inf, -0.0, "\ud800", b"a\xff", bytearray(b"b"), 1 - 2j, ...),
        *(date(2025, 1, 2), timedelta(-1, 2, 3), Decimal("-1.50"), UUID(int=7), range(1, 9, 2)),
        datetime(2025, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        datetime(2025, 1, 2, tzinfo=timezone(timedelta(hours=1), "Home"), fold=1),
        PurePosixPath("a/b"),
        {1, "a"},
    ],
    "zlib": ["what was answered, at length"] * 1000,
    "zstd": ["what was answered, at length"] * 1000,
    "secret": answer(),
    "secret-zlib": ["what was answered, at length"] * 1000,
}
PACKED = {"zlib": "zlib", "zstd": "zstd", "secret-zlib": "zlib"}


def frame(name):
    return Frame(
        max_plain=1 << 20,
        compress=PACKED.get(name),
        keyring=KEYS if name.startswith("secret") else None,
    )


def stored(name):
    return (FILES / f"{name}.bin").read_bytes()


def changed(data, place, byte):
    """Return an entry with another byte, and the checksum that is right for it."""
    body = bytearray(data)
    body[place] = byte
    return hashlib.sha256(body[16:]).digest()[:16] + bytes(body[16:])


@pytest.mark.parametrize("name", VALUES)
def test_an_entry_that_was_stored_once_is_read(name):
    entry, payload = frame(name).unseal(stored(name), DIGEST)
    assert entry._replace(codec=0, flags=entry.flags & AWAITED) == ABOUT
    assert same(decode(entry.codec, payload), VALUES[name])


WRITTEN = [name for name in VALUES if name not in {"json-text", "record-tree"}]
"""Texts are no longer written as JSON, and models and plain JSON no longer as a tree."""


@pytest.mark.parametrize("name", [name for name in WRITTEN if not name.startswith("secret")])
def test_an_entry_is_still_written_as_it_was(name):
    codec, payload = encode(VALUES[name])
    entry, was = frame(name).unseal(stored(name), DIGEST)
    assert (codec, payload) == (entry.codec, was)
    if name not in PACKED:
        assert sealed(ABOUT._replace(codec=codec), payload, DIGEST) == stored(name)


def test_there_is_no_other_file():
    assert {path.stem for path in FILES.iterdir()} == set(VALUES)


VERSION, FLAGS, CODEC, PACKING = 20, 21, 22, 23
OTHERS = {
    "version 0": (VERSION, 0),
    "version 2": (VERSION, 2),
    "version 255": (VERSION, 255),
    "an unknown flag": (FLAGS, 4),
    "all flags": (FLAGS, 255),
    "an unknown codec": (CODEC, 4),
    "codec 255": (CODEC, 255),
    "an unknown packing": (PACKING, 3),
    "packing 255": (PACKING, 255),
    "packed, it says": (PACKING, 1),
    "encrypted, it says": (FLAGS, 2),
    "other magic": (16, ord("l")),
}


@worlds
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", VALUES)
def test_an_entry_of_another_version_is_a_miss_and_is_replaced(world, name, other):
    upstream = Upstream(world, encrypt=bytes(range(32)) if name.startswith("secret") else None)
    entry, payload = frame(name).unseal(stored(name), DIGEST)
    mine = sealed(
        entry, payload, upstream.digest, compress=PACKED.get(name), keyring=frame(name).keyring
    )
    upstream.plant(mine)
    assert same(upstream.ask(), VALUES[name])
    place, byte = OTHERS[other]
    upstream.plant(changed(mine, place, mine[place] | byte if place == FLAGS else byte))
    if mine != bytes(upstream.store.held[upstream.key()]):
        assert upstream.ask() == "from upstream"
        assert upstream.ask() == "from upstream"
        assert upstream.calls == 1
        assert upstream.stats.errors == 0


@pytest.mark.parametrize("name", VALUES)
def test_an_entry_of_another_version_is_never_opened(name):
    data = stored(name)
    for version in {*range(256)} - {1}:
        with pytest.raises(CorruptEntry):
            frame(name).unseal(changed(data, VERSION, version), DIGEST)
    for flags in range(4, 256):
        with pytest.raises(CorruptEntry):
            frame(name).unseal(changed(data, FLAGS, flags), DIGEST)
    for packing in range(3, 256):
        with pytest.raises((CorruptEntry, UnreadableEntry)):
            frame(name).unseal(changed(data, PACKING, packing), DIGEST)


def test_the_entry_of_an_awaitable_says_so():
    data = sealed(ABOUT._replace(flags=AWAITED), b"1", DIGEST)
    assert data[FLAGS] == AWAITED


def write():
    """Write the files anew."""
    FILES.mkdir(exist_ok=True)
    for name in WRITTEN:
        codec, payload = encode(VALUES[name])
        data = frame(name).seal(ABOUT._replace(codec=codec), payload, DIGEST)
        (FILES / f"{name}.bin").write_bytes(data)


if __name__ == "__main__":
    write()
