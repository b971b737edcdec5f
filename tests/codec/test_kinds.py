"""Objects are taken apart and put together as they are, without a constructor."""

from __future__ import annotations

import dataclasses
import enum
import gc
import weakref
from collections import namedtuple

import attrs
import msgspec
import orjson
import pytest
from pydantic import BaseModel
from twins import worlds

import llmcache
from codec import samples
from codec.hooks import hooks
from codec.planting import Upstream, payload
from codec.samples import (
    Access,
    Bits,
    Color,
    Crate,
    DeepPoint,
    DeepSlottedPoint,
    DictShape,
    FrozenPoint,
    FrozenShape,
    FrozenSlottedPoint,
    KeywordPoint,
    Level,
    MangledPoint,
    NamedSpan,
    OneSlot,
    Pair,
    Plain,
    Point,
    Prepared,
    Rich,
    Role,
    Shape,
    SlotAndDict,
    SlottedPoint,
    Span,
    Square,
    UndecoratedPoint,
    Usage,
)
from codec.trips import back, back_to_the_byte
from llmcache import ConfigurationError, UncacheableValue
from llmcache.codec.classes import ClassGone, name_of
from llmcache.codec.shapes import fingerprint
from llmcache.codec.tree import TREE, check_comes_back, decode, encode, same


@pytest.mark.parametrize(
    "value",
    [
        Point(),
        Point(Point(1), [Point(2)]),
        DeepPoint(1, 2, 3),
        UndecoratedPoint(1),
        FrozenPoint(1, {"a": 1}),
        SlottedPoint(1, (2,)),
        DeepSlottedPoint(1, 2, 3, 4),
        FrozenSlottedPoint([1]),
        KeywordPoint(x=1),
        Crate(1),
        OneSlot(1),
        SlotAndDict(1, 2),
        Shape("a"),
        Shape("a", [Shape("b")]),
        Square("a", side=2),
        FrozenShape(1),
        DictShape("a", hidden={1}),
        Pair(1),
        Pair([Pair(1)], (2, 3)),
        Span(1, 2),
        Span(1, 2, 3),
        NamedSpan(1, 2),
    ],
)
def test_an_object_comes_back(value):
    found = back_to_the_byte(value)
    assert found is not value
    assert repr(found) == repr(value)
    back_to_the_byte({"a": [value, (value,)], value.__class__.__name__: value})


def test_an_object_comes_back_without_the_alias_that_made_it():
    value = Crate[int](1)
    assert vars(value) == {"item": 1, "__orig_class__": Crate[int]}
    assert vars(back_to_the_byte(value)) == {"item": 1}


@pytest.mark.parametrize(
    "value",
    [
        samples.Text("text"),
        samples.Text("\ud800"),
        samples.Number(2**70),
        samples.Measure("nan"),
        samples.Raw(b"\xff"),
        samples.Items([samples.Items(), [1]]),
        samples.Mapping(a=samples.Mapping({1: 2})),
        {samples.Text("key"): Usage(details=samples.Text("value"))},
    ],
    ids=repr,
)
def test_what_is_below_a_built_in_class_comes_back(value):
    found = back_to_the_byte(value)
    assert repr(found) == repr(value)
    back_to_the_byte([value, (value,), Point(value)])


def test_what_is_below_a_built_in_class_and_has_attributes_is_refused():
    value = samples.Text("text")
    value.beside = 1
    with pytest.raises(UncacheableValue, match="attributes"):
        encode(value)


@pytest.mark.parametrize("base", [str, int, float, bytes, list, dict])
def test_no_hook_of_what_is_below_a_built_in_class_runs(base):
    ran = []

    def hook(name):
        return lambda *args, **kwargs: ran.append(name)

    asked = {name for name in dir(base) if callable(getattr(base, name))}
    asked -= {"__class__", "__init_subclass__", "__subclasshook__"}
    hooked = type("Hooked", (base,), {name: hook(name) for name in asked})
    value = base.__new__(hooked)
    found = decode(*encode([value]))[0]
    assert same(value, found)
    assert type(found) is hooked
    assert ran == []


