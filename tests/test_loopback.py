"""The loopback provider behaves like a provider, in good times and in bad."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anthropic
import openai
import pytest
from anthropic.types.beta import BetaMessage
from loopback import LoopbackProvider, Recording, load_recordings
from sdk import acall, call

FILE = Path(__file__).with_name("recordings.jsonl")
RECORDINGS = load_recordings(FILE)
BODIES = [recording for recording in RECORDINGS if not recording.stream]
STREAMS = [recording for recording in RECORDINGS if recording.stream]
CHAT = next(r for r in BODIES if r.kind == "openai.chat" and r.status == 200)
CLAUDE = next(r for r in BODIES if r.kind == "anthropic.messages")
GEMINI = next(r for r in BODIES if r.kind == "google.generate" and r.status == 200)
CHAT_STREAM = next(r for r in STREAMS if r.kind == "openai.chat")
WHOLE_STREAMS = [r for r in STREAMS if '"error":{' not in r.response]
AN_HOUR = 3600.0

pytestmark = pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning")


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider(RECORDINGS) as provider:
        yield provider


def connect(provider: LoopbackProvider) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(provider.url).netloc, timeout=30)


def send(
    connection: http.client.HTTPConnection,
    recording: Recording,
    *,
    path: str | None = None,
    **headers: str,
) -> http.client.HTTPResponse:
    """Send the recorded request, with underscores in `headers` for hyphens."""
    connection.request(
        "POST",
        path or recording.path,
        json.dumps(recording.request),
        {name.replace("_", "-"): value for name, value in headers.items()},
    )
    return connection.getresponse()


def ask(
    provider: LoopbackProvider, recording: Recording, *, path: str | None = None, **headers: str
) -> tuple[int, bytes]:
    connection = connect(provider)
    try:
        response = send(connection, recording, path=path, **headers)
        return response.status, response.read()
    finally:
        connection.close()


def events(recording: Recording) -> list[bytes]:
    text = recording.response.encode()
    end = b"\r\n\r\n" if b"\r\n\r\n" in text else b"\n\n"
    return [event + end for event in text.removesuffix(end).split(end)]


def by_id(recording: Recording) -> str:
    return f"{recording.kind}-{recording.status}-{recording.id}"


def drive(recording: Recording, provider: LoopbackProvider, mode: str) -> Any:
    if recording.kind == "google.generate":
        pytest.importorskip("google.genai")
    if mode == "async":
        return asyncio.run(acall(recording, provider))
    return call(recording, provider)


both = pytest.mark.parametrize("mode", ["sync", "async"])


def test_an_id_is_the_digest_of_the_row_without_it() -> None:
    for line, recording in zip(FILE.read_text("utf-8").splitlines(), RECORDINGS, strict=True):
        row = dataclasses.asdict(recording)
        assert row.pop("id") == recording.id
        assert row == json.loads(line)
        text = json.dumps(row, sort_keys=True, separators=(",", ":"))
        assert hashlib.sha256(text.encode("ascii")).hexdigest().startswith(recording.id)
        assert len(recording.id) == 12


def test_ids_stay_what_they_are(tmp_path: Path) -> None:
    row = {"kind": "openai.chat", "path": "/v1/chat/completions", "status": 200, "stream": False}
    row |= {"request": {"model": "m"}, "response": {"text": "é"}, "source": "none"}
    file = tmp_path / "recordings.jsonl"
    file.write_text(json.dumps(row) + "\n" + json.dumps(row, ensure_ascii=False), "utf-8")
    assert [recording.id for recording in load_recordings(file)] == ["72d8b46ef3a7"] * 2


def test_our_recordings_are_many_kinds() -> None:
    assert len({recording.id for recording in RECORDINGS}) == len(RECORDINGS)
    kinds = {"openai.chat", "openai.responses", "anthropic.messages", "google.generate"}
    assert {recording.kind for recording in BODIES if recording.status == 200} == kinds
    assert {recording.kind for recording in STREAMS} == kinds
    assert {recording.status for recording in RECORDINGS} == {200, 400, 404}
    assert FILE.stat().st_size < 400_000


def test_a_recording_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CHAT.status = 500  # type: ignore[misc]


@pytest.mark.parametrize(("line", "error"), [("{", ValueError), ('{"kind": "x"}', TypeError)])
def test_a_line_that_is_no_recording(line: str, error: type[Exception], tmp_path: Path) -> None:
    file = tmp_path / "recordings.jsonl"
    file.write_text(line)
    with pytest.raises(error):
        load_recordings(file)


@pytest.mark.parametrize("recording", BODIES, ids=by_id)
def test_serves_a_body_by_id(recording: Recording, provider: LoopbackProvider) -> None:
    connection = connect(provider)
    response = send(connection, recording, path="/anything", x_record=recording.id)
    body = response.read()
    assert response.status == recording.status
    assert json.loads(body) == recording.response
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-length"] == str(len(body))
    connection.close()


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_serves_a_stream_by_id(recording: Recording, provider: LoopbackProvider) -> None:
    connection = connect(provider)
    response = send(connection, recording, path="/anything", x_record=recording.id)
    assert response.read().decode() == recording.response
    assert response.status == recording.status
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["transfer-encoding"] == "chunked"
    connection.close()


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_each_event_is_a_chunk(recording: Recording, provider: LoopbackProvider) -> None:
    address = urlsplit(provider.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        head = f"POST / HTTP/1.1\r\nx-record: {recording.id}\r\nconnection: close\r\n\r\n"
        connection.sendall(head.encode())
        with connection.makefile("rb") as wire:
            body = wire.read().partition(b"\r\n\r\n")[2]
    expected = [b"%x\r\n%s\r\n" % (len(event), event) for event in events(recording)]
    assert body == b"".join(expected) + b"0\r\n\r\n"


@pytest.mark.parametrize("recording", RECORDINGS, ids=by_id)
def test_serves_an_equal_request_without_an_id(
    recording: Recording, provider: LoopbackProvider
) -> None:
    assert ask(provider, recording) == ask(provider, recording, x_record=recording.id)


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/chat/completions", "/completions?a=b"])
def test_the_end_of_the_path_is_enough(path: str, provider: LoopbackProvider) -> None:
    status, body = ask(provider, CHAT, path=path)
    assert (status, json.loads(body)) == (200, CHAT.response)


def test_the_first_of_equal_requests_is_served() -> None:
    second = dataclasses.replace(CHAT, id="second", response={"answer": 2})
    elsewhere = dataclasses.replace(CHAT, id="elsewhere", path="/else", response={"answer": 3})
    with LoopbackProvider([CHAT, second, elsewhere]) as provider:
        assert json.loads(ask(provider, CHAT)[1]) == CHAT.response
        assert json.loads(ask(provider, CHAT, x_record="second")[1]) == {"answer": 2}
        assert json.loads(ask(provider, CHAT, path="/else")[1]) == {"answer": 3}


def test_what_is_not_recorded_is_not_found(provider: LoopbackProvider) -> None:
    other = dataclasses.replace(CHAT, request={"model": "other"})
    for answer, named in [
        (ask(provider, other), f'{CHAT.path} {{"model": "other"}}'),
        (ask(provider, CHAT, path="/v2/chat/completions"), "/v2/chat/completions"),
        (ask(provider, CHAT, x_record="0123456789ab"), "x-record 0123456789ab"),
    ]:
        status, body = answer
        error = json.loads(body)["error"]
        assert status == 404
        assert named in error.pop("message")
        assert error == {"type": "loopback_error", "param": None, "code": None}


def test_the_sdk_says_what_is_not_recorded() -> None:
    with LoopbackProvider([]) as provider, pytest.raises(openai.NotFoundError, match=CHAT.id):
        call(CHAT, provider)


def test_every_response_has_an_id_of_its_own(provider: LoopbackProvider) -> None:
    connection = connect(provider)
    ids = []
    for recording in [CHAT, CHAT, CHAT_STREAM]:
        response = send(connection, recording)
        response.read()
        assert response.headers["x-request-id"] == response.headers["request-id"]
        ids.append(response.headers["request-id"])
    assert len(set(ids)) == 3
    connection.close()


def test_counts_and_keeps_what_arrives(provider: LoopbackProvider) -> None:
    assert (provider.calls, provider.requests) == (0, [])
    provider.fail()
    ask(provider, CHAT)
    ask(provider, CLAUDE)
    connection = connect(provider)
    connection.request("POST", "/not/json", b"{")
    assert connection.getresponse().status == 404
    connection.close()
    assert provider.calls == 3
    assert provider.requests == [
        (CHAT.path, CHAT.request),
        (CLAUDE.path, CLAUDE.request),
        ("/not/json", None),
    ]


def test_counts_across_threads(provider: LoopbackProvider) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: ask(provider, CHAT), range(100)))
    assert provider.calls == 100
    assert {status for status, _ in answers} == {200}


def test_a_connection_is_kept(provider: LoopbackProvider) -> None:
    connection = connect(provider)
    send(connection, CHAT).read()
    first = connection.sock
    send(connection, CHAT_STREAM).read()
    send(connection, CLAUDE).read()
    assert connection.sock is first is not None
    connection.close()


def test_delay_is_before_the_response(provider: LoopbackProvider) -> None:
    provider.delay = 0.05
    start = time.monotonic()
    ask(provider, CHAT)
    assert time.monotonic() - start >= 0.05


def test_a_request_can_set_its_own_delay(provider: LoopbackProvider) -> None:
    provider.delay = AN_HOUR
    assert ask(provider, CHAT, x_delay="0")[0] == 200


@pytest.mark.parametrize("headers", [{}, {"x_delay": str(AN_HOUR)}])
def test_close_ends_a_delay(headers: dict[str, str]) -> None:
    provider = LoopbackProvider(RECORDINGS, delay=0 if headers else AN_HOUR)
    with ThreadPoolExecutor() as pool, provider:
        answer = pool.submit(ask, provider, CHAT, **headers)
        provider.wait_for_calls(1)
        provider.close()
        with pytest.raises(ConnectionError):
            answer.result(timeout=30)


def test_events_come_one_by_one() -> None:
    with LoopbackProvider(RECORDINGS, event_delay=AN_HOUR) as provider:
        connection = connect(provider)
        response = send(connection, CHAT_STREAM)
        first = events(CHAT_STREAM)[0]
        assert response.read(len(first)) == first
        provider.close()
        with pytest.raises(http.client.IncompleteRead):
            response.read()
        connection.close()


def test_fails_as_often_as_asked(provider: LoopbackProvider) -> None:
    provider.fail(times=2, status=429)
    provider.fail()
    answers = [ask(provider, CHAT) for _ in range(4)]
    assert [status for status, _ in answers] == [429, 429, 503, 200]
    assert json.loads(answers[0][1])["error"]["message"] == "failing as asked"


@both
@pytest.mark.parametrize("recording", [CHAT, CLAUDE, GEMINI], ids=by_id)
def test_the_sdk_sees_a_failure(
    recording: Recording, provider: LoopbackProvider, mode: str
) -> None:
    provider.fail(status=503)
    with pytest.raises(Exception, match="failing as asked") as failure:
        drive(recording, provider, mode)
    assert status_of(failure.value) == 503
    assert provider.calls == 1
    assert drive(recording, provider, mode)


def status_of(error: BaseException) -> Any:
    """The HTTP status, which Google's error class calls `code`."""
    return getattr(error, "status_code", getattr(error, "code", None))


