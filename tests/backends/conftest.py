"""Servers, one for each test that breaks it and one for all that do not, and SQLite files."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import ipaddress
import logging
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from redis_groups import ClusterServers, WatchedServers
from redis_servers import Server, require, running
from stand_ins import FakeClock
from twins import World

from backends.asker import Asker
from backends.redis_people import Person
from llmcache.backends.redis import RedisStore
from llmcache.backends.sqlite import SQLiteStore

Make = Callable[..., SQLiteStore]


@pytest.fixture(scope="module", autouse=True)
def only_new_garbage() -> Iterator[None]:
    """Have the collector leave alone what thousands of tests before have made.

    To look through that takes up to a second, which counts as the store's where a call is timed.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session", params=["valkey", "redis"])
def shared_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with running(Server(require(request.param))) as server:
        yield server


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[ClusterServers]:
    with running(ClusterServers()) as servers:
        yield servers


@pytest.fixture(scope="session")
def shared_watched() -> Iterator[WatchedServers]:
    with running(WatchedServers()) as servers:
        yield servers


@pytest.fixture
def cluster() -> Iterator[ClusterServers]:
    """One whose first primary has a replica."""
    with running(ClusterServers(replica=True)) as servers:
        yield servers


@pytest.fixture
def watched() -> Iterator[WatchedServers]:
    with running(WatchedServers()) as servers:
        yield servers


@pytest.fixture
def server() -> Iterator[Server]:
    with running(Server(require("valkey"))) as server:
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def trusted(certificate: tuple[Path, Path]) -> str:
    """The file of the certificate."""
    return str(certificate[0])


@pytest.fixture
def tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """Who has that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "answers.db"


@pytest.fixture
def make(path: Path, clock: FakeClock) -> Iterator[Make]:
    """Makes stores that wait for long, since the machine may be busy."""
    stores: list[SQLiteStore] = []

    def make(where: Path = path, **options: Any) -> SQLiteStore:
        store = SQLiteStore(where, **{"clock": clock.clock, "timeout": 30.0, **options})
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.close()


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def open_store(request: pytest.FixtureRequest, make: Make) -> Iterator[Callable[..., Asker]]:
    with asyncio.Runner() as runner:
        yield lambda **options: Asker(make(**options), runner if request.param else None)


@pytest.fixture(params=[World("sync"), World("async")], ids=["sync", "async"])
def person(request: pytest.FixtureRequest) -> Iterator[Callable[..., Person]]:
    """Make people who are gone after the test."""
    with ExitStack() as stack:

        def make(url: str, **options: Any) -> Person:
            someone = Person(request.param, RedisStore(url, **options))
            stack.callback(someone.close)
            return someone

        yield make


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """What was logged. However long a fault takes, it is a few lines."""

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "llmcache"]

    caplog.set_level(logging.DEBUG)
    yield lines
    assert len(lines()) <= 8
    assert not [record for record in caplog.records if record.name == "asyncio"]
