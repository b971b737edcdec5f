"""Messages of langchain-core and responses of litellm come back, where these are installed."""

from __future__ import annotations

import importlib.util
import warnings

import pytest
from twins import worlds

from codec.planting import Upstream
from codec.trips import back_to_the_byte

LANGCHAIN = importlib.util.find_spec("langchain_core") is not None
LITELLM = importlib.util.find_spec("litellm") is not None

if not LANGCHAIN and not LITELLM:
    pytest.skip("neither langchain-core nor litellm is installed", allow_module_level=True)

langchain = pytest.mark.skipif(not LANGCHAIN, reason="langchain-core is not installed")
litellm = pytest.mark.skipif(not LITELLM, reason="litellm is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")


def messages():
    from langchain_core import messages as lc

    return [
        lc.HumanMessage("hi"),
        lc.HumanMessage([{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": "x"}]),
        lc.SystemMessage("be brief", id="1", name="system"),
        lc.AIMessage(
            "hello",
            tool_calls=[{"name": "f", "args": {"a": [1]}, "id": "call_1"}],
            invalid_tool_calls=[{"name": "g", "args": "{", "id": None, "error": "cut"}],
            usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
            response_metadata={"logprobs": None, "model": "m"},
            additional_kwargs={"!": 1},
        ),
        lc.AIMessageChunk(
            "hel", tool_call_chunks=[{"name": "f", "args": '{"a', "id": "1", "index": 0}]
        ),
        lc.ToolMessage("result", tool_call_id="call_1", artifact={"rows": (1, 2)}),
        lc.RemoveMessage(id="1"),
    ]


@langchain
def test_messages_of_langchain_come_back():
    for message in messages():
        found = back_to_the_byte(message)
        assert found == message
        assert found.model_dump() == message.model_dump()


def results():
    from langchain_core import documents, outputs, prompt_values

    chat = outputs.ChatGeneration(message=messages()[3])
    return {
        "Generation": outputs.Generation(text="a", generation_info={"finish_reason": "stop"}),
        "ChatPromptValue": prompt_values.ChatPromptValue(messages=messages()),
        "Document": documents.Document(page_content="text", metadata={"source": "a"}),
        "ChatGeneration": chat,
        "ChatResult": outputs.ChatResult(generations=[chat], llm_output={"a": 1}),
        "LLMResult": outputs.LLMResult(generations=[[chat]]),
    }


@langchain
@pytest.mark.parametrize(
    "name",
    ["Generation", "ChatPromptValue", "Document", "ChatGeneration", "ChatResult", "LLMResult"],
)
def test_a_result_of_langchain_comes_back(name):
    result = results()[name]
    found = back_to_the_byte(result)
    assert found == result
    assert found.model_dump() == result.model_dump()


@langchain
@worlds
def test_a_chat_model_of_langchain_is_asked_once(world):
    upstream = Upstream(world, messages()[3], strict=True)
    first, second = upstream.ask(), upstream.ask()
    assert first == second
    assert first is not second
    assert upstream.calls == 1


def completion(**options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import litellm

        return litellm.mock_completion(
            model="gpt-4o",
            messages=[{"role": "user", "content": "hi"}],
            mock_response="hello",
            **options,
        )


@litellm
@worlds
def test_a_response_of_litellm_comes_back(world):
    answer = completion()
    found = back_to_the_byte(answer)
    assert found.model_dump() == answer.model_dump()
    assert found._hidden_params == answer._hidden_params
    assert found.choices[0].message.content == "hello"
    upstream = Upstream(world, answer, strict=True)
    assert upstream.ask().model_dump_json() == upstream.ask().model_dump_json()
    assert upstream.calls == 1


@litellm
def test_responses_of_litellm_with_more_in_them_come_back():
    from litellm.types.utils import (
        ChatCompletionMessageToolCall,
        Choices,
        EmbeddingResponse,
        Function,
        Message,
        ModelResponse,
        TextCompletionResponse,
        Usage,
    )

    call = ChatCompletionMessageToolCall(
        id="1", type="function", function=Function(name="f", arguments='{"a": 1}')
    )
    message = Message(content=None, role="assistant", tool_calls=[call], reasoning_content="so")
    embedding = {"embedding": [0.5], "index": 0, "object": "embedding"}
    usage = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    for answer in (
        ModelResponse(choices=[Choices(message=message, finish_reason="tool_calls")]),
        ModelResponse(usage=usage, more={"!": 1}),
        EmbeddingResponse(model="m", data=[embedding]),
        TextCompletionResponse(model="m"),
    ):
        found = back_to_the_byte(answer)
        assert found.model_dump() == answer.model_dump()
