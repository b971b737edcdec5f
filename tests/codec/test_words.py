"""Values of one piece come back as they were, from what JSON can say."""

from __future__ import annotations

import math
import sys
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, FileUrl, FtpUrl, HttpUrl, RedisDsn
from pydantic_core import TzInfo

from codec.planting import payload
from codec.trips import back_to_the_byte
from codec.values import scalars
from llmcache import UncacheableValue
from llmcache.codec.classes import ClassGone
from llmcache.codec.tree import PLAIN, TEXT, TREE, check_comes_back, decode, encode, same

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [
    UTC,
    timezone(timedelta(hours=2)),
    timezone(timedelta(hours=2), "UTC+02:00"),
    timezone(timedelta(hours=-3, microseconds=1)),
    timezone(timedelta(hours=1), "Home"),
    timezone(timedelta(0), "Zulu"),
    timezone(timedelta(0), ""),
    BERLIN,
    ZoneInfo("UTC"),
    TzInfo(0),
    TzInfo(-3600),
]
ARRAYS = [
    np.array([]),
    np.zeros((0, 3), dtype="f4"),
    np.zeros((2, 0), order="F"),
    np.array(5),
    np.array("text"),
    np.arange(6).reshape(2, 3),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    np.arange(10)[::-2],
    np.array([1, 2], dtype=">i4"),
    np.array([1.5, math.nan, -0.0, math.inf], dtype="f2"),
    np.array([1 + 2j], dtype="c8"),
    np.array([True, False]),
    np.array(["é", "longer", "\ud800"]),
    np.array([b"a", b"bc\0d"]),
    np.array(["2025-01-02", "NaT"], dtype="M8[D]"),
    np.array([1, 2], dtype="M8[25s]"),
    np.array([1, 2], dtype="m8[s]"),
    np.array([], dtype="U"),
    np.zeros(2, dtype="S"),
]
SCALARS = [
    np.float64("nan"),
    np.float32(-0.0),
    np.float16(1),
    np.int8(-1),
    np.uint64(2**64 - 1),
    np.bool_(0),
    np.complex128(1j),
    np.str_("é"),
    np.bytes_(b"a"),
    np.datetime64("2025-01-02T03:04"),
    np.datetime64("NaT", "D"),
    np.timedelta64(5, "ms"),
]


@given(scalars)
def test_a_word_comes_back(value):
    back_to_the_byte(value)


@pytest.mark.parametrize(
    "value",
    [
        2**63,
        2**64,
        -(2**63) - 1,
        math.nan,
        math.inf,
        -math.inf,
        "\ud800",
        "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        "\ud83d" + "\ude00",
        "a\udcffb",
        "\0",
        b"",
        b"\0\xff",
        bytearray(b"abc"),
        complex(math.nan, -0.0),
        complex(-0.0, -math.inf),
        date.min,
        date.max,
        time.max,
        datetime.min,
        datetime.max,
        datetime(2025, 10, 26, 2, 30, fold=1, tzinfo=BERLIN),
        time(2, 30, fold=1, tzinfo=UTC),
        timedelta.min,
        timedelta.max,
        timedelta(microseconds=-1),
        Decimal("-0"),
        Decimal("0E-10"),
        Decimal("1.10"),
        Decimal("NaN123"),
        Decimal("-sNaN"),
        Decimal("Infinity"),
        Decimal("1E+999999"),
        Fraction(-1, 3),
        Fraction(10**400, 7),
        uuid.UUID(int=0),
        range(0),
        range(10**18),
        range(5, -(2**70), -3),
        ...,
        Path(),
        Path("/a/../b c"),
        PurePosixPath("a\\b"),
        PureWindowsPath("C:/a/b"),
    ],
    ids=ascii,
)
def test_its_extremes_come_back(value):
    found = back_to_the_byte([value])[0]
    assert ascii(found) == ascii(value)


@pytest.mark.parametrize("number", [10**6000, -(10**6000)], ids=["over", "under"])
def test_a_number_may_have_more_digits_than_python_prints(number):
    assert back_to_the_byte(number) == number