@pytest.mark.parametrize("after", [None, 0, 1, 100])
def test_drops_in_the_middle_of_a_body(after: int | None, provider: LoopbackProvider) -> None:
    _, body = ask(provider, CHAT)
    provider.drop(after=after)
    with pytest.raises(http.client.IncompleteRead) as dropped:
        ask(provider, CHAT)
    assert dropped.value.partial == body[: after or 0]
    assert ask(provider, CHAT) == (200, body)


@pytest.mark.parametrize("after", [0, 1, 1000])
def test_drops_in_the_middle_of_an_event(after: int, provider: LoopbackProvider) -> None:
    provider.drop(after=after)
    with pytest.raises(http.client.IncompleteRead) as dropped:
        ask(provider, CHAT_STREAM)
    assert dropped.value.partial == CHAT_STREAM.response.encode()[:after]


@pytest.mark.parametrize("count", [0, 1, 3, 1000])
def test_drops_after_some_events(count: int, provider: LoopbackProvider) -> None:
    provider.drop(times=2, after_events=count)
    for _ in range(2):
        with pytest.raises(http.client.IncompleteRead) as dropped:
            ask(provider, CHAT_STREAM)
        assert dropped.value.partial == b"".join(events(CHAT_STREAM)[:count])
    assert ask(provider, CHAT_STREAM)[1].decode() == CHAT_STREAM.response


