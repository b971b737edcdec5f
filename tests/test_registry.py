"""What is a store is accepted as it is, and what is none is refused without telling secrets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stand_ins import FakeClock

from llmcache import ConfigurationError
from llmcache.backends.base import Store
from llmcache.backends.memory import MemoryStore
from llmcache.backends.registry import check_backend, open_store

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


@pytest.mark.parametrize("scheme", ["redis", "rediss", "sqlite", "http", "memory+tls"])
def test_another_url_is_refused_by_its_scheme(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^backend: ") as refusal:
        check_backend(f"{scheme}://host/0")
    assert f"{scheme}://" in str(refusal.value)
    assert "host" not in str(refusal.value)


@pytest.mark.parametrize("query", ["max_size=1", "a", "password=hunter2"])
def test_memory_takes_no_options(query: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^backend: .*options") as refusal:
        check_backend(f"memory://team?{query}")
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@host/0",
        "redis://user:hunter2@host/0",
        "redis://hunter2@host/0",
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
        "redis://:[hunter2]@host",
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
    with pytest.raises(ConfigurationError) as refusal:
        check_backend(url.format(f"{before}hunter2{after}"))
    assert "hunter2" not in str(refusal.value)


def test_a_store_is_opened_with_its_bounds_and_its_clock(clock: FakeClock) -> None:
    store = open_store(max_size=2, max_bytes=10, clock=clock.clock)
    assert not store.set("g:a", b"12345678901", 10)
    for key in ("g:a", "g:b", "g:c"):
        assert store.set(key, b"data", 10)
    assert store.usage("g").entries == 2
    clock.advance(10)
    assert store.usage("g").entries == 0
