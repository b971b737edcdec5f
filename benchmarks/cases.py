"""What is asked and answered: made-up requests, and what providers really sent."""

from __future__ import annotations

import functools
import logging
import random
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pydantic

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "examples")]

MODEL = "gpt-4o-2024-08-06"
SDK_KINDS = ("openai.chat", "openai.responses", "anthropic.messages")

_PROSE = """\
the answer to a question is not always what was asked; when “some words” are in quotes, the rest
is plain,\nand a line ends where it must: 3.14 or 42, naïve or not"""
_WORDS = tuple(_PROSE.split())


def prose(length: int, seed: int = 0) -> str:
    """Return about *length* bytes of text: words, lines, quotes and a few accents."""
    choose = random.Random(seed).choice
    words: list[str] = []
    size = 0
    while size < length:
        words.append(choose(_WORDS))
        size += len(words[-1].encode()) + 1
    return " ".join(words)


def messages(count: int, length: int) -> list[dict[str, Any]]:
    """Return *count* messages of about *length* bytes of text each."""
    roles = ("system", *("user", "assistant") * count)[:count]
    return [{"role": role, "content": prose(length, i)} for i, role in enumerate(roles)]


def tool(number: int) -> dict[str, Any]:
    """Return the description of a function, with a schema of three parameters."""
    properties = {
        "query": {"type": "string", "description": prose(60, number)},
        "limit": {"type": "integer", "minimum": 1, "maximum": 100},
        "order": {"type": "string", "enum": ["newest", "oldest", "best"]},
    }
    schema = {
        "type": "object",
        "properties": properties,
        "required": ["query"],
        "additionalProperties": False,
    }
    function = {
        "name": f"search_{number}",
        "description": prose(180, number),
        "parameters": schema,
        "strict": True,
    }
    return {"type": "function", "function": function}


TEXT = prose(600, seed=1)
SHORT_TEXT = prose(200, seed=1)

TWO_MESSAGES: dict[str, Any] = {
    "messages": messages(2, 80),
    "model": MODEL,
    "temperature": 0.0,
}


def chat(text: str) -> dict[str, Any]:
    """Return a request with *text* at the end of its two messages."""
    system, user = TWO_MESSAGES["messages"]
    asked = {"role": "user", "content": f"{user['content']} {text}"}
    return {**TWO_MESSAGES, "messages": [system, asked]}


def requests() -> dict[str, dict[str, Any]]:
    """Return requests of several sizes, each under its description."""
    tools = [tool(number) for number in range(8)]
    return {
        "2 messages": TWO_MESSAGES,
        "20 messages, 8 tools": {**TWO_MESSAGES, "messages": messages(20, 380), "tools": tools},
        "one text": {**TWO_MESSAGES, "messages": messages(1, 200_000)},
        "one long text": {**TWO_MESSAGES, "messages": messages(1, 1_200_000)},
        "400 messages": {**TWO_MESSAGES, "messages": messages(400, 3_000)},
        "4,000 messages": {**TWO_MESSAGES, "messages": messages(4_000, 270)},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A recorded request, and the object that the provider's SDK makes of the response.

    Args:
        kind: which API of which provider.
        request: the JSON body that was sent.
        body: the JSON body that came back.
        answer: what the SDK's method returns.
    """

    kind: str
    request: dict[str, Any]
    body: dict[str, Any]
    answer: Any


@functools.cache
def exchanges(*, quick: bool) -> tuple[Exchange, ...]:
    """Return every recorded answer that is no stream and no error, as an object of its SDK.

    The larger collection is used if there is one; a *quick* look takes some of the smaller one.
    """
    from loopback import LoopbackProvider, load_recordings
    from sdk import call

    for name in ("httpx", "httpx2", "google_genai"):
        logging.getLogger(name).setLevel(logging.WARNING)
    own, larger = ROOT / "tests" / "recordings.jsonl", ROOT.parent / "shared" / "recordings"
    file = larger / "recordings.jsonl"
    recordings = load_recordings(file if file.exists() and not quick else own)
    recordings = [r for r in recordings if r.status == 200 and not r.stream]
    with LoopbackProvider(recordings) as provider, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(
            Exchange(kind=r.kind, request=r.request, body=r.response, answer=call(r, provider))
            for r in recordings
        )


def of_kind(found: Iterable[Exchange], kind: str) -> list[Exchange]:
    """Return the exchanges of one kind."""
    return [exchange for exchange in found if exchange.kind == kind]


def validates(exchange: Exchange) -> bool:
    """Say whether pydantic makes an object of the body, as strictly as its models say."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            type(exchange.answer).model_validate_json(orjson.dumps(exchange.body))
    except pydantic.ValidationError:
        return False
    return True


def typical_completion(*, quick: bool) -> Exchange:
    """Return a recorded ChatCompletion with a text, of middling size."""
    chat = of_kind(exchanges(quick=quick), "openai.chat")
    texts = [e for e in chat if e.answer.choices[0].message.content and validates(e)]
    return sorted(texts, key=lambda exchange: len(orjson.dumps(exchange.body)))[len(texts) // 2]


def answers(*, quick: bool) -> dict[str, Any]:
    """Return a text and a typical ChatCompletion, each under its description."""
    completion = typical_completion(quick=quick)
    size = len(orjson.dumps(completion.body))
    return {"a text": TEXT, f"a ChatCompletion of {size:,} bytes": completion.answer}
