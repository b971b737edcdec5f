"""What the URLs of Redis servers, clusters and sentinels say, and which are refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from llmcache import Clock, ConfigurationError, RedisCacheBackend, llm_cached
from llmcache.backends.redis import RedisStore
from llmcache.backends.redis_address import parse_address, parse_nodes, parse_service
from llmcache.backends.registry import open_store

NOW = {"clock": Clock()}


@pytest.mark.parametrize(
    ("url", "arguments"),
    [
        ("redis", {"host": "localhost", "port": 6379, "db": 0}),
        ("redis://", {"host": "localhost", "port": 6379, "db": 0}),
        ("redis://cache:7000/3", {"host": "cache", "port": 7000, "db": 3}),
        ("redis://cache/3?db=4", {"db": 4}),
        ("redis://[::1]:7000", {"host": "::1", "port": 7000}),
        ("redis://user:p%40ss@cache", {"username": "user", "password": "p@ss"}),
        ("redis://:p:w@cache", {"username": None, "password": "p:w"}),
        ("redis://user@cache", {"username": "user", "password": None}),
        ("unix:///run/my%20socket?db=2", {"path": "/run/my socket", "db": 2}),
        ("unix://user:pw@/run/socket", {"path": "/run/socket", "password": "pw"}),
        (
            "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=no&ssl_ca_certs=/a",
            {"ssl_cert_reqs": "none", "ssl_check_hostname": False, "ssl_ca_certs": "/a"},
        ),
    ],
)
def test_a_url_says_where_the_server_is(url: str, arguments: dict[str, Any]) -> None:
    found = parse_address(url).arguments()
    assert {name: found[name] for name in arguments} == arguments


@pytest.mark.parametrize(
    ("word", "meant"),
    [("true", True), ("1", True), ("yes", True), ("false", False), ("0", False), ("no", False)],
)
def test_a_flag_is_one_of_six_words(word: str, meant: bool) -> None:
    assert parse_address(f"rediss://h?ssl_check_hostname={word}").tls == {
        "ssl_check_hostname": meant
    }


@pytest.mark.parametrize(
    ("url", "places"),
    [
        ("redis+cluster://one", [("one", 6379)]),
        ("redis+cluster://one:7000,two:7001/", [("one", 7000), ("two", 7001)]),
        ("redis+cluster://one,[::1]:7000/0", [("one", 6379), ("::1", 7000)]),
    ],
)
def test_a_url_says_where_some_nodes_are(url: str, places: list[tuple[str, int]]) -> None:
    assert [(n.place["host"], n.place["port"]) for n in parse_nodes(url)] == places


@pytest.mark.parametrize(
    ("url", "places", "name", "database"),
    [
        ("redis+sentinel://one/s", [("one", 26379)], "s", 0),
        ("redis+sentinel://one:1,two:2/my%20service/3", [("one", 1), ("two", 2)], "my service", 3),
        ("redis+sentinel://[::1]:1/s/3?db=4", [("::1", 1)], "s", 4),
    ],
)
def test_a_url_says_where_sentinels_are(
    url: str, places: list[tuple[str, int]], name: str, database: int
) -> None:
    service = parse_service(url)
    assert [(s.place["host"], s.place["port"]) for s in service.sentinels] == places
    assert (service.name, service.server.account["db"]) == (name, database)
    assert service.sentinels[0].account["db"] == 0


def test_a_url_of_a_cluster_says_who_asks() -> None:
    (node,) = parse_nodes("rediss+cluster://user:p%40ss@one?ssl_cert_reqs=none")
    assert node.scheme == "rediss"
    found = node.arguments()
    assert (found["username"], found["password"], found["db"]) == ("user", "p@ss", 0)
    assert (found["ssl_cert_reqs"], found["ssl_check_hostname"]) == ("none", False)


def test_servers_and_sentinels_have_passwords_of_their_own() -> None:
    service = parse_service(
        "rediss+sentinel://user:p%40ss@one/s?sentinel_username=u&sentinel_password=p%2Bw"
        "&ssl_check_hostname=no"
    )
    (sentinel,) = service.sentinels
    assert (service.server.account["username"], service.server.account["password"]) == (
        "user",
        "p@ss",
    )
    assert (sentinel.account["username"], sentinel.account["password"]) == ("u", "p+w")
    assert sentinel.scheme == service.server.scheme == "rediss"
    assert sentinel.tls == service.server.tls == {"ssl_check_hostname": False}
    server = service.server.at("two", 2).arguments()
    assert (server["host"], server["port"], server["password"]) == ("two", 2, "p@ss")
    assert "p@ss" not in repr(service)
    assert "p+w" not in repr(service)


@pytest.mark.parametrize(
    "url",
    [
        "redis://host/one",
        "redis://host:port",
        "redis://host:70000",
        "redis://host:1:2",
        "redis://ho st",
        "redis://host?db=-1",
        "redis://host?db=٣",
        "redis://host?socket_timeout=5",
        "redis://host?ssl_ca_certs=/a",
        "rediss://host?ssl_cert_reqs=maybe",
        "rediss://host?ssl_check_hostname=maybe",
        "unix://host/path",
        "unix://",
        "unix",
        "redis+cluster",
        "redis+cluster://",
        "redis+cluster://one,",
        "redis+cluster://one,,two",
        "redis+cluster://one/1",
        "redis+cluster://one:port,two",
        "redis+cluster://one:70000",
        "redis+cluster://o ne",
        "redis+cluster://us:er:hunter2@one,us:er:hunter2@two",
        "redis+cluster://one?db=0",
        "redis+cluster://one?ssl_ca_certs=/a",
        "rediss+cluster://one?ssl_cert_reqs=maybe",
        "rediss+cluster://:hunter2@one?password=hunter2",
        "redis+sentinel",
        "redis+sentinel://one",
        "redis+sentinel://one/",
        "redis+sentinel:///service",
        "redis+sentinel://one,/service",
        "redis+sentinel://one/service/zero",
        "redis+sentinel://one/service/0/1",
        "redis+sentinel://one/service?db=-1",
        "redis+sentinel://one:port/service",
        "redis+sentinel://us:er:hunter2@one,us:er:hunter2@two/service",
        "redis+sentinel://:hunter2@one/service?sentinel_kwargs=hunter2",
        "redis+sentinel://one/service?ssl_ca_certs=/a",
        "rediss+sentinel://one/service?ssl_check_hostname=maybe",
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url: str) -> None:
    kind = re.escape(url.partition(":")[0])
    for make in (RedisStore, lambda url: llm_cached(backend=url), RedisCacheBackend):
        with pytest.raises(ConfigurationError, match=f"^backend: {kind}") as refusal:
            make(url)
        assert "hunter2" not in str(refusal.value)


def test_another_scheme_is_no_address() -> None:
    with pytest.raises(ConfigurationError, match=r"^backend: http"):
        RedisStore("http://host")


def test_an_address_shows_no_password() -> None:
    assert "hunter2" not in repr(parse_address("redis://user:hunter2@host"))


def test_a_backend_url_has_the_options_of_the_store() -> None:
    store = open_store(
        "redis://host/1?prefix=p:&timeout=0.5&connect_timeout=2&max_connections=3&ttl=5", NOW
    )
    assert isinstance(store, RedisStore)
    assert (store.prefix, store.timeout) == ("p:", 0.5)
    assert (store.connect_timeout, store.max_connections) == (2, 3)
    assert isinstance(open_store("rediss://host?ssl_cert_reqs=none&db=1", NOW), RedisStore)
    assert isinstance(open_store("unix:///run/socket?db=1", NOW), RedisStore)
    with pytest.raises(ConfigurationError, match=r"has no option 'socket_timeout'; it has .*db"):
        open_store("redis://host?socket_timeout=1", NOW)
    with pytest.raises(ConfigurationError, match="max_connections"):
        RedisStore("redis://host", max_connections=0)


def test_a_backend_url_of_a_cluster_has_them_too() -> None:
    store = open_store("redis+cluster://one?prefix=p:&max_connections=3&ttl=5", NOW)
    assert isinstance(store, RedisStore)
    assert (store.prefix, store.max_connections) == ("p:", 3)
    with pytest.raises(ConfigurationError, match=r"has no option 'db'; it has .*prefix"):
        open_store("redis+cluster://one?db=1", NOW)


def test_a_backend_url_of_a_sentinel_has_them_too() -> None:
    store = open_store(
        "redis+sentinel://one/s?prefix=p:&db=2&sentinel_password=hunter2&timeout=0.5",
        NOW,
    )
    assert isinstance(store, RedisStore)
    assert (store.prefix, store.timeout) == ("p:", 0.5)