def test_a_body_counts_as_one_event(provider: LoopbackProvider) -> None:
    provider.drop(after_events=0)
    with pytest.raises(http.client.IncompleteRead) as dropped:
        ask(provider, CHAT)
    assert dropped.value.partial == b""
    provider.drop(after_events=1)
    assert json.loads(ask(provider, CHAT)[1]) == CHAT.response


def test_drop_wants_bytes_or_events(provider: LoopbackProvider) -> None:
    with pytest.raises(ValueError, match="not both"):
        provider.drop(after=1, after_events=1)


@both
@pytest.mark.parametrize("recording", [CHAT, CLAUDE, GEMINI], ids=by_id)
def test_the_sdk_sees_a_dropped_connection(
    recording: Recording, provider: LoopbackProvider, mode: str
) -> None:
    provider.drop(after=10)
    with pytest.raises(Exception, match=r"(?i)connection") as dropped:
        drive(recording, provider, mode)
    assert status_of(dropped.value) is None
    assert provider.calls == 1


def test_held_requests_wait_together(provider: LoopbackProvider) -> None:
    with ThreadPoolExecutor(5) as pool:
        with provider.held():
            answers = [pool.submit(ask, provider, CHAT) for _ in range(5)]
            provider.wait_for_calls(5)
            assert not any(answer.done() for answer in answers)
        assert [answer.result(timeout=30)[0] for answer in answers] == [200] * 5