@pytest.mark.parametrize("name", ["str", "int", "float", "bytes", "list", "dict"])
def test_content_of_another_class_is_asked_for_nothing(name):
    below = {"str": "Text", "int": "Number", "float": "Measure", "bytes": "Raw"}
    kind = below.get(name, "Items" if name == "list" else "Mapping")
    shapes = [[name, f"codec.samples:{kind}"], SHAPES["object"]]
    for content in ({"!": [1, 1, 2]}, None, True, {"!": ["complex", ["1", "1"]]}):
        with pytest.raises(ValueError, match="content"):
            decode(TREE, payload(shapes, {"!": [0, content]}))
    with pytest.raises(ClassGone):
        decode(TREE, payload([[name, "codec.samples:Level"]], {"!": [0, 1]}))


def test_a_name_of_a_class_alone_keeps_its_class_in_python():
    found = back_to_the_byte(MangledPoint(1).hide("secret"))
    assert (found.x, found.shown()) == (1, "secret")


def test_what_is_not_set_comes_back_unset():
    for kind in (SlottedPoint, Shape, Prepared, MangledPoint):
        found = back_to_the_byte(object.__new__(kind))
        assert not any(hasattr(found, name) for name in ("x", "name", "doubled"))


def test_what_was_set_beside_the_fields_comes_back():
    point = Point(1)
    point.beside = [Point(2)]
    assert back_to_the_byte(point).beside == [Point(2)]
    del point.x
    assert vars(back_to_the_byte(point)).keys() == {"y", "beside"}
    shape = DictShape("a")
    shape.beside = 1
    assert (back_to_the_byte(shape).beside, shape.prepared) == (1, True)
    both = SlotAndDict(1, 2)
    both.beside = 3
    assert vars(back_to_the_byte(both)) == {"y": 2, "beside": 3}


def test_a_prepared_object_is_not_prepared_again():
    prepared = Prepared(2)
    prepared.doubled = "set since"
    found = back_to_the_byte(prepared)
    assert (found.doubled, hasattr(found, "unset")) == ("set since", False)
    other = Prepared(2)
    other.halves.append("cached")
    assert back_to_the_byte(other).halves == [2.0, "cached"]


MEMBERS = [
    *Color,
    Color.CRIMSON,
    *Level,
    *Role,
    *samples.Finish,
    *Rich,
    Access(0),
    Access.READ,
    Access.BOTH,
    Access.READ | Access.WRITE,
    ~Access.READ,
    Bits(0),
    Bits.ONE | Bits.FOUR,
    Bits(8),
    Bits.ONE | Bits(8),
    samples.Kept(6),
]


def test_a_member_comes_back_as_itself():
    for member in MEMBERS:
        assert back_to_the_byte(member) is member
        assert back_to_the_byte({member: [member]}) == {member: [member]}


class Known(str, enum.Enum):
    STOP = "stop"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value):
        member = str.__new__(cls, value)
        member._name_ = value if value.startswith("new") else "UNKNOWN"
        member._value_ = value
        return member


def test_a_member_that_is_made_up_is_not_the_member_of_its_name():
    made = Known("surprise")
    assert not same(made, Known.UNKNOWN)
    assert made.name == "UNKNOWN"
    assert back(made).value == "surprise"


def test_a_member_that_is_made_up_comes_back_without_being_made_up_again(monkeypatch):
    made = Known("new reason")
    written = encode([made])
    check_comes_back([made], *written)
    monkeypatch.setattr(Known, "_missing_", None)
    [found] = decode(*written)
    assert type(found) is Known
    assert (found, found.name, found.value) == ("new reason",) * 3
    assert vars(found) == vars(made)
    assert not same(made, Known.STOP)


@pytest.mark.parametrize(
    "parts", [[], ["a"], [1, "a"], ["a", 1], ["stop", "a"], [None, None], ["a", "a", "a"]]
)
def test_parts_of_no_made_up_member_make_the_payload_none(parts):
    shape = encode([Known("new")])[1]
    head, _, _ = shape.partition(b"\n")
    assert decode(TREE, head + b"\n" + orjson.dumps({"!": [0, "a", "b"]})).name == "b"
    with pytest.raises(ValueError, match=r"no member|unpack"):
        decode(TREE, head + b"\n" + orjson.dumps({"!": [0, *parts]}))