@pytest.mark.parametrize(
    ("most", "more"),
    [
        (2**32768 - 1, 2**32768),
        (-(2**32768) + 1, -(2**32768)),
        (Fraction(2**2048 - 1, 7), Fraction(2**2048, 7)),
        (Fraction(-1, 2**2048 - 1), Fraction(-1, 2**2048)),
        (range(-(2**2048) + 1, 1), range(-(2**2048), 1)),
        (Decimal("9" * 8192), Decimal("9" * 8193)),
        (Decimal("-" + "9" * 8191), Decimal("-" + "9" * 8192)),
    ],
    ids=["int", "minus", "over", "under", "range", "decimal", "minus decimal"],
)
def test_a_number_has_only_so_many_digits(most, more):
    assert back_to_the_byte(most) == most
    with pytest.raises(UncacheableValue, match="too many digits"):
        encode([more])


@pytest.mark.parametrize(
    "value", [2**63 - 1, 2**64 - 1, -(2**63), -0.0, 5e-324, 1e16, ["\u2028"], ["!"]]
)
def test_what_json_can_say_is_said_in_json(value):
    codec, written = encode(value)
    assert codec == PLAIN
    assert repr(orjson.loads(written)) == repr(value)
    back_to_the_byte(value)


@pytest.mark.parametrize("text", ["", "!", "\u2028", "\0", "\ufeff", "a\r\n", "\U0001f600"])
def test_a_text_is_written_as_it_is(text):
    assert encode(text) == (TEXT, text.encode())
    back_to_the_byte(text)


@pytest.mark.parametrize("zone", ZONES, ids=repr)
@pytest.mark.parametrize("fold", [0, 1])
def test_a_time_comes_back_in_its_zone(zone, fold):
    moment = datetime(2025, 1, 2, 3, 4, 5, 6, tzinfo=zone, fold=fold)
    for value in (moment, moment.timetz()):
        found = back_to_the_byte(value)
        assert (found.isoformat(), found.fold) == (value.isoformat(), fold)
        assert type(found.tzinfo) is type(zone)
        assert found.tzname() == value.tzname()
        assert str(found.tzinfo) == str(zone)


def test_a_zone_that_is_named_as_utc_is_comes_back():
    back_to_the_byte(datetime(2025, 1, 2, tzinfo=timezone(timedelta(0), "UTC")))


class Elsewhere(tzinfo):
    def utcoffset(self, moment):
        return timedelta(0)


class Zone(ZoneInfo):
    pass


def unnamed():
    for folder in ("/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/etc/zoneinfo"):
        if (path := Path(folder) / "Europe/Berlin").exists():
            with path.open("rb") as file:
                return ZoneInfo.from_file(file)
    return Elsewhere()


@pytest.mark.parametrize(
    "zone", [Elsewhere(), Zone("UTC"), unnamed()], ids=lambda z: type(z).__name__
)
def test_a_zone_that_cannot_be_found_again_is_refused(zone):
    for value in (datetime(2025, 1, 2, tzinfo=zone), time(1, tzinfo=zone)):
        with pytest.raises(UncacheableValue, match=type(zone).__name__):
            encode(value)


@pytest.mark.parametrize("safe", [uuid.SafeUUID.safe, uuid.SafeUUID.unsafe])
def test_whether_a_uuid_is_safe_comes_back(safe):
    assert back_to_the_byte(uuid.UUID(int=1, is_safe=safe)).is_safe is safe


def test_a_path_of_undecodable_bytes_is_refused():
    with pytest.raises(UncacheableValue, match="no Unicode"):
        encode(Path("a\udcff"))


@pytest.mark.parametrize("value", ARRAYS)
def test_an_array_comes_back(value):
    found = back_to_the_byte(value)
    assert found is not value
    assert (found.dtype, found.shape) == (value.dtype, value.shape)
    assert found.tobytes() == value.tobytes()
    assert found.flags.f_contiguous or not value.flags.f_contiguous
    assert found.flags.writeable
    assert not np.shares_memory(found, value)


