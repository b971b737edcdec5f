"""The providers' real SDKs, each asked for one recorded exchange.

Example:
    with LoopbackProvider(recordings) as provider:
        answer = call(recordings[0], provider)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import anthropic
import openai
from loopback import LoopbackProvider, Recording

if TYPE_CHECKING:
    from google import genai

__all__ = ["acall", "call"]

TIMEOUT_SECONDS = 30


def call(recording: Recording, provider: LoopbackProvider) -> Any:
    """Send a recorded request through the SDK of its provider, with no retries.

    Args:
        recording: An exchange that is not a stream.
        provider: A started provider that serves it.

    Returns:
        The object that the SDK makes of the recorded response.

    Raises:
        ValueError: The recording is a stream.
        Exception: The SDK's own, such as `openai.NotFoundError`, for a recorded error.

    Example:
        answer = call(recording, provider)
    """
    with _client(recording, provider) as client:
        return _method(recording, client)()


async def acall(recording: Recording, provider: LoopbackProvider) -> Any:
    """Do what `call` does, through the asynchronous client of the SDK."""
    async with _async_client(recording, provider) as client:
        return await _method(recording, client)()


def _client(recording: Recording, provider: LoopbackProvider) -> Any:
    if recording.kind == "google.generate":
        return _google(recording, provider)
    if recording.kind == "anthropic.messages":
        return anthropic.Anthropic(**_options(recording, provider))
    return openai.OpenAI(**_options(recording, provider))


def _async_client(recording: Recording, provider: LoopbackProvider) -> Any:
    if recording.kind == "google.generate":
        return _google(recording, provider).aio
    if recording.kind == "anthropic.messages":
        return anthropic.AsyncAnthropic(**_options(recording, provider))
    return openai.AsyncOpenAI(**_options(recording, provider))


def _options(recording: Recording, provider: LoopbackProvider) -> dict[str, Any]:
    return {
        "base_url": provider.url,
        "api_key": "none",
        "max_retries": 0,
        "timeout": TIMEOUT_SECONDS,
        "default_headers": {"x-record": recording.id},
    }


def _google(recording: Recording, provider: LoopbackProvider) -> genai.Client:
    from google import genai

    return genai.Client(
        vertexai=False,
        api_key="none",
        http_options=genai.types.HttpOptions(
            base_url=provider.url,
            api_version="v1beta",
            headers={"x-record": recording.id},
            timeout=TIMEOUT_SECONDS * 1000,
            retry_options=genai.types.HttpRetryOptions(attempts=1),
            extra_body=recording.request,
        ),
    )


def _method(recording: Recording, client: Any) -> Callable[[], Any]:
    if recording.stream:
        raise ValueError(f"recording {recording.id} is a stream")
    if recording.kind == "google.generate":
        model = recording.path.rpartition("/")[2].partition(":")[0]
        contents = recording.request["contents"]
        return functools.partial(client.models.generate_content, model=model, contents=contents)
    create = attrgetter(_create(recording))(client)
    known = inspect.signature(create).parameters
    arguments = {name: value for name, value in recording.request.items() if name in known}
    unknown = {name: value for name, value in recording.request.items() if name not in known}
    return functools.partial(create, **arguments, extra_body=unknown)


def _create(recording: Recording) -> str:
    if recording.kind == "openai.chat":
        return "chat.completions.create"
    if recording.kind == "openai.responses":
        return "responses.create"
    return "beta.messages.create" if "beta=true" in recording.path else "messages.create"
