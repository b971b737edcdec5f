"""A provider on the loopback interface that answers real SDKs with recorded provider traffic.

It serves a file of recordings, one HTTP exchange a line, to whatever client asks: an SDK under
test, or an application that is to be tried out without a key and without cost. It can also be
slow, fail, and drop connections, as providers do.

Example:
    recordings = load_recordings("tests/recordings.jsonl")
    with LoopbackProvider(recordings) as provider:
        client = openai.OpenAI(base_url=provider.url, api_key="none")
        client.chat.completions.create(
            model="any", messages=[], extra_headers={"x-record": recordings[0].id}
        )
        assert provider.calls == 1
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import socket
import sys
import threading
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

__all__ = ["LoopbackProvider", "Recording", "load_recordings"]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One recorded HTTP exchange with a provider.

    Args:
        id: The first 12 hex digits of the SHA-256 of the recording's JSON object, without an id,
            as `json.dumps(row, sort_keys=True, separators=(",", ":"))` writes it.
        kind: `openai.chat`, `openai.responses`, `anthropic.messages` or `google.generate`.
        path: The path of the request, with its query.
        status: The HTTP status of the response.
        stream: Whether the response is a stream of server-sent events.
        request: The JSON body of the request.
        response: The JSON body of the response; for a stream its text.
        source: Where the recording was taken from.

    Example:
        streams = [recording for recording in recordings if recording.stream]
    """

    id: str
    kind: str
    path: str
    status: int
    stream: bool
    request: dict[str, Any]
    response: Any
    source: str


def load_recordings(path: str | Path) -> list[Recording]:
    """Read a file of recordings, one JSON object a line.

    Args:
        path: The file.

    Returns:
        The recordings in the order of the file.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line is not JSON.
        TypeError: A line has another set of fields than a recording.

    Example:
        by_id = {recording.id: recording for recording in load_recordings("tests/recordings.jsonl")}
    """
    with Path(path).open(encoding="utf-8") as lines:
        return [_recording(json.loads(line)) for line in lines]


def _recording(row: dict[str, Any]) -> Recording:
    text = json.dumps(row, sort_keys=True, separators=(",", ":"))
    return Recording(id=hashlib.sha256(text.encode()).hexdigest()[:12], **row)


@dataclass(frozen=True, kw_only=True)
class _Fault:
    """What goes wrong with one response: another status, or a body that ends early."""

    status: int | None = None
    after: int | None = None
    after_events: int | None = None

    def drops(self) -> bool:
        return self.after is not None or self.after_events is not None

    def sent(self, parts: list[bytes]) -> Iterator[bytes]:
        room = self.after
        for part in parts[: self.after_events]:
            if room is None:
                yield part
            elif room > 0:
                yield part[:room]
                room -= len(part)


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """A response as it goes over the wire: the body is one part, or the events of a stream."""

    status: int
    parts: list[bytes]
    stream: bool = False