def test_held_requests_wait_on_an_event_loop(provider: LoopbackProvider) -> None:
    async def main() -> list[Any]:
        with provider.held():
            tasks = [asyncio.create_task(acall(CHAT, provider)) for _ in range(3)]
            await asyncio.to_thread(provider.wait_for_calls, 3)
            assert not any(task.done() for task in tasks)
        return await asyncio.gather(*tasks)

    assert len({answer._request_id for answer in asyncio.run(main())}) == 3


def test_close_ends_holding() -> None:
    provider = LoopbackProvider(RECORDINGS)
    with ThreadPoolExecutor() as pool, provider, provider.held():
        answer = pool.submit(ask, provider, CHAT)
        provider.wait_for_calls(1)
        provider.close()
        with pytest.raises(ConnectionError):
            answer.result(timeout=30)


def test_waiting_for_calls_has_an_end(provider: LoopbackProvider) -> None:
    ask(provider, CHAT)
    provider.wait_for_calls(1)
    with pytest.raises(TimeoutError, match="1 of 2 requests"):
        provider.wait_for_calls(2, timeout=0.01)


def test_starts_once_and_closes_often() -> None:
    provider = LoopbackProvider(RECORDINGS)
    with pytest.raises(RuntimeError, match="not been started"):
        _ = provider.url
    provider.start()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", provider.url)
    assert ask(provider, CHAT)[0] == 200
    with pytest.raises(RuntimeError, match="starts once"):
        provider.start()
    provider.close()
    provider.close()
    LoopbackProvider(RECORDINGS).close()


def test_nobody_is_served_after_close(provider: LoopbackProvider) -> None:
    connection = connect(provider)
    send(connection, CHAT).read()
    provider.close()
    with pytest.raises(ConnectionError):
        send(connection, CHAT)
    connection.close()
    with pytest.raises(ConnectionRefusedError):
        ask(provider, CHAT)
    assert provider.calls == 1


