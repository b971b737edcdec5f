"""The canonical form agrees with a slow one that was written from its specification."""

from __future__ import annotations

import datetime as dt
import functools
import io
import itertools
import re
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import PosixPath, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal, Union
from zoneinfo import ZoneInfo

import anthropic
import numpy as np
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import llmcache.keys.request  # noqa: F401
from keys import named
from keys.reference import reference
from keys.reference_functions import Refused
from llmcache import UncacheableArgument
from llmcache.keys.canonical import canonical


def opaque(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return *strategy* with a short repr: Hypothesis warns of long ones."""

    @st.composite
    def drawn(draw: st.DrawFn) -> Any:
        return draw(strategy)

    return drawn()


huge = st.builds(
    lambda sign, bits, low: sign * ((1 << bits) + low),
    st.sampled_from([1, -1]),
    st.sampled_from([62, 63, 64, 65, 127, 20_000]),
    st.integers(-2, 2),
)
floats = st.floats() | st.sampled_from(
    [0.0, -0.0, 5e-324, 2.2250738585072014e-308, 1e16, 1e15, 1e-5, 1e-6, 1e22, float("nan")]
)
texts = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    ["", "\ud83d\ude00", "😀", "\ude00", "\0", "\x1f\x7f\x80", '"', "\\", "\u2028", "\uffff", "!"]
)
members = st.sampled_from(
    [
        member
        for kind in (named.Color, named.Outer, named.Level, named.Mood, named.Access, named.Bits)
        for member in kind.__members__.values()
    ]
    + [named.Access.READ | named.Access.WRITE, named.Access(0), named.Bits(0)]
)
classes = st.sampled_from(
    [
        *(int, type(None), dict, OrderedDict, PosixPath, np.float64, np.ndarray),
        *(named.Color, named.Outer, named.Level, named.Access),
        *(named.Plain, named.Keyed, named.Bot.Inner),
    ]
)
constants = st.sampled_from(
    [..., NotImplemented, openai.NOT_GIVEN, openai.omit, anthropic.NOT_GIVEN, anthropic.omit]
)
patterns = st.sampled_from(
    [re.compile("a+"), re.compile("[😀]", re.I | re.S), re.compile(b"\xff", re.M)]
)
offsets = st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))
zones = st.one_of(
    st.none(),
    st.timezones(),
    st.builds(dt.timezone, offsets),
    st.builds(dt.timezone, offsets, texts),
    st.just(named.Zone()),
)
settled = st.none() | st.timezones() | st.builds(dt.timezone, offsets)
MIN, MAX = dt.datetime(2, 1, 1), dt.datetime(9998, 1, 1)
moments = st.times(timezones=zones) | st.datetimes(MIN, MAX, timezones=zones)


def having_fold(moment: Any, fold: int) -> Any:
    return moment.replace(fold=fold)


dates = st.one_of(
    st.dates(),
    st.timedeltas(),
    st.builds(having_fold, moments, st.integers(0, 1)),
)
paths = st.builds(
    lambda kind, text: kind(text),
    st.sampled_from([PosixPath, PurePosixPath, PureWindowsPath]),
    texts,
)
eight = st.binary(min_size=8, max_size=8)
views = st.one_of(
    st.builds(lambda data, form: memoryview(data).cast(form), eight, st.sampled_from("Bbchiqd?")),
    st.builds(lambda data: memoryview(data).cast("B", [2, 2, 2]), eight),
    st.builds(lambda data: memoryview(bytearray(data))[::-2], eight),
)
simple = npst.scalar_dtypes().filter(lambda dtype: dtype.char not in "gG")
texty = npst.byte_string_dtypes(min_len=1) | npst.unicode_string_dtypes(min_len=1)
shapes = npst.array_shapes(min_dims=0, min_side=0, max_side=3)


@st.composite
def records(draw: st.DrawFn) -> np.ndarray:
    """Return a structured array, filled by its columns: numpy guesses at tuples."""
    names = draw(st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=3, unique=True))
    shape = draw(shapes)
    columns = {name: draw(npst.arrays(simple | texty, shape)) for name in names}
    array = np.zeros(shape, [(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        array[name] = column
    return array


arrays = npst.arrays(simple | texty, shapes) | records()
scalars = npst.arrays(simple | texty, 1).map(lambda array: array[0])

atoms = opaque(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), huge, floats, texts, st.uuids(), members),
        *(st.binary(), dates, st.decimals(allow_nan=False), st.fractions(), st.complex_numbers()),
        *(paths, patterns, constants, classes, scalars),
        st.builds(range, st.integers(), st.integers(), st.integers(1, 9)),
        *(st.builds(named.Text, texts), st.builds(named.Blob, st.binary())),
        *(st.builds(named.Count, huge), st.builds(named.Ratio, floats)),
    )
)
hashable = opaque(
    st.recursive(
        atoms,
        lambda inner: st.one_of(
            st.tuples(inner, inner),
            st.frozensets(inner, max_size=4),
            st.builds(named.Frozen, st.frozensets(inner, max_size=3)),
            st.builds(named.Slim, inner),
            st.builds(named.Pair, inner, inner),
        ),
        max_leaves=6,
    )
)
unhashable = opaque(
    st.one_of(
        *(st.builds(bytearray, st.binary()), views, arrays),
        st.decimals(allow_nan=True),
        *(st.sets(hashable, max_size=5), st.builds(named.Bag, st.sets(hashable, max_size=4))),
        st.dictionaries(hashable, st.none(), max_size=3).map(Counter),
    )
)


def objects(items: list[Any]) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def having(value: Any, attributes: dict[str, Any]) -> Any:
    for name, attribute in attributes.items():
        setattr(value, name, attribute)
    return value


def nests(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=4)
    tables = st.dictionaries(hashable, inner, max_size=4)
    own = st.dictionaries(st.sampled_from(["one", "two", "three"]), inner, min_size=1)
    return st.one_of(
        *(lists, lists.map(tuple), tables, st.dictionaries(texts, inner, max_size=4)),
        st.builds(deque, lists, st.none() | st.integers(4, 9)),
        st.builds(slice, inner, inner, inner),
        lists.map(objects),
        *(tables.map(OrderedDict), st.builds(defaultdict, st.none() | classes, tables)),
        *(lists.map(kind) for kind in (named.Items, named.Row)),
        tables.map(named.Table),
        *(st.builds(kind, inner, inner) for kind in (named.Pair, named.Twin)),
        *(st.builds(kind, inner, inner) for kind in (named.Point, named.Spot, named.Turn)),
        *(st.builds(kind, inner) for kind in (named.Slim, named.Shape, named.Form, named.Keyed)),
        st.builds(named.Reply, text=inner, score=st.none() | st.floats()),
        st.builds(named.Answer.model_construct, text=inner),
        own.map(lambda own: named.Open.model_construct(**own)),
        inner.map(lambda secret: having(named.Open(), {"_secret": secret})),
        st.builds(named.Box[Any].model_construct, item=inner),
        st.builds(named.Box[int].model_construct, item=inner),
        st.builds(named.Roots.model_construct, lists),
        *(own.map(lambda own, kind=kind: kind(**own)) for kind in (named.Plain, named.Mixed)),
        *(st.builds(having, st.builds(named.Text, texts), own),),
        *(st.builds(having, lists.map(named.Items), own),),
    )


def functions(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return functions that hold values, and what is made of functions."""
    local = st.one_of(
        st.builds(named.local_function, inner),
        st.builds(named.local_lambda, inner),
        st.builds(named.local_stack, inner, inner),
        st.builds(named.local_default, inner),
        st.builds(named.local_tool, inner, inner),
    )
    any_ = local | st.sampled_from(
        [named.tool, named.untyped, *named.twice, *named.looped, *named.shapes]
    )
    own = st.dictionaries(st.sampled_from(["one", "two"]), inner, min_size=1)
    return st.one_of(
        any_,
        st.builds(having, local, own),
        st.builds(functools.partial, any_, inner, key=inner),
        st.builds(functools.partial, st.just(named.tool), inner, unit=inner),
        *(any_.map(kind) for kind in (functools.lru_cache, named.passing)),
        st.builds(lambda kitchen, name: kitchen(name).cook, kitchens, inner),
        st.sampled_from([named.Kitchen.open, named.Bot.ask, named.Bot.plain, named.complete]),
        st.builds(lambda items: items.append, st.lists(inner, max_size=3)),
        st.builds(lambda function: [function, {"b": function, "a": [function]}], any_),
        st.builds(lambda one, two: {1: one, 2: two, 3: [one, two]}, local, any_),
        st.frozensets(any_, max_size=3),
        st.builds(lambda version, function: named.cached(version)(function), atoms, any_),
    )


kitchens = st.sampled_from([named.Kitchen, named.Restaurant])


def local_classes(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return classes that no module holds, and what is made of them."""
    held = st.builds(named.local_class, inner) | st.builds(named.local_methods, inner, inner)
    bare = held | st.one_of(
        st.builds(named.local_described, inner),
        st.builds(named.local_child, held, inner),
        st.builds(named.local_enum, texts),
        st.sampled_from([named.local_data(), named.local_model()]),
    )
    return st.one_of(
        bare,
        st.builds(lambda kind, item: kind(item), held, inner),
        st.builds(lambda kind, item: kind(item).ask, held, inner),
        st.builds(lambda kind: [kind, {"a": kind}, {kind}], bare),
        st.builds(lambda kind, item: {kind: item, named.T: [kind]}, bare, inner),
        st.builds(lambda kind: list[kind] | dict[str, kind] | None, bare),
        st.builds(lambda item: Annotated[int, item, named.T], inner),
    )


types = st.recursive(
    st.sampled_from(
        [
            *(int, str, None, Any, named.T, named.UserId, named.Answer, named.Turn, named.Shape),
            *(named.Point, named.Node, named.Options, named.Pair, named.Twin, named.Box[int]),
            *(named.Unheld, named.Made, named.Rated, Literal["a", 1, None], "Node"),
        ]
    ),
    lambda inner: st.one_of(
        inner.map(lambda kind: list[kind]),
        st.builds(lambda one, two: dict[one, two], inner, inner),
        st.builds(lambda one, two: Callable[[one], two], inner, inner),
        st.builds(lambda one, two: Union[one, two], inner, inner),
        st.builds(lambda one, two: tuple[one, Annotated[two, "x"]], inner, inner),
    ),
    max_leaves=6,
)

headers = st.dictionaries(
    st.sampled_from(
        [
            "X-Tenant",
            "X_API_KEY",
            "Authorization",
            "User-Agent",
            "x-stainless-lang",
            "X-Token-Limit",
        ]
    ),
    st.text("abc"),
)
endpoints = st.sampled_from(["http://a/v1", "http://b"])
queries = st.dictionaries(st.text("abc"), st.text("abc") | st.integers(0, 9), max_size=2)
clients = st.one_of(
    *(
        st.builds(
            kind,
            api_key=st.text("abc", min_size=1),
            base_url=endpoints,
            organization=st.none() | st.text("abc"),
            project=st.none() | st.text("abc"),
            default_headers=headers,
            default_query=queries,
        )
        for kind in (openai.OpenAI, openai.AsyncOpenAI, named.Client)
    ),
    st.builds(
        openai.AzureOpenAI,
        api_key=st.just("k"),
        azure_endpoint=endpoints,
        api_version=st.sampled_from(["1", "2"]),
        azure_deployment=st.none() | st.text("abc", min_size=1),
    ),
    st.builds(
        anthropic.Anthropic, api_key=st.just("k"), base_url=endpoints, default_headers=headers
    ),
)
resources = clients.map(lambda client: [client, getattr(client, "chat", client)])

LOCAL_CLASS, LOCAL_DATA, LOCAL_MODEL = (
    named.local_class(None),
    named.local_data(),
    named.local_model(),
)
LOCAL_ITEMS = named.local_items()
pieces = atoms | st.lists(atoms, max_size=3) | st.dictionaries(texts, atoms, max_size=3)
zoned = st.sampled_from(
    [dt.UTC, dt.timezone(dt.timedelta(hours=-3.5), "here"), dt.timezone(dt.timedelta(seconds=40))]
).map(lambda zone: st.datetimes(timezones=st.just(zone)))
numbered = pieces | st.sampled_from([named.tool, *named.twice, LOCAL_CLASS, LOCAL_DATA])
kinds = st.sampled_from(
    [
        *(st.dates(), st.times(), st.datetimes(), moments, dates, st.timedeltas()),
        *(st.decimals(allow_nan=True), st.fractions(), huge.map(Fraction), st.complex_numbers()),
        *(st.binary(), st.builds(bytearray, st.binary()), views, scalars, st.uuids()),
        *(st.builds(PosixPath, texts), members, floats, texts, st.integers(), huge),
        st.just(0.5).map(np.float64),
        *(st.sampled_from(list(kind)) for kind in (named.Color, named.Outer, named.Level)),
        *(st.builds(kind, pieces, pieces) for kind in (named.Pair, named.Twin, named.Point)),
        *(st.builds(kind, pieces, pieces) for kind in (named.Spot, named.Turn)),
        *(st.builds(kind, pieces) for kind in (named.Slim, named.Shape, named.Form, named.Keyed)),
        st.builds(named.Reply, text=pieces, score=st.none() | st.floats()),
        st.builds(named.Answer.model_construct, text=pieces),
        st.dictionaries(st.sampled_from("ab"), pieces).map(lambda own: named.Open(**own)),
        *(st.builds(named.Text, texts), st.builds(named.Count, huge), st.builds(named.Items)),
        *(st.dictionaries(keys, pieces, max_size=3) for keys in (st.integers(), floats, atoms)),
        st.dictionaries(atoms, pieces, max_size=3).map(named.Table),
        st.builds(named.local_class, st.none()).map(lambda kind: kind(1)),
        *(st.builds(kind, numbered) for kind in (LOCAL_CLASS, LOCAL_DATA)),
        st.lists(numbered, max_size=2).map(LOCAL_ITEMS),
        st.builds(LOCAL_MODEL.model_construct, value=numbered),
        st.builds(named.Box[LOCAL_MODEL].model_construct, item=numbered),
        *(st.sets(part, max_size=3) for part in (st.integers(), texts, floats, hashable)),
        *(st.frozensets(part, max_size=3) for part in (st.booleans(), texts, atoms)),
        *(st.dictionaries(st.integers(), part, min_size=1, max_size=3) for part in (texts, huge)),
        st.dictionaries(texts | st.integers(), st.none(), min_size=1, max_size=2),
        *(st.datetimes(MIN, MAX, timezones=zone) for zone in (zones, settled)),
        st.builds(having_fold, st.datetimes(MIN, MAX, timezones=settled), st.integers(0, 1)),
        *(st.times(timezones=zone) for zone in (zones, settled)),
    ]
)
alike = opaque((kinds | zoned).flatmap(lambda kind: st.lists(kind, min_size=17, max_size=19)))

values = st.recursive(hashable | unhashable, nests, max_leaves=20)
callables = st.recursive(
    atoms | types | resources,
    lambda inner: functions(inner) | local_classes(inner) | nests(inner),
    max_leaves=8,
)


@settings(max_examples=1000, suppress_health_check=list(HealthCheck))
@given(values)
def test_every_value_has_the_bytes_of_the_specification(value: Any) -> None:
    assert canonical(value) == reference(value)


def test_times_of_any_fraction_of_a_second_have_the_bytes_of_the_specification() -> None:
    noon = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
    moments = [noon + dt.timedelta(microseconds=7**power) for power in range(20)]
    times = [moment.timetz() for moment in moments]
    naive = [moment.time() for moment in moments]
    for items in (moments, times, naive):
        assert canonical(items) == reference(items)


@pytest.mark.parametrize("year", [1, 1880, 1937, 1972, 1973, 2026])
@pytest.mark.parametrize("zone", ["Africa/Monrovia", "Europe/Amsterdam", "Asia/Kathmandu"])
def test_moments_of_a_zone_have_its_offsets_to_the_second(year: int, zone: str) -> None:
    first = dt.datetime(year, 1, 1, tzinfo=ZoneInfo(zone))
    moments = [first + dt.timedelta(days=12 * number) for number in range(30)]
    mixed = [*moments, *(moment.replace(tzinfo=None) for moment in moments)]
    odd = dt.timezone(dt.timedelta(hours=1, seconds=1))
    for items in (moments, mixed, [*mixed, *(moment.replace(tzinfo=odd) for moment in moments)]):
        assert canonical(items) == reference(items)


def test_moments_of_a_zone_of_somebody_s_own_have_its_offsets_to_the_second() -> None:
    times, kinds, names = (1).to_bytes(8, "big"), (3601).to_bytes(4, "big") + bytes(2), b"ODD\0"
    counts = (0, 0, 0, 1, 1, 4)
    head = b"TZif2" + bytes(15) + b"".join(count.to_bytes(4, "big") for count in counts)
    data = head + bytes(5) + kinds + names + head + times + bytes(1) + kinds + names + b"\n\n"
    zone = ZoneInfo.from_file(io.BytesIO(data), key="Odd/Zone")
    moments = [dt.datetime(2026, 1, day, tzinfo=zone) for day in range(1, 31)]
    assert moments[0].utcoffset() == dt.timedelta(seconds=3601)
    assert canonical(moments) == reference(moments)


@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(items=alike, within=st.booleans())
def test_many_values_of_one_class_have_the_bytes_of_the_specification(
    items: list[Any], *, within: bool
) -> None:
    value = {"items": items, "more": [items, 1]} if within else items
    assert canonical(value) == reference(value)


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(
    lists=st.lists(alike, min_size=2, max_size=4),
    few=st.lists(values, max_size=2),
    within=st.booleans(),
)
def test_many_values_of_a_few_classes_have_the_bytes_of_the_specification(
    lists: list[list[Any]], few: list[Any], *, within: bool
) -> None:
    in_turn = [item for row in itertools.zip_longest(*lists) for item in row]
    value = {"items": in_turn, "more": [[*in_turn, *few], 1]} if within else in_turn
    assert outcome(canonical, value) == outcome(reference, value)


@pytest.mark.parametrize("count", [1, 20])
def test_a_class_has_its_number_before_what_its_instances_hold(count: int) -> None:
    function = named.twice[0]
    value = [LOCAL_ITEMS([function]) for _ in range(count)] + [function]
    assert canonical(value) == reference(value)


def test_local_classes_have_their_numbers_in_the_order_in_which_they_are_met() -> None:
    class One:
        def __init__(self, held: Any) -> None:
            self.held = held

    class Two(One):
        pass

    class Three(One):
        pass

    value = [*[One(1), Two(1)] * 20, One(Three(1)), Two(Three(1)), dt.date(2026, 1, 31)]
    last = [*[One(1), dt.date(2026, 1, 31)] * 20, One(Three(1)), Two(1), Three(1)]
    for items in (value, last, [*last, *value]):
        assert canonical(items) == reference(items)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(callables)
def test_every_function_class_and_client_has_the_bytes_of_the_specification(value: Any) -> None:
    assert outcome(canonical, value) == outcome(reference, value)


def outcome(spell: Callable[[Any], bytes], value: Any) -> bytes | None:
    """Return the bytes of *value*, ``None`` if it is refused."""
    try:
        return spell(value)
    except (UncacheableArgument, Refused):
        return None


@settings(max_examples=10_000)
@given(st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0]))
def test_every_float_has_the_bytes_of_the_specification(number: float) -> None:
    assert canonical(number) == reference(number)


@settings(max_examples=2000)
@given(floats)
def test_a_finite_float_reads_back_as_itself(number: float) -> None:
    spelt = canonical(number)
    if not spelt.startswith(b"!"):
        assert struct.pack("<d", float(spelt)) == struct.pack("<d", number)
