"""A mark holds until its key is spoilt, and a late fill makes nobody sure."""

from __future__ import annotations

import pytest

from llmcache.backends.marks import Fills


def test_a_mark_holds_until_its_key_is_spoilt() -> None:
    fills = Fills()
    one, other, elsewhere = (fills.mark(key) for key in ("g:a", "g:b", "h:a"))
    assert fills.mark("g:a") is one
    fills.spoil("g:a")
    assert (one.holds, other.holds) == (False, True)
    assert fills.mark("g:a") is not one
    fills.spoil_group("g")
    assert (other.holds, elsewhere.holds) == (False, True)
    fills.spoil("g:never")


def test_a_fill_that_is_late_makes_nobody_sure_while_it_lasts_and_afterwards() -> None:
    fills = Fills()
    mark = fills.mark("g:a")
    assert fills.begin(mark, "g:a")
    assert fills.is_sure(mark, "g:a")
    fills.spoil("g:a")
    later = fills.mark("g:a")
    assert later.holds
    assert not fills.is_sure(later, "g:a")
    fills.end(mark, "g:a")
    assert not fills.is_sure(later, "g:a")
    assert not fills.begin(mark, "g:a")
    assert fills.is_sure(fills.mark("g:a"), "g:a")


@pytest.mark.parametrize("first", [0, 1])
def test_fills_of_one_key_end_in_any_order(first: int) -> None:
    fills = Fills()
    old = fills.mark("g:a")
    assert fills.begin(old, "g:a")
    fills.spoil("g:a")
    new = fills.mark("g:a")
    assert fills.begin(new, "g:a")
    marks = [old, new]
    fills.end(marks.pop(first), "g:a")
    fills.end(marks.pop(), "g:a")
    assert fills.is_sure(fills.mark("g:a"), "g:a")


def test_two_fills_with_one_mark_are_two() -> None:
    fills = Fills()
    mark = fills.mark("g:a")
    assert fills.begin(mark, "g:a")
    assert fills.begin(mark, "g:a")
    fills.spoil("g:a")
    fills.end(mark, "g:a")
    assert not fills.is_sure(fills.mark("g:a"), "g:a")
    fills.end(mark, "g:a")
    assert fills.is_sure(fills.mark("g:a"), "g:a")


def test_what_was_begun_before_a_fork_is_not_known_in_it() -> None:
    fills = Fills()
    mark = fills.mark("g:a")
    assert fills.begin(mark, "g:a")
    fills.spoil("g:a")
    fills.forget()
    assert fills.is_sure(fills.mark("g:a"), "g:a")
    fills.end(mark, "g:a")
