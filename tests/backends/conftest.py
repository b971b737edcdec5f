"""A server of its own for each test that breaks it, and one for all that do not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis_servers import Server, serving


@pytest.fixture(scope="session", params=["valkey", "redis"])
def shared_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    yield from serving(name=request.param)


@pytest.fixture
def server() -> Iterator[Server]:
    yield from serving()