class Odd(str, enum.Enum):
    ONE = "one"

    @classmethod
    def _missing_(cls, value):
        member = str.__new__(cls, "another text" if value == "text" else value)
        member._name_ = 5 if value == "name" else value
        member._value_ = "one" if value == "listed" else value
        if value == "more":
            member.more = 1
        return member


class OddNumber(enum.IntEnum):
    ONE = 1

    @classmethod
    def _missing_(cls, value):
        member = int.__new__(cls, value)
        member._name_, member._value_ = f"N{value}", value
        return member


@pytest.mark.parametrize(
    "made", [*map(Odd, ["text", "name", "listed", "more"]), OddNumber(2)], ids=range(5)
)
def test_a_member_that_is_made_up_otherwise_is_refused(made):
    with pytest.raises(UncacheableValue, match="Odd"):
        check_comes_back(made, *encode(made))


def test_a_combination_that_its_class_would_make_up_is_gone():
    class Made(enum.Flag):
        ONE = 1
        TWO = 2

        @classmethod
        def _missing_(cls, value):
            return super()._missing_(value)

    with pytest.raises(ClassGone):
        decode(*encode(Made.ONE | Made.TWO))


@pytest.mark.parametrize(
    "value",
    [
        samples.Token("a"),
        samples.Token([samples.Token("b")], {"a": (1,)}),
        samples.FrozenToken("a"),
        samples.LooseToken(text="a"),
        samples.LooseToken(text="a", scores=[1]),
        samples.TaggedToken("a"),
        samples.TaggedToken(1),
    ],
)
def test_a_struct_comes_back(value):
    found = back_to_the_byte(value)
    assert found == value
    assert found is not value


def test_a_struct_with_attributes_comes_back_with_them():
    value = samples.DictToken("a")
    assert vars(back_to_the_byte(value)) == {}
    value.seen = value.other = (samples.Token("b"), None)
    found = back_to_the_byte(value)
    assert found == value
    assert vars(found) == {"seen": (samples.Token("b"), None), "other": (samples.Token("b"), None)}
    assert not same(value, samples.DictToken("a"))


def test_a_struct_that_had_no_attributes_is_no_answer_for_one_that_has(monkeypatch):
    entry = encode(samples.DictToken("a"))

    class DictToken(msgspec.Struct):
        text: str

    DictToken.__qualname__, DictToken.__module__ = "DictToken", samples.__name__
    monkeypatch.setattr(samples, "DictToken", DictToken)
    with pytest.raises(ClassGone, match="other fields"):
        decode(*entry)


def test_a_struct_that_does_more_than_its_fields_say_is_refused():
    with pytest.raises(UncacheableValue, match="PreparedToken"):
        encode(samples.PreparedToken("text"))


def test_a_named_tuple_with_attributes_is_refused():
    value = NamedSpan(1, 2)
    value.beside = 1
    with pytest.raises(UncacheableValue, match="attributes"):
        encode(value)


def test_a_class_of_another_language_or_with_state_elsewhere_is_refused():
    @dataclasses.dataclass
    class Listed(list):
        x: int = 0

    @dataclasses.dataclass
    class Late(samples.Failure):
        y: int = 0

    class Shown(tuple):
        _fields = "not names"

    for value in (Listed(), Late(), Shown(), attrs.make_class("Odd", ["x"], bases=(dict,))(1)):
        with pytest.raises(UncacheableValue):
            encode(value)


def test_classes_that_no_module_holds_are_kept_in_this_process():
    @dataclasses.dataclass
    class Local:
        x: int

    class Model(BaseModel):
        x: int

    class Kind(enum.Enum):
        A = 1

    Tuple = namedtuple("Tuple", ["x"])
    for value in (Local(1), Model(x=1), Kind.A, Tuple(1), samples.Box[Model](item=Model(x=1))):
        assert type(back_to_the_byte([value])[0]) is type(value)


def test_two_local_classes_of_one_name_are_two():
    def make():
        @dataclasses.dataclass
        class Local:
            x: int

        return Local

    one, two = make(), make()
    assert type(back(one(1))) is one
    assert type(back(two(1))) is two
    assert not same(one(1), two(1))


