"""Values that are models and plain JSON all through are made by pydantic, by no code of theirs."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, create_model
from twins import worlds

from codec.hooks import watched
from codec.planting import Upstream, payload
from codec.samples import (
    Answer,
    Area,
    Box,
    Choice,
    Couple,
    Frozen,
    Node,
    OtherUsage,
    Point,
    Secretive,
    Tags,
    Usage,
)
from codec.trips import back_to_the_byte, no_code_of, no_import, of_samples
from llmcache.codec import records
from llmcache.codec.classes import ClassGone
from llmcache.codec.shapes import fingerprint
from llmcache.codec.tree import RECORD, TREE, decode, encode, same

USAGE = ["pydantic", "codec.samples:Usage", fingerprint(["tokens", "details"])]
NODE = ["pydantic", "codec.samples:Node", fingerprint(["name", "children", "parent"])]
SECRETIVE = ["pydantic", "codec.samples:Secretive", fingerprint(["value", "_seen", "_later"])]


def private():
    model = Answer(id="1")
    model._request_id = "req"
    return model


def beside():
    model = Answer(id="1", more=1, usage=Usage(tokens=2))
    vars(model)["beside"] = "req"
    return model


def chain(length):
    node = Node(name="end")
    for number in range(length):
        node = Node(name=str(number), parent=node)
    return node


def nested(depth):
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


RECORDS = [
    Usage(),
    Usage(tokens=0, details=None),
    Usage(details={"a": [1, -2.5, None, True, "é\u2028", {"b": 2**64 - 1}]}),
    Answer(id="1", choices=[Choice(index=0, text="a"), Choice(index=1)], usage=Usage()),
    Answer(id="1", more=None, other=[{"a b": 1}]),
    Answer.model_construct(id=1, choices="none", usage=Choice.model_construct()),
    Answer.model_construct(_fields_set=set(), id="1", usage=Usage.model_construct(tokens="many")),
    Answer.model_construct(_fields_set={"id", "nothing"}, id="1", more=1),
    private(),
    beside(),
    Secretive(),
    Frozen(value=1),
    Area(width=1, height=2),
    Box[Box[int]](item=Box[int](item=1)),
    Couple[int, Box[Usage]](first=1, second=Box[Usage](item=Usage())),
    Node(name="a", children=[Node(name="b"), Node(name="c")]),
    chain(40),
    ChatCompletion.model_construct(id=None, choices=[{"index": 0}], usage=3),
    [Usage(tokens=n) for n in range(3)],
]


@pytest.mark.parametrize("value", RECORDS)
def test_models_and_plain_json_are_a_record(value):
    assert encode(value)[0] == RECORD
    back_to_the_byte(value)


class Made(BaseModel):
    value: int = 0

    def __new__(cls, **values):
        return super().__new__(cls)


class Meta(type(BaseModel)):
    pass


class OfAnother(BaseModel, metaclass=Meta):
    value: int = 0


class Shadowing(BaseModel):
    value: int = 0


type.__setattr__(Shadowing, "__pydantic_extra__", None)


def odd():
    return create_model("Odd", **{"!": (int, 1)})()


def twice():
    model = Answer(id="1", more=1)
    vars(model)["more"] = 2
    return model


def bush(depth):
    return Node(name="a", children=[bush(depth - 1)], parent=bush(depth - 1)) if depth else None


def tree(depth):
    return Couple[Any, Any](first=tree(depth - 1), second=tree(depth - 1)) if depth else Usage()


@pytest.mark.parametrize(
    "value",
    [
        Usage(details=(1,)),
        Usage(details=2**64),
        Usage(details="\ud800"),
        Usage(details=Point(1)),
        Usage(details={"!": 1}),
        Usage(details={1: 1}),
        Usage(details={"a": Usage()}),
        Usage(details=[Usage(), OtherUsage()]),
        Usage(details=[Usage(), None]),
        Answer(id="1", more=Usage()),
        Answer(id="1", **{"!": 1}),
        Answer.model_construct(id="1", **{"\ud800": 1}),
        [Usage(), OtherUsage()],
        [Usage(), 1],
        Tags(["a"]),
        Made(),
        OfAnother(),
        odd(),
        twice(),
        tree(6),
    ],
)
def test_anything_else_is_none_and_comes_back_too(value):
    assert encode(value)[0] == TREE
    back_to_the_byte(value)


def test_a_class_that_hides_its_state_is_none():
    assert not records.is_record(Shadowing)
    assert not records.is_record(Tags)
    assert not records.is_record(Point)
    assert records.is_record(Usage)


@pytest.mark.parametrize("signature", [None, "(schema, config=None)"])
def test_without_the_option_of_pydantic_there_are_none(monkeypatch, signature):
    written = encode(Usage(tokens=1))
    validator = SimpleNamespace(SchemaValidator=SimpleNamespace(__text_signature__=signature))
    monkeypatch.setattr(records, "_core", lambda: validator)
    assert encode(Usage(tokens=1))[0] == TREE
    back_to_the_byte(Usage(tokens=1))
    monkeypatch.setattr(records.PLANS, "_plans", {})
    with pytest.raises(ClassGone):
        decode(*written)


def is_quick(value):
    codec, written = encode(value)
    assert codec == RECORD
    return orjson.loads(written.partition(b"\n")[0])[-1][1]


def test_pydantic_reads_what_is_little_but_models():
    assert is_quick(Usage(tokens=1, details="a" * 9000))
    assert is_quick(Usage(tokens=1, details=("a" * 30 + "\n") * 1000))
    assert is_quick(Usage(tokens=1, details="\u00e9" * 20))
    assert is_quick(Usage(details=[1, 2, 3, 4, 5]))
    assert is_quick([Usage(details=[1, 2, 3, 4])] * 16)


def test_orjson_reads_many_escapes_and_values_and_what_nests_deep():
    for value in (
        Usage(details="\u00e9" * 100),
        Usage(details="a\n" * 100),
        Usage(details=[1, 2, 3, 4, 5, 6]),
        Usage(details={"a": [1, 2, {"b": [1]}], "c": 1}),
        [Usage(details=[1, 2, 3, 4, 5])] * 16,
        [Usage(details=nested(230)), *[Usage(details=0)] * 100],
    ):
        assert not is_quick(value)
        back_to_the_byte(value)


@pytest.mark.parametrize("length", [1, 1000], ids=["by pydantic", "by orjson"])
def test_no_code_of_a_model_runs(length):
    ran = []
    Watched = watched(ran)
    one = Watched.model_construct(value="no number")
    model = Watched(value=1, other=Watched(), others=[Watched()], more="\n" * length)
    object.__setattr__(model, "other", one)
    assert is_quick(model) is (length == 1)
    ran.clear()
    found = decode(*encode(model))
    assert same(model, found)
    assert ran == []
    assert found.other.value == "no number"


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text('ab"\\\n\u00e9', max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(plain, st.lists(plain, max_size=3), st.sampled_from([0, 1000]))
def test_plain_values_come_back_whoever_reads_them(value, others, length):
    models = [Usage.model_construct(tokens=other, details=value) for other in others]
    model = Answer.model_construct(id=value, usage=models, content="\n" * length, more=value)
    assert encode(model)[0] == RECORD
    assert is_quick(model) <= (length == 0)
    back_to_the_byte(model)


def test_each_value_has_its_own_parts():
    written = encode(Answer(id="1", choices=[Choice(index=0)], more=[1]))
    one, other = decode(*written), decode(*written)
    assert one.choices is not other.choices
    assert one.more is not other.more
    assert one.model_fields_set is not other.model_fields_set
    one, other = decode(*encode(private())), decode(*encode(private()))
    assert one.__pydantic_private__ is not other.__pydantic_private__
    assert one.model_fields_set is not other.model_fields_set


def read(*shapes, tree, root=(0, True)):
    return decode(RECORD, payload(shapes, tree, root))


def test_a_record_has_the_fields_that_were_given_and_those_that_are_not_none():
    shape = [*USAGE, None, [2], False, False, {}]
    assert encode(Usage(details=None)) == (
        RECORD,
        payload([[*USAGE, [1], *shape[4:]]], {"tokens": 0, "details": None}, [0, True]),
    )
    assert encode(Usage(tokens=1)) == (RECORD, payload([shape], {"tokens": 1}, [0, True]))
    for quick in (True, False):
        assert same(read(shape, tree={"tokens": 1}, root=[0, quick]), Usage(tokens=1))
        assert same(read(shape, tree=[{"tokens": 1}], root=[[0], quick]), [Usage(tokens=1)])


FORGED = [
    ([], [0, True], {}),
    ([], None, {}),
    ([], 0, {}),
    ([[*USAGE, None, [2], False, False, {}]], 0, {}),
    ([[*USAGE, None, [2], False, False, {}]], [None, True], {}),
    ([[*USAGE, None, [2], False, False, {}]], [-1, True], {}),
    ([[*USAGE, None, [2], False, False, {}]], [1, True], {}),
    ([[*USAGE, None, [2], False, False, {}]], [[], True], {}),
    ([[*USAGE, None, [2], False, False, {}]], [["a"], True], {}),
    ([[*USAGE, None, [2], False, False, {}]], ["a", True], {}),
    ([[*USAGE, None, [2], False, False, {}]], [0, True, 1], {}),
    ([[*USAGE, None, [2], False, False, {}]], [0, True], []),
    ([[*USAGE, None, [2], False, False, {}]], [0, True], None),
    ([[*USAGE, None, [2], False, False, {}]], [0, False], "text"),
    ([[*USAGE, None, [2], False, False, {}]], [[0], True], {}),
    ([[*USAGE, None, [2], False, False, {}]], [[0], False], [{}, 1]),
    ([[*USAGE, None, [2], False, False, {"details": 0}]], [0, True], {}),
    ([[*USAGE, None, [2], False, False, {"details": None}]], [0, True], {}),
    ([[*USAGE, None, [2], False, False, []]], [0, True], {}),
    ([[*USAGE, None, [2], False, False]], [0, True], {}),
    ([[*USAGE, None, [2, 1], False, False, {}]], [0, True], {}),
    ([[*USAGE, None, [2, []], False, False, {}]], [0, True], {}),
    ([[*USAGE, None, [], False, False, {}]], [0, True], {}),
    ([[*USAGE, None, [-1], False, False, {}]], [0, True], {}),
    ([[*USAGE, 5, [2], False, False, {}]], [0, True], {}),
    ([[*USAGE, [7], [2], False, False, {}]], [0, True], {}),
    ([[*USAGE, [[]], [2], False, False, {}]], [0, True], {}),
    ([[*USAGE[:2], "0" * 16, None, [2], False, False, {}]], [0, True], {}),
    ([[*USAGE[:2], None, None, [2], False, False, {}]], [0, True], {}),
    ([[*SECRETIVE, [], [1], False, True, {}]], [0, True], {"value": 1}),
    ([[*SECRETIVE, [], [1], False, True, {}]], [0, True], {"value": 1, "!": 1}),
    ([[*SECRETIVE, [], [1], False, True, {}]], [0, False], {"value": 1, "!": None}),
    (
        [["pydantic", "codec.samples:Tags", fingerprint(["root"]), None, [1], 0, 0, {}]],
        [0, True],
        {},
    ),
    ([["pydantic", "codec.samples:Point", fingerprint([]), None, [0], 0, 0, {}]], [0, True], {}),
    ([["pydantic", "subprocess:Popen", fingerprint([]), None, [0], 0, 0, {}]], [0, True], {}),
    ([["pydantic", "pydantic:BaseModel", None, None, [0], 0, 0, {}]], [0, True], {}),
    ([["pydantic", "antigravity:x", fingerprint([]), None, [0], 0, 0, {}]], [0, True], {}),
    ([["pydantic", 5, "", None, [0], 0, 0, {}]], [0, True], {}),
    ([["pydantic"]], [0, True], {}),
    ([None], [0, True], {}),
]


@worlds
def test_a_forged_record_is_a_miss_and_is_replaced(world):
    upstream = Upstream(world)
    upstream.ask()
    for number, (shapes, root, tree) in enumerate(FORGED, 2):
        upstream.plant_payload(RECORD, payload(shapes, tree, root))
        with no_import(), no_code_of(of_samples):
            assert upstream.ask() == "from upstream", shapes
            assert upstream.ask() == "from upstream"
        assert upstream.calls == number
    assert upstream.stats.errors == 0


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"[]", b"[]\n", b"[]\n{}", b"\xff\n{}", b"{}\n{}", b"[" * 10**5, b"[[0],0]\n{}"],
)
def test_what_is_no_record_is_none(data):
    with pytest.raises((ValueError, LookupError, TypeError)):
        decode(RECORD, data)


def test_a_record_that_nests_deeper_than_it_says_is_none():
    shape = [*USAGE, None, [2], False, False, {}]
    with pytest.raises(ValueError, match="recursion"):
        read(shape, tree={"details": nested(230)})


def test_shapes_in_one_another_do_not_multiply():
    shapes = [[*NODE, None, [3], False, False, {}]]
    shapes += [[*NODE, None, [3], False, False, {"children": [n], "parent": n}] for n in range(40)]
    started = time.perf_counter()
    with pytest.raises(ValueError, match="too many"):
        read(*shapes, tree={}, root=[40, True])
    assert time.perf_counter() - started < 1


def test_names_in_one_another_do_not_multiply():
    inner = [*NODE, None, [1, *map(str, range(100))], False, False, {}]
    fields = {str(number): 0 for number in range(50)}
    outer = [*NODE, None, [1, *fields], False, False, fields]
    with pytest.raises(ValueError, match="too many"):
        read(inner, outer, tree={}, root=[1, True])


def test_what_has_very_many_fields_is_no_record():
    value = Usage(tokens=1)
    value.__dict__.update({str(number): number for number in range(5000)})
    assert encode(value)[0] == TREE
    assert same(decode(*encode(value)), value)


def test_what_a_record_has_of_more_is_left_out():
    shape = [*USAGE, None, [2], False, False, {}]
    assert same(read(shape, tree={"tokens": 1, "more": 2}), Usage(tokens=1))


def test_pydantic_is_not_imported_for_it():
    assert records.__name__ in sys.modules
    with no_import():
        encode(Usage())