def test_says_nothing_of_requests_and_of_clients_that_hang_up(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with LoopbackProvider(RECORDINGS) as provider:
        with provider.held():
            for _ in range(10):
                connection = connect(provider)
                connection.request("POST", CHAT_STREAM.path, json.dumps(CHAT_STREAM.request))
                connection.close()
            provider.wait_for_calls(10)
        assert ask(provider, CHAT)[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_mistake_is_not_silent(
    provider: LoopbackProvider, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConnectionError):
        ask(provider, CHAT, x_delay="soon")
    assert "ValueError" in capfd.readouterr().err


@both
@pytest.mark.parametrize("recording", BODIES, ids=by_id)
def test_the_sdk_sends_and_gets_what_was_recorded(
    recording: Recording, provider: LoopbackProvider, mode: str
) -> None:
    if recording.status == 200:
        answer = drive(recording, provider, mode)
        if recording.kind == "google.generate":
            assert answer.response_id == recording.response["responseId"]
        else:
            assert answer.to_dict(mode="json", warnings=False) == recording.response
            assert answer._request_id.startswith("req_")
    else:
        message = re.escape(recording.response["error"]["message"][:40])
        with pytest.raises(Exception, match=message) as failure:
            drive(recording, provider, mode)
        assert status_of(failure.value) == recording.status
    assert [body for _, body in provider.requests] == [recording.request]


@both
def test_anthropic_has_two_kinds_of_messages(mode: str) -> None:
    stable = dataclasses.replace(CLAUDE, path="/v1/messages")
    with LoopbackProvider([stable]) as provider:
        assert isinstance(drive(stable, provider, mode), anthropic.types.Message)
        beta = drive(CLAUDE, provider, mode)
        assert isinstance(beta, BetaMessage)


@both
def test_a_stream_is_not_called(provider: LoopbackProvider, mode: str) -> None:
    with pytest.raises(ValueError, match=CHAT_STREAM.id):
        drive(CHAT_STREAM, provider, mode)
    assert provider.calls == 0


def test_the_sdks_do_not_need_google() -> None:
    code = "import sys; sys.modules['google'] = None; import sdk"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


def sdk_stream(recording: Recording, provider: LoopbackProvider) -> Iterator[Any]:
    headers = {"x-record": recording.id}
    if recording.kind == "google.generate":
        genai = pytest.importorskip("google.genai")
        options = genai.types.HttpOptions(base_url=provider.url, headers=headers)
        with genai.Client(vertexai=False, api_key="none", http_options=options) as client:
            yield from client.models.generate_content_stream(model="any", contents="any")
    elif recording.kind == "anthropic.messages":
        with anthropic.Anthropic(base_url=provider.url, api_key="none") as client:
            yield from client.beta.messages.create(
                model="any", messages=[], max_tokens=1, stream=True, extra_headers=headers
            )
    elif recording.kind == "openai.chat":
        with openai.OpenAI(base_url=provider.url, api_key="none") as client:
            yield from client.chat.completions.create(
                model="any", messages=[], stream=True, extra_headers=headers
            )
    else:
        with openai.OpenAI(base_url=provider.url, api_key="none") as client:
            yield from client.responses.create(
                model="any", input="any", stream=True, extra_headers=headers
            )


@pytest.mark.parametrize("recording", WHOLE_STREAMS, ids=by_id)
def test_the_sdk_reads_a_stream(recording: Recording, provider: LoopbackProvider) -> None:
    data = re.findall(r"^data: (\{.*\})\s*$", recording.response, flags=re.MULTILINE)
    pings = [line for line in data if json.loads(line).get("type") == "ping"]
    assert len(list(sdk_stream(recording, provider))) == len(data) - len(pings)


@pytest.mark.parametrize("recording", WHOLE_STREAMS, ids=by_id)
def test_the_sdk_sees_a_broken_stream(recording: Recording, provider: LoopbackProvider) -> None:
    provider.drop(after_events=1)
    with pytest.raises(Exception, match=r"Connection error|incomplete chunked read"):
        list(sdk_stream(recording, provider))
    assert provider.calls == 1


def test_an_asynchronous_sdk_reads_a_stream(provider: LoopbackProvider) -> None:
    async def main() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=provider.url, api_key="none") as client:
            stream = await client.chat.completions.create(
                model="any", messages=[], stream=True, extra_headers={"x-record": CHAT_STREAM.id}
            )
            return [chunk async for chunk in stream]

    last = b"data: [DONE]\n\n"
    assert len(asyncio.run(main())) == len([e for e in events(CHAT_STREAM) if e != last])
