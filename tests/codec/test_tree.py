"""Whatever a function returns comes back as a copy of its own, or is not kept at all."""

from __future__ import annotations

import asyncio
import io
import logging
import math
import re
import threading
import types
import weakref

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twins import worlds

import llmcache
from codec import samples
from codec.planting import Upstream, payload
from codec.samples import Answer, Choice, Color, FrozenPoint, Node, Pair, Point, Usage
from codec.trips import back, back_to_the_byte, no_code_of, of_samples
from codec.values import ordered, values
from llmcache import UncacheableValue
from llmcache.codec import kinds, ways
from llmcache.codec.tree import PLAIN, TEXT, TREE, check_comes_back, decode, encode, same

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.floats(-1e9, 1e9),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
FORGED = [
    {"!": 1},
    {"!": None},
    {"!": []},
    {"!": ["int", "ff"]},
    {"!": ["tuple", 1]},
    {"!": ["dict", [1, 2]]},
    {"!": [0, {}]},
    {"!": {"!": {"!": 0}}},
    {"!": ["int", "ff"], "other": 1},
    ["!", ["int", "ff"]],
]
AROUND = [
    lambda value: value,
    lambda value: [value],
    lambda value: {"a": value},
    lambda value: {"!": value},
    lambda value: {1: value},
    lambda value: (value,),
    lambda value: Point(value),
    lambda value: Pair(value),
    lambda value: Usage(details=value),
    lambda value: Usage(details=[value, {"!": value}]),
    lambda value: Answer(id="1", content=value, **{"!": value, "more": value}),
    lambda value: [{"a": [{"b": {"!": value}}]}],
]


@given(ordered)
def test_every_value_comes_back_and_is_written_the_same_way(value):
    back_to_the_byte(value)


@given(values)
def test_every_value_comes_back_with_sets_in_it(value):
    assert same(back(back(value)), value)


@given(JSON)
def test_what_json_can_say_comes_back_as_json_has_it(value):
    assert back_to_the_byte(value) == value
    if type(value) is str:
        assert encode(value) == (TEXT, value.encode())
    elif '"!":' not in orjson.dumps(value).decode():
        assert encode(value) == (PLAIN, orjson.dumps(value))


@pytest.mark.parametrize("forged", FORGED)
def test_data_is_never_taken_for_a_tag(forged):
    for around in AROUND:
        back_to_the_byte(around(forged))


@pytest.mark.parametrize(
    "value",
    [
        {None: 1, True: 2, 2: 3, 1.5: 4, "a": 5, b"a": 6, (1, (2,)): 7, ...: 8},
        {float("nan"): 1, Color.RED: 2, FrozenPoint(1): 3, Pair(1): 4, frozenset({1}): 5},
        {2**70: {(1, 2): {"!": {"!": 1}}}},
        {"\ud800": 1},
        {1, "1", 1.5, None, (1, 2), b"", Color.RED, FrozenPoint(1)},
        frozenset({frozenset(), Pair(1)}),
        ([], (), {}, set(), frozenset(), ""),
        [[[[[]]]]],
        [Point(), [Point()], {"a": Point(Point())}],
        [Usage(), {"a": [Usage(details=Usage())]}],
        {"role": "user", "content": samples.Message(role="user", content="hi")},
        [np.float64(1), {np.int8(1): np.array([1])}],
        [["a", "\ud83d", "\ude00"], ["\ud83d", "\ude00"], ("a", "\ud800")],
        [[2**64 - 1, -(2**63)], [1, 2**64], [-(2**63) - 1], [0.0, -0.0], [1.5, math.nan, math.inf]],
    ],
)
def test_containers_come_back_with_all_that_they_hold(value):
    back(value)


@pytest.mark.parametrize(
    "item",
    [
        frozenset([7, 15]),
        FrozenPoint(frozenset([7, 15])),
        frozenset([FrozenPoint(1), Pair(1), Color.RED]),
    ],
)
def test_sets_in_sets_come_back_in_whatever_order(item):
    back({item})


def test_sets_in_sets_take_no_more_time_than_they_are_deep():
    written = []

    class Leaf(samples.Plain):
        pass

    llmcache.register_type(Leaf, encode=written.append, decode=lambda _: Leaf())
    value = Leaf()
    for _ in range(10):
        value = frozenset([value, 1])
    encode(value)
    assert len(written) == 1
    assert same(value, value)
    assert len(written) == 3