@pytest.mark.parametrize("value", SCALARS)
def test_a_numpy_scalar_comes_back(value):
    found = back_to_the_byte(value)
    assert found.dtype == value.dtype
    assert found.tobytes() == value.tobytes()


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(2, dtype=[("a", "i4"), ("b", "f8")]),
        np.array([object(), None]),
        np.array(["a"], dtype=np.dtypes.StringDType()),
        np.zeros(1, dtype="V8"),
        np.zeros(1, dtype=[("a", "i4")])[0],
        np.str_(""),
        np.bytes_(b""),
        np.ma.array([1, 2], mask=[0, 1]),
        np.rec.array([(1,)], dtype=[("a", "i4")]),
    ],
    ids=lambda a: f"{type(a).__name__}-{a.dtype}",
)
def test_an_array_of_anything_else_is_refused(value):
    with pytest.raises(UncacheableValue, match="numpy"):
        encode([value])


def read(*word):
    return decode(TREE, payload([], {"!": word}))


@pytest.mark.parametrize("order", ["A", "K", "", None, ["C"]])
def test_an_array_of_another_order_is_none(order):
    assert read("ndarray", ["<i8", [1], "C", "AQAAAAAAAAA="]) == 1
    with pytest.raises((ValueError, TypeError)):
        read("ndarray", ["<i8", [1], order, "AQAAAAAAAAA="])


def test_a_zone_of_another_kind_is_none():
    with pytest.raises(ValueError, match="zone"):
        read("datetime", ["2025-01-02", 0, ["nowhere"]])


@pytest.mark.parametrize("library", ["numpy", "pydantic_core"])
def test_what_needs_a_library_that_is_not_imported_yet_is_a_miss(library, monkeypatch):
    moment = datetime(2025, 1, 2, tzinfo=TzInfo(0))
    written = encode(np.arange(3) if library == "numpy" else moment)
    monkeypatch.delitem(sys.modules, library)
    with pytest.raises(ClassGone):
        decode(*written)


def test_numpy_values_need_numpy_no_more_than_it_needs_them(monkeypatch):
    monkeypatch.delitem(sys.modules, "numpy")
    monkeypatch.delitem(sys.modules, "pydantic_core")
    with pytest.raises(UncacheableValue):
        encode(object())
    with pytest.raises(UncacheableValue):
        encode(datetime(2025, 1, 2, tzinfo=Elsewhere()))


@given(st.text())
def test_a_text_is_never_anything_else(text):
    assert back_to_the_byte([text, {text: text}]) == [text, {text: text}]


class Links(BaseModel):
    any: AnyUrl = AnyUrl("ftp://example.org/a?b#c")
    page: HttpUrl | None = None


class Sparse(msgspec.Struct):
    text: str | msgspec.UnsetType = msgspec.UNSET


def test_an_url_of_pydantic_comes_back():
    for text in ("https://user:word@example.org:8080/é?q=1#top", "http://xn--fsq.example/"):
        found = back_to_the_byte(Links(page=text))
        assert found == Links(page=text)
        assert found.page.host == Links(page=text).page.host
        assert {found.page} == {HttpUrl(text)}
    check_comes_back(Links(), *encode(Links()))


@pytest.mark.parametrize(
    ("kind", "text"), [(FileUrl, "file:///a/b.txt"), (FtpUrl, "ftp://example.org/a")]
)
def test_an_url_of_something_else_than_a_page_comes_back(kind, text):
    assert back_to_the_byte(kind(text)) == kind(text)


def test_an_url_that_has_a_password_in_it_is_refused():
    with pytest.raises(UncacheableValue, match="RedisDsn"):
        encode(RedisDsn("redis://:hunter2@host"))


def test_urls_of_two_classes_are_not_the_same():
    assert not same(AnyUrl("http://a/"), HttpUrl("http://a/"))
    assert not same(AnyUrl("http://a/"), AnyUrl("http://b/"))


def test_a_class_that_is_called_like_an_url_is_none():
    namesake = type("HttpUrl", (), {})
    with pytest.raises(UncacheableValue, match="HttpUrl"):
        encode(namesake())


@pytest.mark.parametrize(
    "word",
    [["url", ["os", "http://a/"]], ["url", ["HttpUrl", "nothing"]], ["url", ["BaseModel", "a"]]],
)
def test_no_other_class_is_made_of_an_url(word):
    with pytest.raises(ValueError, match=r"URL|url"):
        read(*word)


def test_what_msgspec_calls_unset_comes_back():
    assert back_to_the_byte(msgspec.UNSET) is msgspec.UNSET
    assert back_to_the_byte(Sparse()).text is msgspec.UNSET
