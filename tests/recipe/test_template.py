"""The shipped chat template against the recipe: what the server writes is what the model was trained on."""

# pyright: reportMissingImports=false

import random
from pathlib import Path

import jinja2
import pytest
from recipe.generator import Conversation, sample
from recipe.tools import HEAD

from frontdesk.fleet.gguf import read_metadata

WEIGHTS = Path(__file__).parents[2] / "weights"


@pytest.fixture(scope="module", params=sorted(WEIGHTS.glob("*.gguf")), ids=lambda path: path.stem)
def template(request: pytest.FixtureRequest) -> jinja2.Template:
    return jinja2.Template(str(read_metadata(request.param)["tokenizer.chat_template"]))


def drawn(wanted: str) -> list[Conversation]:
    """Conversations with tools whose system message begins with a shop, or holds nothing but the tools."""
    rng = random.Random(3)
    talks = [talk for talk in (sample(rng, "train", 0) for _ in range(3000)) if talk.tools]
    return [talk for talk in talks if talk.messages[0]["content"].startswith(HEAD) == (wanted == "tools alone")]


def chat_ml(talk: Conversation) -> str:
    """What training encoded."""
    return "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in talk.messages)


@pytest.mark.parametrize("wanted", ["tools alone", "a shop and tools"])
def test_tools_and_calls_are_written_as_in_training(template: jinja2.Template, wanted: str) -> None:
    """Breaks if a server that is given `tools` shows the model another prompt than the one that it learned to read."""
    talks = drawn(wanted)
    assert talks
    for talk in talks[:40]:
        system, *rest = talk.messages
        head, _, _ = system["content"].partition(HEAD)
        messages = [{"role": "system", "content": head.removesuffix("\n\n")}] if head else []
        for message in rest:
            call = message.get("call")
            messages.append(
                {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": call}]}
                if call
                else message
            )
        assert template.render(messages=messages, tools=talk.tools) == chat_ml(talk)


def test_without_tools_it_is_plain_chat_ml(template: jinja2.Template) -> None:
    """Breaks if the template writes anything about tools where there are none, or forgets to open the reply."""
    rng = random.Random(4)
    talk = next(talk for talk in (sample(rng, "train", 0) for _ in range(100)) if not talk.tools)
    assert template.render(messages=talk.messages) == chat_ml(talk)
    opened = template.render(messages=talk.messages[:1], add_generation_prompt=True)
    assert opened.endswith("<|im_end|>\n<|im_start|>assistant\n")