def test_what_is_shared_comes_back_as_copies():
    shared, model = [1, {"a": []}], Usage(details={})
    found = back([shared, shared, (shared,), model, model, Usage(details=model)])
    assert found[0] is not found[1]
    assert found[3] is not found[4]


def test_what_is_shared_beyond_all_bounds_is_too_large():
    value = ["leaf"]
    for _ in range(64):
        value = [value, value]
    cached = llmcache.llm_cached(max_value_bytes=10_000, name="shared")(lambda: value)
    assert cached() is value
    assert cached.cache.stats().too_large == 1


def test_a_class_is_looked_at_once(monkeypatch):
    looked = []

    def kind_of(kind):
        looked.append(kind)
        return kinds.kind_of(kind)

    monkeypatch.setattr(ways, "kind_of", kind_of)
    value = [Usage(details=Point([1.5, "a", None])) for _ in range(100)]
    found = decode(*encode(value))
    assert looked == [Point]
    looked.clear()
    assert same(value, found)
    assert looked == [Point]


def test_some_keys_may_have_one_hash_and_not_many():
    few = {n * (2**61 - 1) for n in range(32)}
    assert len(set(map(hash, few))) == 1
    for value in (few, frozenset(few), dict.fromkeys(few, 1), set(range(1000)) | few):
        assert back(value) == value
    many = {n * (2**61 - 1) for n in range(100)}
    for value in (many, frozenset(many), dict.fromkeys(many, 1)):
        with pytest.raises(UncacheableValue):
            check_comes_back(value, *encode(value))


def test_each_copy_is_a_new_one():
    answer = Answer(id="1", choices=[Choice(index=0)], usage=Usage(details=[{}]), more=[])
    written = encode([answer, {"a": [1]}, (Point([]),), bytearray(b"a"), np.zeros(2), {1}])
    one, two = decode(*written), decode(*written)
    one[0].choices[0].text = "changed"
    one[0].usage.details[0]["changed"] = 1
    one[0].more.append("changed")
    one[0]._request_id = "changed"
    one[0].model_fields_set.add("changed")
    one[1]["a"].append("changed")
    one[2][0].x.append("changed")
    one[3].append(1)
    one[4][0] = 1
    one[5].add(2)
    assert encode(two) == written
    assert same(decode(*written), two)


@worlds
def test_each_caller_has_a_copy_of_its_own(world):
    upstream = Upstream(world, {"content": ["original"]})
    for _ in range(3):
        answer = upstream.ask()
        assert answer == {"content": ["original"]}
        answer["content"].append("changed")
        upstream.answer = {"content": ["original"]}
    assert upstream.calls == 1


def test_lists_and_mappings_of_one_name_do_not_share_their_shapes():
    back_to_the_byte([Usage(tokens=1), Usage(), Usage(details=Usage()), Usage(details=[Usage()])])
    back_to_the_byte(Node(name="a", children=[Node(name="b"), Node(name="c", children=[])]))


def looped_list():
    found = []
    found.append(found)
    return found


def looped_dict():
    found = {}
    found["a"] = {"b": found}
    return found


def looped_model():
    found = Node(name="a")
    found.parent = Node(name="b", parent=found)
    return found


def looped_models():
    found = Node(name="a")
    found.children = [Node(name="b"), found]
    return found


def looped_point():
    found = Point()
    found.x = (found,)
    return found


def looped_extra():
    found = Answer(id="1")
    found.more = [found]
    return found


LOOPS = [looped_list, looped_dict, looped_model, looped_models, looped_point, looped_extra]


@pytest.mark.parametrize("loop", LOOPS)
def test_what_contains_itself_cannot_be_written(loop):
    with pytest.raises(UncacheableValue, match="contains itself"):
        encode([loop()])


@worlds
@pytest.mark.parametrize("loop", LOOPS)
def test_what_contains_itself_is_returned_and_not_kept(world, loop):
    value = loop()
    upstream = Upstream(world, value, max_value_bytes=1000)
    assert upstream.ask() is value
    assert upstream.ask() is value
    assert upstream.calls == 2
    assert not upstream.store.held
    stats = upstream.stats
    assert (stats.rejected, stats.too_large) == (2, 0)
    assert stats.errors == 0


