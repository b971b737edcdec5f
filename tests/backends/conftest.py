"""A server of its own for each test that breaks it, and one for all that do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import pytest
from redis_groups import ClusterServers, WatchedServers
from redis_servers import Server, serving

T = TypeVar("T", ClusterServers, WatchedServers)


@pytest.fixture(scope="session", params=["valkey", "redis"])
def shared_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    yield from serving(name=request.param)


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[ClusterServers]:
    yield from _while_it_runs(ClusterServers())


@pytest.fixture(scope="session")
def shared_watched() -> Iterator[WatchedServers]:
    yield from _while_it_runs(WatchedServers())


@pytest.fixture
def cluster() -> Iterator[ClusterServers]:
    """One whose first primary has a replica."""
    yield from _while_it_runs(ClusterServers(replica=True))


@pytest.fixture
def watched() -> Iterator[WatchedServers]:
    yield from _while_it_runs(WatchedServers())


def _while_it_runs(servers: T) -> Iterator[T]:
    try:
        yield servers.start()
    finally:
        servers.remove()


@pytest.fixture
def server() -> Iterator[Server]:
    yield from serving()
