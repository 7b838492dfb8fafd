"""A conversation that the server keeps, with the openai package: a streamed answer, one that is taken up again after
its stream broke, and what was said.

FRONTDESK_URL and FRONTDESK_KEY say which server; a server on its own machine asks for no key.
"""

from __future__ import annotations

import os
import sys

import openai

MODEL = "frontdesk-small"


def main() -> None:
    client = openai.OpenAI(
        base_url=os.environ.get("FRONTDESK_URL", "http://127.0.0.1:8000") + "/v1",
        api_key=os.environ.get("FRONTDESK_KEY", "none"),
    )
    conversation = client.conversations.create()
    ask(client, conversation.id, "Hi, I'm Dana. When are you open?")
    ask_and_break(client, conversation.id, "Which shipping options do you have?")
    print("\n# What the server keeps")
    for item in client.conversations.items.list(conversation.id, order="asc"):
        if item.type == "message":
            text = "".join(getattr(part, "text", "") for part in item.content)
            print(f"{item.role}: {text}")


def ask(client: openai.OpenAI, conversation: str, question: str) -> None:
    print(f"> {question}")
    for event in client.responses.create(model=MODEL, conversation=conversation, input=question, stream=True):
        if event.type == "response.output_text.delta":
            print(event.delta, end="", flush=True)
    print()


def ask_and_break(client: openai.OpenAI, conversation: str, question: str) -> None:
    """Leave the stream after a few words, as a lost connection would, and come back behind the last event."""
    print(f"> {question}")
    answer, seen = "", -1
    with client.responses.create(model=MODEL, conversation=conversation, input=question, stream=True) as stream:
        for event in stream:
            seen = event.sequence_number
            if event.type == "response.created":
                answer = event.response.id
            if event.type == "response.output_text.delta":
                print(event.delta, end="", flush=True)
                if len(event.delta.strip()) > 3:
                    break
    print(f" … broken after event {seen} … ", end="")
    for event in client.responses.retrieve(answer, stream=True, starting_after=seen):
        if event.type == "response.output_text.delta":
            print(event.delta, end="", flush=True)
    print()


if __name__ == "__main__":
    try:
        main()
    except openai.OpenAIError as error:
        sys.exit(f"error: {error}")
