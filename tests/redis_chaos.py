"""What stands between a client and its server, and servers that never were any."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

SILENCE = b""
"""What a fake server says to hang up."""

GREETINGS = 2
"""How often a client says who it is, before it asks anything."""


class InThread:
    """Runs a server of asyncio's in a thread of its own.

    Attributes:
        port: where it listens.
        connections: how many there have been.
    """

    port: int
    connections = 0
    tls: ssl.SSLContext | None = None

    def __enter__(self) -> Any:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._up = threading.Event()
        self._thread.start()
        assert self._up.wait(60)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._down.set)
        self._thread.join(60)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    @contextmanager
    def kept_busy(self) -> Iterator[Callable[[], object]]:
        """Give what makes the server answer nobody, until this ends."""
        over = threading.Event()
        try:
            yield partial(self._loop.call_soon_threadsafe, over.wait)
        finally:
            over.set()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._down = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._begin, "127.0.0.1", 0, ssl=self.tls)
        self.port = server.sockets[0].getsockname()[1]
        self._up.set()
        await self._down.wait()
        for listening in server.sockets:
            self._loop.remove_reader(listening.fileno())
        # A server that is closed while it accepts forgets whom it accepted.
        await _rounds()
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await _rounds()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = self._loop.create_task(self._accept(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self.serve(reader, writer)
        writer.close()
        self._writers.discard(writer)


async def _rounds() -> None:
    """Let what was begun on this event loop go on: a connection is accepted and closed in steps."""
    for _ in range(5):
        await asyncio.sleep(0)


class Proxy(InThread):
    """Passes on what a server says, but late, in pieces, in part, or to another request.

    Args:
        port: of the server.
        tls: whom it is to clients.

    Attributes:
        delay: seconds that each piece of a reply waits.
        hold: seconds that each piece of a request waits.
        chop: bytes of a piece, ``0`` for all at once.
        breaks: how many bytes of a reply pass before the connection ends, ``None`` for all.
        resets: whether it ends by RST instead of FIN.
        rewrite: makes another request of each.
        swallows: whether it takes connections of which the server never hears.
        swallowed: how many it has taken so.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._server = port
        self.tls = tls
        self.swallowed = 0
        self._era = 0
        self._is_lossy = False
        self.calm()

    def calm(self) -> None:
        self.delay: Callable[[], float] | None = None
        self.hold: Callable[[], float] | None = None
        self.chop = 0
        self.breaks: int | None = None
        self.resets = False
        self.rewrite: Callable[[bytes], bytes] | None = None
        self.swallows = False

    def forget(self) -> None:
        """Answer by RST whatever comes over the connections that there are, as firewalls do."""
        self._era += 1

    def lose(self) -> None:
        """Let whatever comes over the connections that there are get lost, unseen."""
        self.forget()
        self._is_lossy = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.swallows:
            self.swallowed += 1
            await asyncio.Event().wait()
        theirs, ours = await asyncio.open_connection("127.0.0.1", self._server)
        try:
            await asyncio.gather(
                self._requests(reader, ours, writer), self._replies(theirs, writer)
            )
        finally:
            ours.close()

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        ours: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
    ) -> None:
        era = self._era
        while data := await reader.read(1 << 16):
            if era != self._era:
                if self._is_lossy:
                    continue
                _reset(writer)
                break
            if self.hold:
                await asyncio.sleep(self.hold())
            ours.write(self.rewrite(data) if self.rewrite else data)
            await ours.drain()
        ours.close()

    async def _replies(self, theirs: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await theirs.read(1 << 16):
            size, breaks = self.chop or len(data), self.breaks
            data = data[:breaks]
            for start in range(0, len(data), size):
                if self.delay:
                    await asyncio.sleep(self.delay())
                writer.write(data[start : start + size])
                await writer.drain()
            if breaks is not None:
                if self.resets:
                    _reset(writer)
                break
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


class FakeServer(InThread):
    """Greets as a server does, and then says what it was told to, whatever it is asked.

    Args:
        replies: what it says to each command, `SILENCE` to hang up; nothing if there are none.

    Attributes:
        farewell: what it says when it has greeted, before it hangs up.
    """

    farewell: bytes | None = None

    def __init__(self, *replies: bytes) -> None:
        self.replies = replies
        self.commands: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeted = turn = 0
        while command := await reader.read(1 << 16):
            if greetings := command.count(b"SETINFO"):
                greeted += greetings
                ends = greeted == GREETINGS and self.farewell is not None
                # Both at once: nobody must have found the connection usable in between.
                writer.write(b"+OK\r\n" * greetings + (self.farewell or b"") * ends)
                if ends:
                    return
                continue
            self.commands.append(command)
            if not self.replies:
                continue
            reply = self.replies[turn % len(self.replies)]
            turn += 1
            if reply == SILENCE:
                return
            writer.write(reply)


def hog(seconds: float) -> None:
    """Keep an event loop from everything else."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        pass


def jitter(longest: float, seed: int) -> Callable[[], float]:
    chance = random.Random(seed)
    return lambda: chance.uniform(0, longest)
