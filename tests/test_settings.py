"""What is declared goes first, then what is configured, then the environment."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from llmcache import Clock, ConfigurationError, MissingExtra, configure
from llmcache.backends.memory import MemoryStore
from llmcache.codec.encryption import Keyring
from llmcache.policy import UNSET
from llmcache.process import Process
from llmcache.settings import BUILT_IN, Settings, from_environment, parse_settings

STORE = MemoryStore()
CLOCK = Clock()


def test_settings_are_checked_and_parsed() -> None:
    settings = parse_settings(
        enabled=False,
        ttl="1h",
        backend=STORE,
        max_size=10,
        max_bytes=None,
        max_value_bytes=100,
        strict=True,
        compress="zlib",
        encrypt=bytes(32),
        secret="a secret of some length",
        clock=CLOCK,
    )
    assert settings == Settings(
        enabled=False,
        ttl=3600.0,
        backend=STORE,
        max_size=10,
        max_bytes=None,
        max_value_bytes=100,
        strict=True,
        compress="zlib",
        encrypt=Keyring([bytes(32)]),
        secret=b"a secret of some length",
        clock=CLOCK,
    )


def test_what_is_not_given_stays_unset() -> None:
    assert parse_settings() == Settings()
    assert parse_settings(ttl=UNSET, backend=UNSET, strict=UNSET) == Settings()
    assert Settings().given() == {}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("ttl", "1w"),
        ("ttl", True),
        ("backend", "nowhere"),
        ("backend", None),
        ("max_size", 0),
        ("max_size", None),
        ("max_bytes", -1),
        ("max_bytes", True),
        ("max_value_bytes", 1.5),
        ("max_value_bytes", None),
        ("enabled", 1),
        ("enabled", None),
        ("strict", "yes"),
        ("compress", "gzip"),
        ("compress", True),
        ("encrypt", "hunter2"),
        ("encrypt", b"hunter2 "),
        ("encrypt", []),
        ("encrypt", [bytes(32), b"hunter2"]),
        ("encrypt", 5),
        ("secret", "hunter2"),
        ("secret", b""),
        ("secret", 5),
        ("clock", None),
        ("clock", 12.5),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^{option}") as refusal:
        parse_settings(**{option: value})
    assert "hunter2" not in str(refusal.value)


def test_keys_and_secrets_are_not_shown() -> None:
    settings = parse_settings(encrypt=b"hunter2 hunter2 ", secret="hunter2 hunter2 ")
    assert "hunter2" not in repr(settings)


def test_what_is_given_is_known_by_name() -> None:
    given = {"ttl": 5.0, "max_bytes": None, "enabled": False, "compress": None}
    assert parse_settings(**given).given() == given


def test_options_go_over_others_one_by_one() -> None:
    upper = Settings(ttl=5.0, max_bytes=None, enabled=False)
    lower = Settings(ttl=7.0, max_bytes=100, max_size=3)
    assert upper.over(lower) == Settings(ttl=5.0, max_bytes=None, enabled=False, max_size=3)
    assert lower.over(upper) == Settings(ttl=7.0, max_bytes=100, enabled=False, max_size=3)
    assert Settings().over(lower) == lower.over(Settings()) == lower


def test_everything_is_built_in() -> None:
    # Each store knows its own bounds.
    unset = {name for name in Settings.__slots__ if getattr(BUILT_IN, name) is UNSET}
    assert unset == {"max_size", "max_bytes"}
    assert BUILT_IN.enabled is True
    assert BUILT_IN.strict is False
    assert BUILT_IN.ttl == 3600
    assert BUILT_IN.backend == "memory"
    assert BUILT_IN.max_value_bytes == 8 * 1024 * 1024
    assert (BUILT_IN.compress, BUILT_IN.encrypt, BUILT_IN.secret) == (None, None, None)


@pytest.mark.parametrize(
    ("environment", "settings"),
    [
        ({}, Settings()),
        ({"LLMCACHE_URL": "memory://team"}, Settings(backend="memory://team")),
        ({"LLMCACHE_TTL": "90"}, Settings(ttl=90.0)),
        ({"LLMCACHE_TTL": "1.5"}, Settings(ttl=1.5)),
        ({"LLMCACHE_TTL": "15m"}, Settings(ttl=900.0)),
        ({"LLMCACHE_TTL": "0"}, Settings(ttl=0.0)),
        ({"LLMCACHE_TTL": "none"}, Settings(ttl=inf)),
        ({"LLMCACHE_TTL": "None"}, Settings(ttl=inf)),
        ({"LLMCACHE_URL": "", "LLMCACHE_TTL": "", "LLMCACHE_DISABLED": ""}, Settings()),
        ({"PATH": "/bin", "LLMCACHE_OTHER": "1"}, Settings()),
        (
            {"LLMCACHE_URL": "memory", "LLMCACHE_TTL": "7d", "LLMCACHE_DISABLED": "1"},
            Settings(backend="memory", ttl=604800.0, enabled=False),
        ),
    ],
    ids=str,
)
def test_the_environment_gives_options(environment: dict[str, str], settings: Settings) -> None:
    assert from_environment(environment) == settings


@pytest.mark.parametrize("word", ["1", "true", "yes", "on", "TRUE", "Yes", " on "])
def test_a_true_word_switches_the_cache_off(word: str) -> None:
    assert from_environment({"LLMCACHE_DISABLED": word}) == Settings(enabled=False)


@pytest.mark.parametrize("word", ["", "0", "false", "no", "off", "2", "never"])
def test_any_other_word_does_not(word: str) -> None:
    assert from_environment({"LLMCACHE_DISABLED": word}) == Settings()


def test_the_environment_is_the_process_s(monkeypatch: pytest.MonkeyPatch) -> None:
    assert from_environment() == Settings()
    monkeypatch.setenv("LLMCACHE_TTL", "5s")
    assert from_environment() == Settings(ttl=5.0)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LLMCACHE_TTL", "1w"),
        ("LLMCACHE_TTL", " "),
        ("LLMCACHE_TTL", "-1"),
        ("LLMCACHE_TTL", "nan"),
        ("LLMCACHE_TTL", "inf"),
        ("LLMCACHE_TTL", "1e400"),
        ("LLMCACHE_TTL", "true"),
        ("LLMCACHE_URL", "nowhere"),
        ("LLMCACHE_URL", "nosuch://:hunter2@host/0"),
        ("LLMCACHE_URL", "redis://:[hunter2]@host/zero"),
    ],
)
def test_a_bad_value_is_refused_by_its_variable(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{variable}: ") as refusal:
        from_environment({variable: value})
    assert "hunter2" not in str(refusal.value)


def test_what_is_declared_goes_first(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    assert process.resolve(Settings()) == BUILT_IN

    monkeypatch.setenv("LLMCACHE_TTL", "3s")
    monkeypatch.setenv("LLMCACHE_URL", "memory://environment")
    monkeypatch.setenv("LLMCACHE_DISABLED", "1")
    resolved = process.resolve(Settings())
    assert (resolved.ttl, resolved.backend, resolved.enabled) == (3, "memory://environment", False)
    assert resolved.max_size == BUILT_IN.max_size

    configure(ttl=2, backend="memory://configured", enabled=True)
    resolved = process.resolve(Settings())
    assert (resolved.ttl, resolved.backend, resolved.enabled) == (2, "memory://configured", True)

    resolved = process.resolve(Settings(ttl=1.0))
    assert (resolved.ttl, resolved.backend, resolved.enabled) == (1, "memory://configured", True)


def test_a_bad_environment_is_told_when_it_is_needed(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMCACHE_TTL", "1w")
    with pytest.raises(ConfigurationError, match=r"^LLMCACHE_TTL: "):
        process.resolve(Settings())


def test_a_url_that_needs_an_extra_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmcache.codec.compression._zstd", lambda: None)
    with pytest.raises(MissingExtra, match=r"llmcache\[zstd\]"):
        parse_settings(backend="memory://?compress=zstd")