def test_a_local_class_goes_when_its_last_user_does():
    @dataclasses.dataclass
    class Local:
        x: int

    written = encode(Local(1))
    reference = weakref.ref(Local)
    del Local
    gc.collect()
    assert reference() is None
    with pytest.raises(ClassGone):
        decode(*written)


def test_a_slot_is_read_and_set_behind_what_hides_it():
    ran = []

    class Hiding(OneSlot):
        @property
        def x(self):
            ran.append("get")
            return "hidden"

        @x.setter
        def x(self, value):
            ran.append("set")

    value = object.__new__(Hiding)
    vars(OneSlot)["x"].__set__(value, 1)
    found = decode(*encode(value))
    assert vars(OneSlot)["x"].__get__(found) == 1
    assert ran == []


def test_no_hook_of_an_object_runs():
    ran = []

    def hooked(kind):
        class Hooked(hooks(ran), kind):
            def __new__(cls, *args):
                ran.append("new")
                return super().__new__(cls, *args) if kind is Span else super().__new__(cls)

            def __getattribute__(self, name):
                ran.append(name)
                return super().__getattribute__(name)

            def __getattr__(self, name):
                ran.append(name)
                raise AttributeError(name)

        return Hooked

    for kind in (Point, SlottedPoint, Span):
        value = hooked(kind)(1, 2)
        ran.clear()
        found = decode(*encode([value]))[0]
        assert same(value, found)
        assert ran == []


def test_no_hook_of_a_metaclass_runs():
    ran = []

    class Meta(type):
        def __getattr__(cls, name):
            ran.append(name)
            raise AttributeError(name)

        def __instancecheck__(cls, value):
            ran.append("instancecheck")
            return True

        def __subclasscheck__(cls, kind):
            ran.append("subclasscheck")
            return True

        def __eq__(cls, other):
            ran.append("eq")
            return cls is other

        __hash__ = type.__hash__

    class Watched(metaclass=Meta):
        pass

    with pytest.raises(UncacheableValue):
        encode(Watched())
    assert ran == []


@pytest.fixture
def kind():
    class Registered(Plain):
        pass

    return Registered


@worlds
def test_a_registered_class_is_kept_as_its_user_says(world, kind):
    llmcache.register_type(
        kind, encode=lambda value: {"!": (value.text,)}, decode=lambda written: kind(*written["!"])
    )
    upstream = Upstream(world, [kind("text")])
    for _ in range(3):
        [answer] = upstream.ask()
        assert (type(answer), answer.text) == (kind, "text")
    assert upstream.calls == 1


def test_a_registration_holds_for_exactly_one_class(kind):
    llmcache.register_type(kind, encode=vars, decode=lambda state: kind(**state))
    assert back(kind("text")).text == "text"
    for other in (type("Below", (kind,), {}), Plain):
        with pytest.raises(UncacheableValue, match=other.__name__):
            encode(other())


def test_a_registration_comes_before_what_is_known():
    @dataclasses.dataclass
    class Local:
        x: int
        lock: object = None

    llmcache.register_type(Local, encode=lambda value: value.x, decode=Local)
    assert back(Local(1, object())).x == 1


def test_a_registration_of_a_model_comes_first_too():
    class Local(BaseModel):
        x: int
        lock: object = None

    llmcache.register_type(Local, encode=lambda value: value.x, decode=lambda x: Local(x=x))
    assert back(Local(x=1, lock=object())).x == 1


@worlds
@pytest.mark.parametrize("lost", ["text", None], ids=["value", "class"])
def test_a_registration_that_loses_something_is_refused(world, lost, kind, caplog):
    llmcache.register_type(kind, encode=vars, decode=lambda state: lost and kind("lost"))
    upstream = Upstream(world, kind("text"))
    assert upstream.ask() is upstream.answer
    assert upstream.ask() is upstream.answer
    assert (upstream.stats.rejected, upstream.calls) == (2, 2)
    assert "would not come back as it was" in caplog.text


@pytest.mark.parametrize("side", ["encode", "decode"])
def test_a_registration_that_fails_is_refused(side, kind):
    def fail(value):
        raise RuntimeError("of the user")

    sides = {"encode": vars, "decode": lambda state: kind(**state)} | {side: fail}
    llmcache.register_type(kind, **sides)
    with pytest.raises(UncacheableValue, match=r"Registered.*RuntimeError") as caught:
        check_comes_back(kind("text"), *encode(kind("text")))
    assert "of the user" not in str(caught.value)