def test_what_nests_too_deep_is_refused():
    for wrap in AROUND[1:]:
        value = []
        for _ in range(5_000):
            value = wrap(value)
        with pytest.raises(UncacheableValue, match="too deep"):
            encode(value)


@worlds
def test_what_nests_too_deep_is_returned_and_not_kept(world, caplog):
    value = []
    for _ in range(300):
        value = [value]
    upstream = Upstream(world, value)
    assert upstream.ask() is value
    assert upstream.stats.rejected == 1
    assert "too deep" in caplog.text


def test_an_entry_that_is_read_in_a_deep_call_is_not_removed():
    value = []
    for _ in range(60):
        value = ([value],)

    @llmcache.llm_cached(name="deep")
    def answer():
        return value

    def deeper(levels):
        return deeper(levels - 1) if levels else answer()

    answer()
    for levels in range(500, 1000, 10):
        try:
            deeper(levels)
        except RecursionError:
            break
    assert answer.cache.stats().corrupt == 0


REFUSED = {
    "types.SimpleNamespace": types.SimpleNamespace,
    "builtins.object": object,
    "builtins.ValueError": ValueError,
    "codec.samples.Failure": samples.Failure,
    "builtins.generator": lambda: (n for n in ()),
    "_io.StringIO": io.StringIO,
    "_thread.lock": threading.Lock,
    "weakref.ReferenceType": lambda: weakref.ref(samples.Plain),
    "builtins.function": lambda: looped_list,
    "builtins.module": lambda: types,
    "builtins.type": lambda: samples.Plain,
    "enum.EnumType": lambda: Color,
    "codec.samples.Plain": samples.Plain,
    "codec.samples.Slotted": samples.Slotted,
    "codec.samples.PreparedToken": lambda: samples.PreparedToken("text"),
    "codec.samples.UndecoratedShape": lambda: samples.UndecoratedShape(1),
    "builtins.memoryview": lambda: memoryview(b"text"),
    "re.Pattern": lambda: re.compile("text"),
    "builtins.NotImplementedType": lambda: NotImplemented,
}


@worlds
@pytest.mark.parametrize("inside", [False, True], ids=["itself", "inside"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_come_back_is_returned_and_refused(world, name, inside, caplog):
    caplog.set_level(logging.DEBUG)
    value = REFUSED[name]()
    value = Usage(details=[value]) if inside else value
    upstream = Upstream(world, value)
    assert upstream.ask() is value
    assert upstream.ask() is value
    assert upstream.calls == 2
    assert not upstream.store.held
    assert (upstream.stats.rejected, upstream.stats.errors) == (2, 0)
    [line] = [record.message for record in caplog.records if record.name == "llmcache"]
    assert name in line
    assert "register_type" in line


@worlds
def test_what_would_not_come_back_is_an_error_if_the_user_says_so(world):
    upstream = Upstream(world, object(), strict=True)
    with pytest.raises(UncacheableValue, match="object"):
        upstream.ask()


@worlds
def test_an_open_file_is_returned_and_refused(world, tmp_path):
    with (tmp_path / "file").open("w") as file:
        upstream = Upstream(world, [file])
        assert upstream.ask()[0] is file
    assert upstream.stats.rejected == 1


@worlds
def test_a_coroutine_inside_an_answer_is_never_awaited(world):
    async def inner():
        return 1

    coroutine = inner()
    upstream = Upstream(world, [coroutine])
    assert upstream.ask() == [coroutine]
    assert upstream.stats.rejected == 1
    assert asyncio.run(coroutine) == 1


@pytest.mark.parametrize(
    "value",
    [
        Answer(id="1", choices=[Choice(index=0)], usage=Usage(), more=1),
        samples.Area(width=1, height=2),
        samples.Prepared(2),
        Point(Point()),
        samples.SlottedPoint(1),
        Pair(1),
        Color.RED,
        samples.Finish.STOP,
        samples.Access(3),
        samples.Token("a"),
        samples.Shape("a"),
        samples.DictShape("a"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_code_of_a_class_runs(value):
    with no_code_of(of_samples):
        assert same(value, decode(*encode(value)))


def test_a_payload_of_another_codec_is_none():
    for codec in (4, 255):
        with pytest.raises(ValueError, match="codec"):
            decode(codec, b"1")


@pytest.mark.parametrize("root", [1, "text", None, True, [1], {"a": 1}])
def test_a_tree_may_be_plain(root):
    assert decode(TREE, payload([], root)) == root
