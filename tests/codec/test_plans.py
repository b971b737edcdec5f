"""Lists of shapes are read once, and again when one of their classes is another."""

from __future__ import annotations

import sys
from contextlib import suppress

import pytest
from stand_ins import in_threads

from codec import samples
from codec.planting import payload
from codec.samples import Point, Usage
from llmcache.codec import plans
from llmcache.codec.classes import ClassGone, find, name_of
from llmcache.codec.tree import RECORD, decode, encode, same


class Local(Usage):
    __qualname__ = "nowhere.Local"


NAMES = [name_of(kind) for kind in (Usage, samples.Outer.Inner, Local)]
NAMES.append(["codec.samples:Box", name_of(Local)])


def shapes(*names):
    """Return the bytes of shapes that say no more than the names of their classes."""
    return payload([["any", name] for name in names], 0, "root").partition(b"\n")[0]


@pytest.fixture
def made():
    return []


@pytest.fixture
def plan(made):
    def builder_for(shape, builders):
        made.append(shape[1])
        place, kind = len(builders), find(shape[1])
        if kind is None:
            raise ClassGone
        return lambda parts: (place, parts)

    def reader_for(reader, builders):
        assert reader == "root"
        return lambda tree: [build(tree) for build in builders]

    return plans.Plans(builder_for, reader_for)


def test_a_list_is_read_once(plan, made):
    one, two = plan.find(shapes(*NAMES)), plan.find(shapes(*NAMES))
    assert one is two
    assert made == NAMES
    assert one.read_again([1]) == [(place, [1]) for place in range(len(NAMES))]


@pytest.mark.parametrize("name", ["Usage", "Outer", "Box"])
def test_nothing_is_made_of_a_class_that_is_another(plan, name, monkeypatch):
    one = plan.find(shapes(*NAMES))
    with monkeypatch.context() as patch:
        patch.setattr(samples, name, type(name, (), {}))
        with pytest.raises(ClassGone):
            one.read_again([1])
        patch.delattr(samples, name)
        with pytest.raises(ClassGone):
            one.read_again([1])
    assert one.read_again([1])


@pytest.mark.parametrize("name", ["Usage", "Outer", "Box"])
def test_a_list_is_read_again_when_a_class_is_another(plan, made, name, monkeypatch):
    def reads():
        made.clear()
        with suppress(ClassGone):
            plan.find(shapes(*NAMES))
        return bool(made)

    assert reads()
    assert not reads()
    monkeypatch.setattr(samples, name, type(name, (), {}))
    assert reads()
    monkeypatch.delattr(samples, name)
    assert reads()
    monkeypatch.delitem(sys.modules, "codec.samples")
    assert reads()
    monkeypatch.undo()
    reads()
    assert not reads()


def test_a_list_that_cannot_be_read_is_not_kept():
    def gone(shape, builders):
        raise ClassGone

    plan = plans.Plans(gone, lambda reader, builders: builders)
    for _ in range(2):
        with pytest.raises(ClassGone):
            plan.find(shapes("codec.samples:Usage"))


def test_a_class_that_is_replaced_while_a_list_is_read_is_seen_later(made, monkeypatch):
    def builder_for(shape, builders):
        found = find(shape[1])
        made.append(found)
        if len(made) == 1:
            monkeypatch.setattr(samples, "Usage", Local)
        return found

    plan = plans.Plans(builder_for, lambda reader, builders: lambda tree: builders)
    one = shapes("codec.samples:Usage")
    with pytest.raises(ClassGone):
        plan.find(one).read_again(b"")
    assert [plan.find(one).read_again(b"") for _ in range(2)] == [[Local], [Local]]
    assert made == [Usage, Local]


def test_only_so_many_lists_are_kept(plan, made, monkeypatch):
    monkeypatch.setattr(plans, "_MOST", 2)
    lists = [shapes(*["codec.samples:Usage"] * length) for length in (1, 2, 3)]
    for each in lists:
        plan.find(each)
    made.clear()
    plan.find(lists[2])
    assert not made
    plan.find(lists[0])
    assert made


def test_what_is_made_from_one_list_does_not_know_the_values_of_others():
    values = [Usage(tokens=n, details=[Point(n)]) for n in range(3)]
    written = [encode(value) for value in values]
    for _ in range(2):
        assert [decode(*each) for each in written] == values


def test_many_threads_read_the_same_and_other_lists():
    values = [Usage.model_construct(**{f"field{n}": Point(n)}) for n in range(700)]
    written = [encode(value) for value in values]

    def work(number):
        order = range(len(values)) if number % 2 else reversed(range(len(values)))
        return all(same(values[n], decode(*written[n])) for n in order)

    assert all(in_threads(work))


def test_a_shape_may_stand_for_many_objects():
    values = [Usage(tokens=n) for n in range(100)]
    codec, written = encode(values)
    assert codec == RECORD
    assert written.count(b"codec.samples:Usage") == 1
