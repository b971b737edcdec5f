"""What is a store is accepted as it is, and what is none is refused without telling secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stand_ins import FakeClock

from llmcache import (
    Clock,
    ConfigurationError,
    SQLiteCacheBackend,
    configure,
    llm_cached,
    register_backend,
)
from llmcache.backends.base import Store
from llmcache.backends.memory import MemoryStore
from llmcache.backends.registry import cache_directory, check_backend, open_store
from llmcache.backends.urls import parse_url

METHODS = sorted(name for name in vars(Store) if not name.startswith("_"))


def store_without(*missing: str) -> Any:
    methods = {name: getattr(MemoryStore, name) for name in METHODS if name not in missing}
    return type("Shelf", (), methods)()


@pytest.mark.parametrize("backend", ["memory", "memory://", "memory://team", "memory://team/a"])
def test_a_name_of_a_store_stays_as_it_is(backend: str) -> None:
    assert check_backend(backend) == backend


@pytest.mark.parametrize("backend", [MemoryStore(), store_without()], ids=["ours", "another"])
def test_a_store_stays_as_it_is(backend: Any) -> None:
    assert check_backend(backend) is backend


@pytest.mark.parametrize("method", METHODS)
def test_what_lacks_a_method_is_no_store(method: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^backend: a Shelf is no store"):
        check_backend(store_without(method))


def test_what_has_a_value_for_a_method_is_no_store() -> None:
    store = store_without("get")
    store.get = b"data"
    with pytest.raises(ConfigurationError, match=r"^backend: a Shelf is no store"):
        check_backend(store)


@pytest.mark.parametrize(
    "backend",
    [None, True, 1, b"memory", {}, ["memory"], object(), print],
    ids=lambda backend: type(backend).__name__,
)
def test_anything_else_is_no_store(backend: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^backend: a \w+ is no store"):
        check_backend(backend)


def test_a_class_of_stores_is_no_store() -> None:
    with pytest.raises(ConfigurationError, match=r"^backend: "):
        check_backend(MemoryStore)


@pytest.mark.parametrize("backend", ["", "Memory", "memroy", "memory "])
def test_another_word_is_refused_and_repeated(backend: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^backend: ") as refusal:
        check_backend(backend)
    assert repr(backend) in str(refusal.value)


@pytest.mark.parametrize("scheme", ["redis+nosuch", "http", "memory+tls"])
def test_another_url_is_refused_by_its_scheme(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^backend: ") as refusal:
        check_backend(f"{scheme}://host/0")
    assert f"{scheme}://" in str(refusal.value)
    assert "host" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (
            "memory://?password=hunter2",
            "memory://… has no option 'password'; it has compress, max_",
        ),
        ("memory://?timeout=5", "has no option 'timeout'"),
        ("memory://?hunter2%20is%20it=1", "has no option of that name"),
        ("memory://?hunter2", "are not of the form name=value"),
        ("memory://?max_size=1&max_size=2", "has an option twice"),
        ("memory://?max_size=0", "max_size of memory://… is not a positive whole number"),
        ("memory://?max_size=hunter2", "max_size of memory://… is not a positive whole number"),
        ("memory://?max_bytes=1.5", "max_bytes of memory://… is not a positive whole number"),
        ("sqlite:///a.db?timeout=hunter2", "timeout of sqlite://… is not a number of seconds"),
        ("sqlite:///a.db?timeout=0", "timeout of sqlite://… is not a number of seconds"),
        ("sqlite:///a.db?timeout=inf", "timeout of sqlite://… is not a number of seconds"),
        ("sqlite://relative.db", "sqlite:// takes sqlite:///relative.db"),
        ("sqlite:///", "sqlite:// takes sqlite:///relative.db"),
        ("sqlite:///:memory:", "sqlite:// takes sqlite:///relative.db"),
        ("sqlite:///%3Amemory%3A", "sqlite:// takes sqlite:///relative.db"),
        ("sqlite:////", "sqlite:// takes sqlite:///relative.db"),
        ("sqlite:////directory/", "sqlite:// takes sqlite:///relative.db"),
        ("sqlite:////a%00.db", "the path of sqlite://… has a NUL in it"),
        (f"sqlite:///a.db?max_size={'9' * 5000}", "max_size of sqlite://… is not a positive"),
        ("sqlite:a.db", "sqlite: is no URL of a store: it has no //"),
        ("nowhere", "'nowhere' is no store; there is memory://…, "),
    ],
)
def test_what_a_url_cannot_mean_is_said(url: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^backend: ") as refusal:
        check_backend(url)
    assert reason in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("url", ["memory://?ttl=soon", "memory://?compress=hunter2"])
def test_a_url_that_cannot_be_used_is_an_error_at_decoration(url: str) -> None:
    with pytest.raises(ConfigurationError, match="of the URL cannot be meant") as refusal:
        llm_cached(backend=url)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        "nosuch://:hunter2@host/0",
        "redis://:hunter2@host:port/0",
        "redis://user:hunter2@host/zero",
        "redis://hunter2@host/0?db=zero",
        "rediss://:hunter2@host?ssl_cert_reqs=hunter2",
        "rediss://:hunter2@host?ssl_check_hostname=hunter2",
        "redis://:hunter2@host?timeout=hunter2",
        "redis://:hunter2@host?max_connections=hunter2",
        "unix://:hunter2@",
        "unix://:hunter2@host/path",
        "redis://host/0?password=hunter2",
        "redis://host/hunter2",
        "redis://host/0#hunter2",
        "redis:hunter2",
        "user:hunter2@host",
        ":hunter2@host",
        "//:hunter2@host",
        "//host?password=hunter2",
        "my_redis://:hunter2@host",
        "my_redis://host?password=hunter2",
        "redis://:[hunter2@host",
        "redis://:hunter2℀@host",
        "redis://[::1]hunter2",
    ],
)
def test_a_password_is_never_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^backend: ") as refusal:
        check_backend(url)
    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@given(
    st.text(max_size=5),
    st.text(max_size=5),
    st.sampled_from(["redis://:{}@host", "redis://user:{}@host", "redis://h/0?password={}"]),
)
@example("[", "]", "redis://:{}@host")
@example("", "℀", "redis://:{}@host")
@example("@", "/", "redis://user:{}@host")
def test_no_password_is_ever_repeated(before: str, after: str, url: str) -> None:
    assert "hunter2" not in _refusal(url.format(f"{before}hunter2{after}"))


def _refusal(url: str) -> str:
    try:
        check_backend(url)
    except ConfigurationError as refusal:
        return str(refusal)
    return ""


def test_a_store_is_opened_with_its_bounds_and_its_clock(clock: FakeClock) -> None:
    given = {"max_size": 2, "max_bytes": 10, "clock": clock.clock}
    store = open_store("memory", given)
    assert not store.set("g:a", b"12345678901", 10)
    for key in ("g:a", "g:b", "g:c"):
        assert store.set(key, b"data", 10)
    assert store.usage("g").entries == 2
    clock.advance(10)
    assert store.usage("g").entries == 0


def test_what_is_given_goes_before_the_url() -> None:
    url = "memory://?max_size=7&max_bytes=70"
    assert open_store(url, {"clock": Clock()}).max_size == 7  # type: ignore[attr-defined]
    store = open_store(url, {"clock": Clock(), "max_size": 3, "nothing": 1})
    assert (store.max_size, store.max_bytes) == (3, 70)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///relative.db", "relative.db"),
        ("sqlite:///some/relative.db", "some/relative.db"),
        ("sqlite:////absolute.db", "/absolute.db"),
        ("sqlite:////with%20a%20space%3F.db", "/with a space?.db"),
    ],
)
def test_a_file_is_relative_or_absolute(url: str, path: str) -> None:
    assert open_store(url, {"clock": Clock()}).path == Path(path).absolute()  # type: ignore[attr-defined]


def test_a_file_is_bounded_unless_it_is_said_not_to_be() -> None:
    store: Any = open_store("sqlite:///a.db", {"clock": Clock()})
    assert (store.max_size, store.max_bytes) == (100_000, 1 << 30)
    store = open_store("sqlite:///a.db?max_size=5", {"clock": Clock(), "max_bytes": None})
    assert (store.max_size, store.max_bytes) == (5, None)
    same = SQLiteCacheBackend("a.db").store
    assert (same.max_size, same.max_bytes) == (100_000, 1 << 30)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["sqlite", "sqlite://", "sqlite://?max_size=5"])
def test_a_file_without_a_name_is_in_the_users_cache(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("llmcache.backends.registry.cache_directory", lambda: tmp_path)
    store = open_store(name, {"clock": Clock()})
    assert store.path == tmp_path / "answers.db"  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("platform", "environment", "directory"),
    [
        ("linux", {}, "~/.cache/llmcache"),
        ("linux", {"XDG_CACHE_HOME": "/caches"}, "/caches/llmcache"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "~/.cache/llmcache"),
        ("darwin", {"XDG_CACHE_HOME": "/caches"}, "~/Library/Caches/llmcache"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/llmcache"),
        ("win32", {}, "~/.cache/llmcache"),
    ],
)
def test_each_platform_has_a_place_for_caches(
    platform: str, environment: dict[str, str], directory: str
) -> None:
    assert cache_directory(platform, environment) == Path(directory).expanduser()


@pytest.fixture
def schemes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    registered: dict[str, Any] = {}
    monkeypatch.setattr("llmcache.backends.registry._registered", registered)
    return registered


class Place(MemoryStore):
    def __init__(self, address: str, region: str) -> None:
        super().__init__()
        self.address, self.region = address, region


def open_place(address: str, *, region: str = "eu") -> Place:
    return Place(address, region)


@pytest.mark.usefixtures("schemes")
def test_others_may_register_schemes() -> None:
    register_backend("place", open_place)
    ask = llm_cached(backend="place://a:hunter2@b?region=us&ttl=5")(lambda text: text)
    assert (ask("hi"), ask("hi")) == ("hi", "hi")
    store = open_store("place://a?region=us", {"clock": Clock(), "max_size": 5})
    assert isinstance(store, Place)
    assert (store.address, store.region) == ("a", "us")
    quick = open_store("sqlite:///a.db?timeout=0.5", {"clock": Clock()})
    assert quick.timeout == 0.5
    with pytest.raises(ConfigurationError, match=r"has no option 'max_size'; it has .*region"):
        check_backend("place://a?max_size=5")


def test_a_scheme_may_come_with_a_package(
    monkeypatch: pytest.MonkeyPatch, schemes: dict[str, Any]
) -> None:
    loaded: list[str] = []

    class EntryPoint:
        def load(self) -> Any:
            loaded.append("place")
            return open_place

    def entry_points(*, group: str, name: str) -> list[EntryPoint]:
        return [EntryPoint()] if (group, name) == ("llmcache.backends", "place") else []

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    for _ in range(2):
        assert isinstance(open_store("place://a", {}), Place)
    assert loaded == ["place"]
    with pytest.raises(ConfigurationError, match="there is memory://…, place://…, redis://"):
        check_backend("another://a")


@pytest.mark.parametrize("scheme", ["memory", "sqlite", "No", "a b", "a://b", ""])
def test_what_is_no_scheme_of_ones_own_is_refused(scheme: str, schemes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        register_backend(scheme, open_place)
    assert not schemes


@pytest.mark.usefixtures("schemes")
def test_a_factory_that_fails_tells_no_secret() -> None:
    def fail(address: str) -> Any:
        raise LookupError(address)

    register_backend("place", fail)
    with pytest.raises(
        ConfigurationError, match=r"place://… cannot be opened \(LookupError\)"
    ) as e:
        check_backend("place://hunter2")
    assert "hunter2" not in str(e.value)
    assert e.value.__suppress_context__


@pytest.mark.usefixtures("schemes")
@pytest.mark.parametrize("factory", [int, "hunter2"], ids=["without a signature", "no callable"])
def test_what_is_no_factory_is_an_error_at_decoration(factory: Any) -> None:
    register_backend("place", factory)
    with pytest.raises(ConfigurationError, match=r"place://… cannot be opened \(\w+\)$"):
        llm_cached(backend="place://hunter2")


@pytest.mark.usefixtures("schemes")
@pytest.mark.parametrize("made", [None, "hunter2", MemoryStore])
def test_a_factory_of_no_store_is_an_error_at_decoration(made: Any) -> None:
    register_backend("place", lambda address: made)
    with pytest.raises(ConfigurationError, match=r"^backend: what place://… means is no store$"):
        llm_cached(backend="place://hunter2")


@pytest.mark.usefixtures("schemes")
def test_a_package_that_cannot_be_imported_is_an_error_at_decoration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class EntryPoint:
        def load(self) -> Any:
            raise RuntimeError("hunter2")

    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [EntryPoint()])
    with pytest.raises(ConfigurationError, match=r"place://… cannot be opened \(RuntimeError\)$"):
        llm_cached(backend="place://hunter2")


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "0.1"])
def test_a_store_with_no_time_at_all_is_an_error_at_decoration(timeout: Any) -> None:
    store = MemoryStore()
    store.timeout = timeout
    with pytest.raises(ConfigurationError, match="the timeout of a MemoryStore is not a number"):
        llm_cached(backend=store)


def test_a_url_shows_its_scheme_alone() -> None:
    url = parse_url("redis://:hunter2@host/0?password=hunter2")
    assert (str(url), "hunter2" in repr(url)) == ("redis://…", False)
    assert (url.address, url.options) == (":hunter2@host/0", {"password": "hunter2"})


def test_what_a_url_says_holds_unless_the_decorator_says_it(clock: FakeClock) -> None:
    url = "memory://said?ttl=10&max_value_bytes=100&max_size=2"
    with configure(clock=clock.clock, ttl=1000, max_value_bytes=5000, max_size=50):
        ask = llm_cached(backend=url, name="ask")(lambda text: text)
        ask("hi")
        ask("x" * 200)
        clock.advance(10)
        assert not ask.cache.contains("hi")
        assert ask.cache.stats().too_large == 1
        assert ask.cache_info().maxsize == 2
        longer = llm_cached(backend=url, ttl=20, name="longer")(lambda text: text)
        longer("hi")
        clock.advance(15)
        assert longer.cache.contains("hi")
    packed = llm_cached(backend="memory://packed?compress=zlib", name="packed")(lambda text: text)
    packed("x" * 50_000)
    assert packed.cache.stats().bytes < 5000
