"""The clients that people really use, unmodified, against a server on a real port."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from tests.conftest import Server

# The packages' own use of deprecated calls is not ours to judge.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MODEL = "frontdesk-small"
QUESTION = "When are you open?"
LONG = {"max_tokens": 200, "extra_body": {"ignore_eos": True}}  # a short answer may come in one piece


@pytest.fixture
def sync_client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=60)


def test_openai_streams_chat_completions(sync_client: openai.OpenAI) -> None:
    """Breaks if chunks, their order or the usage chunk are not what the OpenAI package reads."""
    asked: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}], **LONG}
    chunks: list[Any] = list(
        sync_client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    whole = sync_client.chat.completions.create(**asked)
    assert text
    assert text == whole.choices[0].message.content
    assert len(chunks) > 4, "the answer came in one piece"
    assert chunks[-1].usage
    assert whole.usage
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens > 0


async def test_async_openai_streams_both_apis(server: Server) -> None:
    """Breaks if the async client sees anything else than the sync one, or Responses differs from Chat Completions."""
    async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": QUESTION}], stream=True
        )
        chat = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
        async with client.responses.stream(model=MODEL, input=QUESTION) as responses:
            events = [event async for event in responses]
            final = await responses.get_final_response()
    assert chat == final.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))


@pytest.mark.parametrize(
    ("question", "fact"),
    [
        ("What is your phone number?", "555-0147"),
        ("When are you open?", "9:30"),
        ("How long is the warranty?", "12 years"),
    ],
)
def test_the_demo_answers_from_its_prompt(sync_client: openai.OpenAI, question: str, fact: str) -> None:
    """Breaks if a newcomer's first question gets a wrong answer: the facts stand in prompts/demo_shop.md."""
    answer = sync_client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": question}])
    assert fact in (answer.choices[0].message.content or "")


def test_openai_responses_without_stream(sync_client: openai.OpenAI) -> None:
    """Breaks if the whole Response lacks what the package's types require, or usage is wrong."""
    response = sync_client.responses.create(model=MODEL, input=QUESTION, instructions="Be brief.")
    assert response.status == "completed"
    assert response.output_text
    assert response.usage
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


def test_two_turns_over_one_socket(sync_client: openai.OpenAI) -> None:
    """Breaks if `responses.connect()` cannot hold a conversation: the second turn must carry the first."""
    with sync_client.responses.connect() as connection:
        connection.response.create(model=MODEL, input="Hello, my name is Rosa.")
        first = next(event.response for event in connection if event.type == "response.completed")
        connection.response.create(model=MODEL, input="What is my name?", previous_response_id=first.id)
        second = next(event.response for event in connection if event.type == "response.completed")
    assert first.output_text
    assert second.output_text
    assert second.usage
    assert first.usage
    assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens
    assert second.usage.input_tokens_details.cached_tokens >= first.usage.input_tokens, "the KV did not follow"


async def test_two_turns_over_one_socket_async(server: Server) -> None:
    """Breaks if the async socket of the package differs; the prefix of turn two is turn one."""
    async with (
        openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client,
        client.responses.connect() as connection,
    ):
        earlier: dict[str, str] = {}
        for text in ("Hi there", "And what are your opening hours?"):
            await connection.response.create(model=MODEL, input=text, **earlier)  # pyright: ignore[reportArgumentType]
            async for event in connection:
                if event.type == "response.completed":
                    earlier = {"previous_response_id": event.response.id}
                    assert event.response.output_text
                    break


@pytest.mark.filterwarnings("ignore")
async def test_langchain_streams(server: Server) -> None:
    """Breaks if LangChain's OpenAI chat model cannot stream from us."""
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    url, key = server.url + "/v1", SecretStr("none")
    chat = ChatOpenAI(model=MODEL, base_url=url, api_key=key, max_retries=0, **LONG)
    pieces = [piece.text async for piece in chat.astream(QUESTION)]
    assert len(pieces) > 3
    assert "".join(pieces).strip()


@pytest.mark.filterwarnings("ignore")
async def test_pydantic_ai_streams(server: Server) -> None:
    """Breaks if pydantic-ai's OpenAI model cannot stream from us."""
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=server.url + "/v1", api_key="none")
    agent = Agent(OpenAIChatModel(MODEL, provider=provider))
    async with agent.run_stream(QUESTION) as result:
        pieces = [piece async for piece in result.stream_text(delta=True)]
    assert "".join(pieces).strip()


def test_unknown_model_is_named(sync_client: openai.OpenAI) -> None:
    """Breaks if the package cannot map our 404 to its own exception, with a message that helps."""
    with pytest.raises(openai.NotFoundError, match=MODEL):
        sync_client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "hi"}])
    assert sync_client.models.retrieve(MODEL).id == MODEL
    assert [model.id for model in sync_client.models.list()] == [MODEL]