def test_a_registration_may_refuse_a_value_itself(kind):
    def refuse(value):
        raise UncacheableValue("it is too old")

    llmcache.register_type(kind, encode=refuse, decode=kind)
    with pytest.raises(UncacheableValue, match="too old"):
        encode(kind())
    written = TREE, payload([["registered", name_of(kind)]], {"!": [0, "text"]})
    with pytest.raises(UncacheableValue, match="too old"):
        check_comes_back(kind(), *written)


def test_a_class_can_be_registered_again(kind):
    llmcache.register_type(kind, encode=lambda value: value.text, decode=kind)
    back(kind("text"))
    llmcache.register_type(kind, encode=vars, decode=lambda state: kind(**state))
    assert back(kind("text")).text == "text"


def test_a_class_that_was_not_registered_here_is_gone():
    with pytest.raises(ClassGone):
        decode(TREE, payload([["registered", "codec.samples:Plain"]], {"!": [0, 1]}))


@pytest.mark.parametrize("kind", [None, "Plain", Plain(), list[int]])
def test_only_a_class_can_be_registered(kind):
    with pytest.raises(ConfigurationError, match="no class"):
        llmcache.register_type(kind, encode=vars, decode=Plain)


SHAPES = {
    "object": ["object", "codec.samples:Point", fingerprint(["x", "y"]), ["x", "y"]],
    "namedtuple": ["namedtuple", "codec.samples:Pair", fingerprint(["left", "right"])],
    "enum": ["enum", "codec.samples:Color", encode(Color.RED)[1].split(b'"')[5].decode(), "RED"],
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_what_it_looks_like(name):
    assert same(
        decode(TREE, payload([SHAPES[name]], {"!": [0, *([] if name == "enum" else [1, 2])]})),
        {"object": Point(1, 2), "namedtuple": Pair(1, 2), "enum": Color.RED}[name],
    )


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("mark", ["", "0" * 16, None, 1, []])
def test_a_class_of_other_fields_is_gone(name, mark):
    shape = [*SHAPES[name]]
    shape[2] = mark
    with pytest.raises(ClassGone):
        decode(TREE, payload([shape], {"!": [0, 1, 2]}))


@pytest.mark.parametrize("name", SHAPES)
def test_a_class_of_another_kind_is_gone(name):
    for other in {"object", "namedtuple", "enum", "pydantic", "msgspec", "registered"} - {name}:
        with pytest.raises(ClassGone):
            decode(TREE, payload([[other, *SHAPES[name][1:]]], {"!": [0, 1, 2]}))


def test_a_member_that_there_is_not_is_gone():
    for member in ("BLUE", "", 1, "__class__", "mro"):
        with pytest.raises(ClassGone):
            decode(TREE, payload([[*SHAPES["enum"][:3], member]], {"!": [0]}))


@pytest.mark.parametrize("parts", [[], [1], [1, 2, 3]])
def test_an_object_of_more_or_fewer_parts_is_none(parts):
    with pytest.raises(ValueError, match="argument"):
        decode(TREE, payload([SHAPES["object"]], {"!": [0, *parts]}))


def test_attributes_that_a_class_has_no_place_for_are_gone():
    shape = ["object", "codec.samples:FrozenSlottedPoint", fingerprint(["x"]), ["x", "beside"]]
    with pytest.raises(ClassGone):
        decode(TREE, payload([shape], {"!": [0, 1, 2]}))


@pytest.mark.parametrize("kind", [samples.HashedShape, samples.HashedDictShape])
def test_a_hash_that_attrs_keeps_stays_in_its_process(kind):
    plain, hashed = kind("a"), kind("a")
    number = hash(hashed)
    assert kept_hash(hashed) == number
    assert same(plain, hashed)
    assert encode(plain) == encode(hashed)
    assert str(number).encode() not in encode(hashed)[1]
    found = back(hashed)
    assert kept_hash(found) is None
    assert hash(found) == number
    assert found in {plain}


def kept_hash(shape):
    return shape._attrs_cached_hash
