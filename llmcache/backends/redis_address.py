"""Where a Redis server is, and who asks it: what a URL says, as redis-py's connections take it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from llmcache.backends.registry import REDIS
from llmcache.backends.urls import parse_url
from llmcache.errors import ConfigurationError

DEFAULT_PORT: Final = 6379

TLS: Final = (
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_keyfile",
)
"""Options of ``rediss://``, which mean what they mean to redis-py."""

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
    whole = parse_url(url)
    if whole.scheme not in REDIS:
        raise ConfigurationError(f"backend: {whole} is no URL of a Redis server")
    try:
        parts = urlsplit(f"//{whole.address}", allow_fragments=False)
        place = _place(whole.scheme, parts)
        account = _account(whole.scheme, parts, whole.options)
        tls: dict[str, Any] = {
            name: _tls(name, whole.options[name]) for name in TLS if name in whole.options
        }
        if tls.get("ssl_cert_reqs") == "none":
            # Older versions of redis-py do not see that for themselves.
            tls["ssl_check_hostname"] = False
    except (ValueError, LookupError):
        # Its text may repeat the URL, or the password in it.
        raise ConfigurationError(
            f"backend: {whole} takes redis://user:password@host:port/database "
            "or unix://user:password@/path?db=database"
        ) from None
    unknown = whole.options.keys() - TLS - {"db"}
    if unknown or (tls and whole.scheme != "rediss"):
        raise ConfigurationError(
            f"backend: the URL {whole} of a Redis server has no option but db, "
            f"and for rediss:// {', '.join(TLS)}"
        )
    return Address(whole.scheme, place, account, tls)


def _place(scheme: str, parts: SplitResult) -> dict[str, Any]:
    if not _SERVER.fullmatch(parts.netloc.rpartition("@")[2]):
        raise ValueError
    host = unquote(parts.hostname or "")
    if scheme == "unix":
        if host or parts.port or not parts.path.startswith("/"):
            raise ValueError
        return {"path": unquote(parts.path)}
    port = DEFAULT_PORT if parts.port is None else parts.port
    return {"host": host or "localhost", "port": port}


def _account(scheme: str, parts: SplitResult, options: dict[str, str]) -> dict[str, Any]:
    said = "" if scheme == "unix" else parts.path.strip("/")
    database = options.get("db") or said or "0"
    if not (database.isascii() and database.isdigit()):
        raise ValueError
    return {
        "db": int(database),
        "username": _text(parts.username),
        "password": _text(parts.password),
    }


def _text(quoted: str | None) -> str | None:
    return unquote(quoted) if quoted else None


def _tls(name: str, written: str) -> Any:
    if name == "ssl_check_hostname":
        return _FLAGS[written.lower()]
    if name == "ssl_cert_reqs" and written not in _REQUIREMENTS:
        raise ValueError
    return written
