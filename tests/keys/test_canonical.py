from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
import pathlib
import typing
import zoneinfo
from decimal import Decimal
from fractions import Fraction

import msgspec
import numpy as np
import orjson
import pydantic
import pytest

import llmcache.keys.request  # noqa: F401
from keys import named
from llmcache import UncacheableArgument
from llmcache.keys.canonical import canonical


class Shouted(enum.Enum):
    A = "a"

    @property
    def value(self) -> str:
        return "loud"


class Level(enum.Enum):
    A = 1


class Word(enum.Enum):
    A = "a"


Day = enum.Enum("Day", {f"D{day}": dt.date(2026, 1, day) for day in range(1, 21)})


def test_an_enum_is_the_value_that_it_shows() -> None:
    assert canonical([Shouted.A, Level.A]) == b'["loud",1]'


@pytest.fixture(params=[1 << 16, 200], ids=["few", "many"])
def most(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Let values have few parts or many, as far as the look at them is concerned."""
    monkeypatch.setattr("llmcache.keys.fit._MANY", request.param)
    return request.param


@pytest.mark.usefixtures("most")
@pytest.mark.parametrize(
    ("item", "form"),
    [
        ({"a": (1, Level.A), "b": "c"}, b'{"a":[1,1],"b":"c"}'),
        ([["a", "b"], None], b'[["a","b"],null]'),
        (["a", 0.5], b'["a",0.5]'),
        (dt.date(2026, 1, 31), b'!date"2026-01-31"'),
    ],
)
def test_many_containers_are_no_deep_ones(item: typing.Any, form: bytes) -> None:
    value = [item] * 300
    expected = b"[" + b",".join([form] * 300) + b"]"
    assert canonical(value) == expected
    assert canonical({"messages": value}) == b'{"messages":%b}' % expected
    assert canonical([[item, value[:2]], "a"]) == b'[[%b,[%b,%b]],"a"]' % (form, form, form)


@pytest.mark.usefixtures("most")
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize(
    ("odd", "form"),
    [
        ([float("nan")], b'[!float"nan"]'),
        ({"b": [float("inf")]}, b'{"b":[!float"inf"]}'),
        (float("nan"), b'!float"nan"'),
        ([Shouted.A], b'["loud"]'),
        ({"b": Shouted.A}, b'{"b":"loud"}'),
    ],
)
def test_what_orjson_spells_otherwise_is_found_among_many_containers(
    odd: typing.Any, form: bytes, *, within: bool
) -> None:
    many = [*([{"a": ()}] * 300), 0.5, odd]
    found = canonical({"messages": many} if within else many)
    assert found.endswith(b'{"a":[]},0.5,%b]%b' % (form, b"}" * within))


@pytest.mark.usefixtures("most")
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("kind", [list, tuple])
def test_what_nests_too_deep_among_many_containers_is_refused(kind: type, *, within: bool) -> None:
    deep = kind()
    for _ in range(300):
        deep = kind([deep])
    many = [*([{"a": []}] * 300), deep]
    with pytest.raises(UncacheableArgument, match="nests too deep"):
        canonical({"messages": many} if within else many)


@pytest.mark.parametrize("around", [0, 300])
def test_bytes_that_orjson_would_write_as_they_are_are_refused(around: int) -> None:
    forged = orjson.Fragment(b"1")
    values: list[typing.Any] = [*([{"a": ()}] * around), forged]
    deep = [{"a": forged}], {"a": {"b": forged}}
    for value in (values, [*values, 2**70], {"a": values}, *deep):
        with pytest.raises(UncacheableArgument, match=r"orjson\.Fragment"):
            canonical(value)


def test_an_interrupt_while_a_value_is_written_is_the_callers() -> None:
    class Interrupting:
        def __llmcache_key__(self) -> typing.Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        canonical([Interrupting()])


Item = typing.TypeVar("Item")


class Held(typing.NamedTuple):
    first: Item  # type: ignore[valid-type]
    second: typing.Any
    third: typing.List["Held"]


def test_types_that_stand_for_others_have_a_form() -> None:
    form = canonical(Held)
    assert b'!typevar["TypeVar","Item",null,[]]' in form
    assert b'!class["typing:Any",null]' in form
    assert canonical(typing.List["later"]) == b'!generic[!class["builtins:list",null],"later"]'  # noqa: F821


def test_a_class_whose_fields_name_nothing_is_refused() -> None:
    class Lost(typing.TypedDict):
        field: "nowhere"  # noqa: F821

    with pytest.raises(UncacheableArgument, match="nowhere"):
        canonical(Lost)


Bound = typing.TypeVar("Bound", bound=int)
UserId = typing.NewType("UserId", int)
OrderId = typing.NewType("OrderId", int)

TYPES: list[typing.Any] = [
    *(typing.Any, typing.TypeVar("Any"), Bound, typing.TypeVar("Bound", bound=str)),
    *(typing.TypeVar("Bound"), typing.TypeVar("Bound", int, str), typing.ParamSpec("Bound")),
    *(typing.TypeVarTuple("Bound"), UserId, OrderId, typing.NewType("UserId", str)),
    *(typing.Tuple, tuple[()], tuple[int, ...], tuple[tuple[int, ...]]),
    *(tuple[*tuple[int, ...]], list[UserId], list[Bound], list[typing.TypeVar("Bound")]),
    *(typing.ClassVar[int], typing.Final[int], typing.Required[int], typing.NotRequired[int]),
    *(typing.Final, typing.Never, typing.Self, dataclasses.InitVar[int], dataclasses.InitVar[str]),
    *(typing.Callable[[int], str], typing.Callable[..., str], typing.Callable[[Bound], Bound]),
    *(
        int | str,
        int | None,
        typing.Annotated[int, 1],
        typing.Literal[1],
        type[int],
        dict[Bound, Bound],
    ),
    dict[Bound, typing.TypeVar("Bound", bound=int)],
]


def test_no_two_types_share_their_bytes() -> None:
    forms = [canonical(each) for each in TYPES]
    assert len(set(forms)) == len(forms)
    assert canonical(int | str) == canonical(typing.Union[str, int])
    assert canonical(typing.List) == canonical(list)
    assert canonical(typing.List[int]) == canonical(list[int])


class Partly(typing.TypedDict):
    whole: int
    part: typing.NotRequired[str]


@dataclasses.dataclass
class Everything:
    limit: typing.ClassVar[int] = 3
    first: dataclasses.InitVar[int] = 1
    last: typing.Final[int] = 1
    user: UserId = UserId(1)


def test_every_kind_of_field_has_a_form() -> None:
    assert b'"part":!generic["typing:NotRequired"' in canonical(Partly)
    form = canonical(Everything)
    for part in (b"typing:ClassVar", b"dataclasses:InitVar", b"typing:Final", b"!newtype"):
        assert part in form


@dataclasses.dataclass
class Unfinished:
    field: "list[int"  # noqa: F722


@dataclasses.dataclass
class Unknown:
    field: "typing.Nowhere"


@pytest.mark.parametrize("kind", [Unfinished, Unknown])
def test_a_class_whose_annotations_cannot_be_read_is_refused(kind: type) -> None:
    with pytest.raises(UncacheableArgument, match="annotations cannot be read"):
        canonical(kind)


@pytest.mark.parametrize("count", [5, 20, 300, 5000])
@pytest.mark.parametrize("odd", [float("nan"), 2**70, "\ud800", 0.5, "a", 1, None])
def test_pieces_are_written_as_one(count: int, odd: typing.Any) -> None:
    values = [[1, 0.5, "a", None, True, 2**63, "ä"][i % 7] for i in range(count)]
    for at in (0, count // 2, count - 1):
        some = [*values[:at], odd, *values[at:]]
        forms = [canonical(value) for value in some]
        assert canonical(some) == b"[%b]" % b",".join(forms)
        assert canonical([[some]]) == b"[[[%b]]]" % b",".join(forms)
        named = {f"{i:05}": value for i, value in enumerate(some)}
        members = [b'"%05d":%b' % pair for pair in enumerate(forms)]
        assert canonical(named) == b"{%b}" % b",".join(members)
        many = [{"text": "a", "score": value} for value in some]
        each = [b'{"score":%b,"text":"a"}' % form for form in forms]
        assert canonical(many) == b"[%b]" % b",".join(each)


UTC = dt.datetime(2026, 1, 31, tzinfo=dt.UTC)
LATE = UTC.replace(tzinfo=dt.timezone(dt.timedelta(seconds=90)))
ALIKE: dict[str, list[typing.Any]] = {
    "dates": [dt.date(2026, 1, day) for day in range(1, 21)],
    "times": [dt.time(hour, 1, 2, 3) for hour in range(20)],
    "naive": [dt.datetime(2026, 1, 31, hour) for hour in range(20)],
    "aware": [UTC.replace(hour=hour) for hour in range(20)],
    "aware to the second": [LATE.replace(hour=hour) for hour in range(20)],
    "folded": [*[dt.datetime(2026, 1, 31)] * 20, dt.datetime(2026, 1, 31, fold=1)],
    "in two zones": [*[UTC] * 20, LATE],
    "timedeltas": [dt.timedelta(-hour, hour, hour) for hour in range(20)],
    "decimals": [Decimal(number) / 7 for number in range(20)],
    "fractions": [Fraction(number, 7) for number in range(20)],
    "large fractions": [Fraction(2**70 + number, 7) for number in range(20)],
    "complex": [complex(number, -0.5) for number in range(20)],
    "floats": [0.5, float("nan"), float("inf"), 1.0] * 5,
    "complex nan": [complex(number, float("nan")) for number in range(20)],
    "bytes": [b"%d" % number for number in range(20)],
    "bytearrays": [bytearray(number) for number in range(20)],
    "paths": [pathlib.PurePosixPath(f'a",{number}') for number in range(20)],
    "lone paths": [pathlib.PurePosixPath("\ud800")] * 20,
    "members": [Shouted.A] * 20,
    "members of dates": [*Day],
    "members of texts": [Word.A] * 20,
    "named tuples": [named.Pair(number, ["b"]) for number in range(20)],
    "subclasses with attributes": [named.having(named.Text("a"), b=number) for number in range(20)],
    "dataclasses": [named.Point(number, UTC) for number in range(20)],
    "dataclasses with large numbers": [named.Point(number, 2**70) for number in range(20)],
    "dataclasses with nan": [named.Point(number, float("nan")) for number in range(20)],
    "dataclasses without fields": [named.Nothing()] * 20,
    "structs": [named.Turn(str(number), "b") for number in range(20)],
    "models": [named.Reply(text=str(number)) for number in range(20)],
    "models with more": [named.Open(more=number) for number in range(20)],
    "models with less": [named.Reply.model_construct(text="a")] * 20,
    "parametrised models": [named.Box[int](item=number) for number in range(20)],
    "keyed": [named.Keyed(number) for number in range(20)],
    "numpy numbers": [np.float64(number) for number in range(20)],
    "numpy texts": [np.str_(number) for number in range(20)],
    "of two classes": [*[UTC] * 20, dt.date(2026, 1, 31)],
}


@pytest.mark.parametrize("values", ALIKE.values(), ids=ALIKE.keys())
def test_many_of_one_class_are_written_as_one_by_one(values: list[typing.Any]) -> None:
    forms = b",".join([canonical(value) for value in values])
    assert canonical(values) == b"[%b]" % forms
    assert canonical({"a": values, "b": tuple(values)}) == b'{"a":[%b],"b":[%b]}' % (forms, forms)


def local(number: int) -> typing.Any:
    class Local:
        def __init__(self) -> None:
            self.number = number

    class Word(str):
        pass

    class Said:
        def __llmcache_key__(self) -> int:
            return number

    class Model(pydantic.BaseModel):
        number: int

    class Turn(msgspec.Struct):
        number: int

    return [Local(), Word(number), Said(), Model(number=number), Turn(number)]


@pytest.mark.parametrize("place", range(5))
def test_many_of_a_class_that_no_module_holds_are_of_the_same(place: int) -> None:
    value = local(1)[place]
    assert canonical([value] * 20).count(b"!local") == 1
    assert canonical([value] * 20).count(b"!again0") == 19


def test_many_of_which_one_is_refused_are_refused_with_its_place() -> None:
    points = [named.Point(1, 2)] * 20
    with pytest.raises(UncacheableArgument) as caught:
        canonical({"points": [*points, named.Point(1, object())]})
    assert caught.value.path.startswith(".points[20]")
    with pytest.raises(UncacheableArgument, match="unfinished") as caught:
        canonical([named.Reply.__new__(named.Reply)] * 20)
    assert caught.value.path == "[0]"


@pytest.mark.parametrize("held", [False, True])
def test_a_parametrised_model_is_known_by_its_parts_whoever_holds_it(held: bool) -> None:
    assert vars(named)["Box[int]"] is named.IntBox
    kind = named.IntBox if held else named.Box[str]
    values = [kind(item=str(number) if kind is named.Box[str] else number) for number in range(20)]
    assert canonical(values).count(b"!generic[") == 20


def test_a_key_that_is_used_again_is_written_at_once() -> None:
    scratch: dict[str, int] = {}

    class Reusing:
        def __init__(self, number: int) -> None:
            self.number = number

        def __llmcache_key__(self) -> dict[str, int]:
            scratch["number"] = self.number
            return scratch

    forms = {canonical([Reusing(number) for number in range(first, 20)]) for first in (0, 1)}
    assert canonical([Reusing(19)] * 20) not in forms


GROWING: list[typing.Any] = []


class Growing:
    def __llmcache_key__(self) -> int:
        GROWING.append(dt.date(2026, 1, 31))
        return 1


def test_a_list_that_grows_while_it_is_written_is_what_it_was() -> None:
    GROWING[:] = [named.Point(1, Growing()) for _ in range(20)]
    form = canonical({"values": GROWING})
    assert form.count(b"!object[") == 20
    assert b"!date" not in form


def test_many_leaves_are_no_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmcache.keys.fit.MOST_PARTS", 30)
    assert canonical({"x": [b""] * 31}).count(b"!bytes") == 31


class Said:
    """Says what counts of it, and what else is done then."""

    def __init__(self, then: typing.Callable[[], object]) -> None:
        self.then = then

    def __llmcache_key__(self) -> str:
        self.then()
        return "said"


DATE = dt.date(2026, 1, 31)
IN_TURN = [DATE, "a"] * 20


@pytest.mark.parametrize("odd", ["\ud800", 2**70, math.nan])
def test_what_is_grouped_in_vain_does_not_count(
    odd: typing.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmcache.keys.fit.MOST_PARTS", 60)
    assert canonical([*IN_TURN, *[odd] * 5]).count(b"!date") == 20


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_what_is_grouped_in_vain_is_so_once(depth: int) -> None:
    @dataclasses.dataclass
    class Local:
        held: typing.Any

    asked: list[int] = []
    value: typing.Any = Said(lambda: asked.append(1))
    for _ in range(depth):
        value = [Local(value), *[DATE] * 40, "\ud800"]
    assert canonical(value).count(b"!date") == 40 * depth
    assert len(asked) <= 2


def test_a_list_counts_as_it_was_when_it_came() -> None:
    value: list[typing.Any] = []
    said = Said(value.clear)
    for more in ([], [*IN_TURN, said], [*IN_TURN, "\ud800"]):
        value[:] = [said, *more]
        assert canonical(value).count(b"said") == 1 + (said in more)


def test_a_key_without_end_is_refused_with_its_place() -> None:
    class Endless:
        def __llmcache_key__(self) -> typing.Any:
            return self.__llmcache_key__()

    for values in ([Endless()] * 20, [named.Point(1, Endless())] * 20):
        with pytest.raises(UncacheableArgument) as caught:
            canonical({"tools": values})
        assert caught.value.path.startswith(".tools[0]")


def test_floats_and_texts_stand_side_by_side_in_many_containers() -> None:
    many = [{"text": "a", "score": 0.5, "rank": 10**400 if i == 299 else 1} for i in range(300)]
    assert canonical(many[:299]) == canonical(many[:298])[:-1] + b"," + canonical(many[0]) + b"]"
    assert b"!int" in canonical(many)


def test_a_special_type_with_arguments_of_its_own_kind_is_refused() -> None:
    P = typing.ParamSpec("P")
    with pytest.raises(UncacheableArgument, match="type that has no canonical form"):
        canonical(P.args)


@dataclasses.dataclass
class Documented:
    """First.

    Second.
    """

    one: int = 1


class Struct(msgspec.Struct):
    held: Documented
    plain: typing.Optional["Struct"] = None


def test_a_schema_has_docstrings_without_indentation() -> None:
    assert b'"description":"First.\\n\\nSecond."' in canonical(Struct)


def test_a_schema_of_a_model_that_is_rebuilt_is_made_again() -> None:
    class Model(pydantic.BaseModel):
        one: int

    before = canonical(Model)
    assert canonical(Model) == before
    Model.__doc__ = "Another."
    Model.model_rebuild(force=True)
    assert canonical(Model) != before


@pytest.mark.parametrize(
    ("items", "form"),
    [
        ([{2, 10, 1}, set()], b"!set[1,10,2],!set[]"),
        ([frozenset({"b", "a"}), frozenset({None})], b'!frozenset["a","b"],!frozenset[null]'),
        ([{1}, {b"a"}], None),
        ([{1}, {math.nan}], None),
        ([{2: "a", 1: "b"}, {True: 1.5}], b'!map[[1,"b"],[2,"a"]],!map[[true,1.5]]'),
        ([{1: "a", "1": "b"}], b'!map[["1","b"],[1,"a"]]'),
        ([{1: "a"}, {"1": "a"}, {}], b'!map[[1,"a"]],{"1":"a"},{}'),
        ([{1: {2}}, {1: [3]}], b"!map[[1,!set[2]]],!map[[1,[3]]]"),
        ([{1: 2}, {b"a": 3}], None),
        ([1 + 2j, complex("nan")], None),
    ],
)
def test_many_containers_are_written_as_each_of_them_is(
    items: list[typing.Any], form: bytes | None
) -> None:
    assert form in {None, b",".join(map(canonical, items))}
    expected = b",".join([canonical(item) for item in items] * 20)
    assert canonical(items * 20) == b"[%b]" % expected


@pytest.mark.parametrize("kind", [dt.datetime, dt.time])
def test_many_times_of_several_zones_are_written_as_each_of_them_is(kind: typing.Any) -> None:
    moment = dt.datetime(1890, 10, 26, 2, 30)
    zones = [
        *(None, dt.UTC, dt.timezone(dt.timedelta(seconds=40)), named.Zone()),
        *map(zoneinfo.ZoneInfo, ("Europe/Berlin", "UTC")),
    ]
    times = [moment.replace(tzinfo=zone, fold=fold) for zone in zones for fold in (0, 1)]
    if kind is dt.time:
        times = [time.timetz() for time in times]
    for some in (times, times[:6], times[:1], times[8:], times[8:9], times[4:5], times[7:8]):
        expected = b",".join([canonical(time) for time in some] * 10)
        assert canonical(some * 10) == b"[%b]" % expected
