"""Where Redis servers are and who asks them: what a URL says, as redis-py takes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from llmcache.backends.registry import CLUSTER, SENTINEL, SENTINELS, SERVER, TLS
from llmcache.backends.urls import BackendURL, parse_url
from llmcache.errors import ConfigurationError

DEFAULT_PORT: Final = 6379
SENTINEL_PORT: Final = 26379

_SERVER: Final = re.compile(r"(\[[0-9A-Za-z:.%]+\]|[^\[\]:\s]*)(:\d+)?", re.ASCII)
_REQUIREMENTS: Final = ("none", "optional", "required")
_FLAGS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of a Redis URL; none but the scheme is shown, since they may hold a password.

    Args:
        scheme: ``redis``, ``rediss`` (TLS) or ``unix``.
        place: ``host`` and ``port``, or the ``path`` of a Unix socket.
        account: ``db``, ``username`` and ``password``.
        tls: options of TLS.
    """

    scheme: str
    place: dict[str, Any] = field(repr=False)
    account: dict[str, Any] = field(repr=False)
    tls: dict[str, Any] = field(repr=False)

    def arguments(self) -> dict[str, Any]:
        """Return all of it as keyword arguments of redis-py's connections."""
        return {**self.place, **self.account, **self.tls}

    def at(self, host: str, port: int) -> Address:
        """Return the same of another server."""
        return replace(self, place={"host": host, "port": port})


@dataclass(frozen=True, slots=True)
class Service:
    """What sentinels watch.

    Args:
        sentinels: where they are, and who asks them.
        name: what they call it.
        server: who asks its servers; these are where the sentinels say.
    """

    sentinels: tuple[Address, ...]
    name: str
    server: Address


def parse_address(url: str) -> Address:
    """Return what *url* means.

    Args:
        url: ``redis://user:password@host:6379/0``, ``rediss://`` likewise, or
            ``unix://user:password@/path/of/socket?db=0``. What is left out is
            localhost, 6379, database 0 and nobody.

    Raises:
        ConfigurationError: if it cannot be meant; the message repeats the
            scheme at most.

    Example:
        >>> parse_address("redis://cache.example/2").arguments()["db"]
        2
    """
    whole = _parse(url, SERVER, "db")
    with _meant(
        whole,
        "redis://user:password@host:port/database or unix://user:password@/path?db=database",
    ):
        parts = urlsplit(f"//{whole.address}", allow_fragments=False)
        place = _place(whole.scheme, parts)
        said = "" if whole.scheme == "unix" else parts.path.strip("/")
        account = _account(parts, whole.options.get("db") or said)
        return Address(whole.scheme, place, account, _tls(whole))


def parse_nodes(url: str) -> tuple[Address, ...]:
    """Return the nodes of a cluster that *url* names: those that are asked for all others.

    Args:
        url: ``redis+cluster://user:password@host:6379,host:6379``, or
            ``rediss+cluster://`` likewise. There is no database but 0.

    Raises:
        ConfigurationError: if it cannot be meant.

    Example:
        >>> [node.place["port"] for node in parse_nodes("redis+cluster://one:7000,two")]
        [7000, 6379]
    """
    whole = _parse(url, CLUSTER)
    with _meant(whole, "redis+cluster://user:password@host:port,host:port"):
        account, hosts, path = _hosts(whole)
        if path not in {"", "0"}:
            raise ValueError
        scheme = whole.scheme.partition("+")[0]
        node = Address(scheme, {}, _account(account, ""), _tls(whole))
        return tuple(replace(node, place=_place(scheme, host)) for host in hosts)


def parse_service(url: str) -> Service:
    """Return the service of sentinels that *url* means.

    Args:
        url: ``redis+sentinel://user:password@host:26379,host:26379/service/0``,
            or ``rediss+sentinel://`` likewise. User and password are those of
            the servers; ``sentinel_username`` and ``sentinel_password`` are
            options.

    Raises:
        ConfigurationError: if it cannot be meant.

    Example:
        >>> parse_service("redis+sentinel://one,two/cache/2").name
        'cache'
    """
    whole = _parse(url, SENTINEL, "db", *SENTINELS)
    with _meant(whole, "redis+sentinel://user:password@host:port,host:port/service/database"):
        account, hosts, path = _hosts(whole)
        name, _, database = path.partition("/")
        if not name:
            raise ValueError
        scheme, tls = whole.scheme.partition("+")[0], _tls(whole)
        server = Address(scheme, {}, _account(account, whole.options.get("db") or database), tls)
        watcher = {
            "db": 0,
            "username": whole.options.get("sentinel_username") or None,
            "password": whole.options.get("sentinel_password") or None,
        }
        places = [_place(scheme, host, SENTINEL_PORT) for host in hosts]
        sentinels = tuple(Address(scheme, place, watcher, tls) for place in places)
        return Service(sentinels, unquote(name), server)


def _parse(url: str, schemes: tuple[str, ...], *options: str) -> BackendURL:
    """Return the parts of *url*, if it has no other options than it may."""
    whole = parse_url(url)
    if whole.scheme not in schemes:
        raise ConfigurationError(f"backend: {whole} is no URL of a Redis server")
    unknown = whole.options.keys() - {*options, *TLS}
    secure = whole.scheme.startswith("rediss")
    if unknown or (whole.options.keys() & set(TLS) and not secure):
        has = ", ".join([*options, *(TLS if secure else ())]) or "of that kind"
        raise ConfigurationError(f"backend: {whole} has no option but {has}")
    return whole


@contextmanager
def _meant(whole: BackendURL, form: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, LookupError):
        # Its text may repeat the URL, or the password in it.
        raise ConfigurationError(f"backend: {whole} takes {form}") from None


def _hosts(whole: BackendURL) -> tuple[SplitResult, list[SplitResult], str]:
    """Return whose account it is, the servers, and what stands behind them."""
    authority, _, path = whole.address.partition("/")
    account, _, places = authority.rpartition("@")
    hosts = [urlsplit(f"//{place}", allow_fragments=False) for place in places.split(",")]
    if "@" in account or not all(host.hostname and not host.path for host in hosts):
        raise ValueError
    return urlsplit(f"//{account}@", allow_fragments=False), hosts, path.strip("/")


def _place(scheme: str, parts: SplitResult, port: int = DEFAULT_PORT) -> dict[str, Any]:
    if not _SERVER.fullmatch(parts.netloc.rpartition("@")[2]):
        raise ValueError
    host = unquote(parts.hostname or "")
    if scheme == "unix":
        if host or parts.port or not parts.path.startswith("/"):
            raise ValueError
        return {"path": unquote(parts.path)}
    return {"host": host or "localhost", "port": port if parts.port is None else parts.port}


def _account(parts: SplitResult, database: str) -> dict[str, Any]:
    if database and not (database.isascii() and database.isdigit()):
        raise ValueError
    return {
        "db": int(database or "0"),
        "username": _text(parts.username),
        "password": _text(parts.password),
    }


def _text(quoted: str | None) -> str | None:
    return unquote(quoted) if quoted else None


def _tls(whole: BackendURL) -> dict[str, Any]:
    tls: dict[str, Any] = {
        name: _tls_option(name, whole.options[name]) for name in TLS if name in whole.options
    }
    if tls.get("ssl_cert_reqs") == "none":
        # Older versions of redis-py do not see that for themselves.
        tls["ssl_check_hostname"] = False
    return tls


def _tls_option(name: str, written: str) -> Any:
    if name == "ssl_check_hostname":
        return _FLAGS[written.lower()]
    if name == "ssl_cert_reqs" and written not in _REQUIREMENTS:
        raise ValueError
    return written