class LoopbackProvider:
    """An HTTP server on 127.0.0.1 that answers requests with recordings.

    A request names its recording in the header `x-record`; its path and body do not matter then.
    Without that header it gets the first recording whose path ends with the path asked for, queries
    aside, and whose JSON body is equal. Anything else gets a 404 and an error in OpenAI's form.

    Every response has a new request id, in `x-request-id` and in `request-id`. A request's header
    `x-delay`, in seconds, takes the place of `delay`.

    Args:
        recordings: What can be served.
        delay: Seconds before each response. Can be changed at any time.
        event_delay: Seconds between two events of a stream. Can be changed at any time.

    Example:
        with LoopbackProvider(recordings) as provider:
            provider.fail(times=2, status=503)
            answer = client.chat.completions.create(**request)
            assert provider.calls == 3
    """

    def __init__(
        self, recordings: Sequence[Recording], *, delay: float = 0.0, event_delay: float = 0.0
    ) -> None:
        self.delay = delay
        self.event_delay = event_delay
        self._recordings = recordings
        self._by_id = {recording.id: recording for recording in recordings}
        self._server: ThreadingHTTPServer | None = None
        self._changed = threading.Condition()
        self._requests: list[tuple[str, Any]] = []
        self._faults: deque[_Fault] = deque()
        self._connections: set[socket.socket] = set()
        self._gate = threading.Event()
        self._gate.set()
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def start(self) -> None:
        """Listen on a free port, in a daemon thread.

        Raises:
            RuntimeError: The provider has been started before; each starts once.

        Example:
            provider.start()
        """
        if self._server is not None:
            raise RuntimeError("a LoopbackProvider starts once")
        self._server = _Server(("127.0.0.1", 0), functools.partial(_Handler, self))
        serve = functools.partial(self._server.serve_forever, poll_interval=0.01)
        threading.Thread(target=serve, name="loopback-provider", daemon=True).start()

    def close(self) -> None:
        """Stop at once: end every wait, close every connection and free the port.

        Closing twice, or without a start, does nothing.

        Example:
            provider.close()
        """
        self._closing.set()
        self._gate.set()
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        with self._changed:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    @property
    def url(self) -> str:
        """Where the provider listens, such as `http://127.0.0.1:40123`, without a slash at the end.

        Raises:
            RuntimeError: The provider has not been started.

        Example:
            client = openai.OpenAI(base_url=provider.url, api_key="none")
        """
        if self._server is None:
            raise RuntimeError("the LoopbackProvider has not been started")
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def calls(self) -> int:
        """The number of requests that have arrived, whatever they were answered.

        Example:
            assert provider.calls == 1
        """
        with self._changed:
            return len(self._requests)

    @property
    def requests(self) -> list[tuple[str, Any]]:
        """The path and the JSON body of each request, in order of arrival; `None` if not JSON.

        Example:
            path, body = provider.requests[-1]
        """
        with self._changed:
            return list(self._requests)

    def wait_for_calls(self, count: int, *, timeout: float = 10.0) -> None:
        """Block until a number of requests have arrived; on an event loop, `await` it in a thread.

        Args:
            count: How many requests, counted from the start.
            timeout: The longest wait, in seconds.

        Raises:
            TimeoutError: Fewer requests have arrived in that time.

        Example:
            await asyncio.to_thread(provider.wait_for_calls, 2)
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._requests) >= count, timeout):
                raise TimeoutError(f"{len(self._requests)} of {count} requests after {timeout} s")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let requests arrive but keep all of them waiting until the block ends.

        Example:
            with provider.held():
                thread.start()
                provider.wait_for_calls(1)
        """
        self._gate.clear()
        try:
            yield
        finally:
            self._gate.set()

    def fail(self, *, times: int = 1, status: int = 503) -> None:
        """Answer the next requests with an error, after the faults that were asked for before.

        Args:
            times: How many requests.
            status: The HTTP status that they get.

        Example:
            provider.fail(times=2, status=429)
        """
        self._add(_Fault(status=status), times)

    def drop(
        self, *, times: int = 1, after: int | None = None, after_events: int | None = None
    ) -> None:
        """Break off the next responses: send status, headers and part of the body, then close.

        Args:
            times: How many requests.
            after: Bytes of the body that are sent; none of them without either argument.
            after_events: Events that are sent. A body that is not a stream counts as one.

        Raises:
            ValueError: Both `after` and `after_events` are given.

        Example:
            provider.drop(after_events=3)
        """
        if after is not None and after_events is not None:
            raise ValueError("drop takes after or after_events, not both")
        if after_events is None:
            self._add(_Fault(after=after or 0), times)
        else:
            self._add(_Fault(after_events=after_events), times)

    def _add(self, fault: _Fault, times: int) -> None:
        with self._changed:
            self._faults.extend([fault] * times)

    def _arrive(self, path: str, body: Any) -> _Fault:
        with self._changed:
            self._requests.append((path, body))
            self._changed.notify_all()
            return self._faults.popleft() if self._faults else _Fault()

    def _connect(self, connection: socket.socket) -> None:
        with self._changed:
            if self._closing.is_set():
                raise ConnectionAbortedError("the provider is closing")
            self._connections.add(connection)

    def _disconnect(self, connection: socket.socket) -> None:
        with self._changed:
            self._connections.discard(connection)

    def _wait(self, delay: float) -> None:
        self._gate.wait()
        self._pause(delay)

    def _pause(self, seconds: float) -> None:
        if self._closing.wait(seconds):
            raise ConnectionAbortedError("the provider is closing")

    def _answer(self, path: str, record: str | None, body: Any) -> _Answer:
        found = self._match(path, body) if record is None else self._by_id.get(record)
        if found is None:
            asked = f"x-record {record}" if record else f"{path} {json.dumps(body)[:1000]}"
            return _error(404, f"no recording answers {asked}")
        parts = _events(found.response) if found.stream else [json.dumps(found.response).encode()]
        return _Answer(status=found.status, parts=parts, stream=found.stream)

    def _match(self, path: str, body: Any) -> Recording | None:
        asked = path.partition("?")[0]
        for recording in self._recordings:
            if recording.path.partition("?")[0].endswith(asked) and recording.request == body:
                return recording
        return None


def _error(status: int, message: str) -> _Answer:
    error = {"message": message, "type": "loopback_error", "param": None, "code": None}
    return _Answer(status=status, parts=[json.dumps({"error": error}).encode()])


def _events(text: str) -> list[bytes]:
    found = re.findall(r".+?(?:\r?\n\r?\n|\Z)", text, flags=re.DOTALL)
    return [event.encode() for event in found]


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


class _Server(ThreadingHTTPServer):
    request_queue_size = 1024

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients that hang up, and the provider's own closing, are no news.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, provider: LoopbackProvider, *args: Any) -> None:
        self._provider = provider
        super().__init__(*args)

    def setup(self) -> None:
        super().setup()
        self._provider._connect(self.connection)

    def finish(self) -> None:
        self._provider._disconnect(self.connection)
        super().finish()

    def do_POST(self) -> None:
        body = _parsed(self.rfile.read(int(self.headers.get("content-length", 0))))
        fault = self._provider._arrive(self.path, body)
        if fault.status is None:
            answer = self._provider._answer(self.path, self.headers["x-record"], body)
        else:
            answer = _error(fault.status, "failing as asked")
        self._provider._wait(float(self.headers.get("x-delay", self._provider.delay)))
        self._send_head(answer)
        for position, part in enumerate(fault.sent(answer.parts)):
            if position:
                self._provider._pause(self._provider.event_delay)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if answer.stream else part)
        if fault.drops():
            self.close_connection = True
        elif answer.stream:
            self.wfile.write(b"0\r\n\r\n")

    def _send_head(self, answer: _Answer) -> None:
        request_id = f"req_{uuid.uuid4().hex}"
        self.send_response(answer.status)
        self.send_header("x-request-id", request_id)
        self.send_header("request-id", request_id)
        if answer.stream:
            self.send_header("content-type", "text/event-stream; charset=utf-8")
            self.send_header("transfer-encoding", "chunked")
        else:
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(sum(map(len, answer.parts))))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass
