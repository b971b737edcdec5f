"""Entries that were read before are kept as they were, and not too many of them."""

from __future__ import annotations

import pytest

from llmcache import kept
from llmcache.codec.frame import Sealed
from llmcache.kept import Kept


def test_what_is_kept_is_the_same_and_can_be_known() -> None:
    kept = Kept()
    copy = kept.keep(b"digest", b"data")
    assert copy == b"data"
    assert type(copy) is Sealed
    assert kept.entries[b"digest"] is copy


def test_a_new_entry_takes_the_place_of_the_old_one() -> None:
    kept = Kept()
    for data in (b"one", b"two"):
        kept.keep(b"digest", data)
    assert kept.entries == {b"digest": b"two"}


def test_a_large_entry_is_not_kept() -> None:
    kept = Kept()
    assert kept.keep(b"digest", bytes(1 << 16)) is None
    assert kept.entries == {}


def test_what_is_too_much_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_MOST_BYTES", 3000)
    few = Kept()
    for number in range(100):
        few.keep(b"%d" % number, bytes(500))
        assert b"%d" % number in few.entries
        assert len(few.entries) <= 3
