"""The examples that run in a terminal: exit code, and that what they print is what the API answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from tests.conftest import ROOT

if TYPE_CHECKING:
    from tests.conftest import Server

EXAMPLES = ROOT / "examples"
TURN = re.compile(r"> (.+)\n(.*)\nusage (\{.*\})\n")


def run(url: str, *command: str, folder: Path = EXAMPLES, key: str = "none") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"FRONTDESK_URL": url, "FRONTDESK_KEY": key}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def completion(server: Server, messages: list[dict[str, Any]]) -> dict[str, Any]:
    body = {"messages": messages, "max_tokens": 100}
    return httpx2.post(f"{server.url}/v1/chat/completions", json=body, timeout=60).json()


def test_ai_sdk(server: Server, installed: Callable[[str], Path]) -> None:
    """If this fails, the Vercel AI SDK reads chunks, usage or a tool's result otherwise than we mean them."""
    done = run(server.url, "node", "chat.mjs", folder=installed("ai-sdk"))
    assert (done.returncode, done.stderr) == (0, "")
    turns = TURN.findall(done.stdout)
    assert len(turns) == 3, done.stdout
    function = {"name": "get_repair_price", "arguments": '{"product":"kettle"}'}
    calls = [{"id": "call_1", "type": "function", "function": function}]
    call = {"role": "assistant", "content": "", "tool_calls": calls}
    result = {"role": "tool", "tool_call_id": "call_1", "content": '{"price":"$18.00","date":"June 12"}'}
    talk: list[dict[str, Any]] = []
    for (question, answer, usage), more in zip(turns, ([], [], [call, result]), strict=True):
        talk += [{"role": "user", "content": question}, *more]
        ours = completion(server, talk)
        text = ours["choices"][0]["message"]["content"]
        assert answer == text
        counted = json.loads(usage)
        assert counted["inputTokens"] == ours["usage"]["prompt_tokens"]
        assert counted["outputTokens"] == ours["usage"]["completion_tokens"]
        talk.append({"role": "assistant", "content": text})
    assert json.loads(turns[1][2])["cachedTokens"] > 0, "the second turn did not find the first one's prefix"


def test_ai_sdk_keeps_its_answers_here(server: Server, installed: Callable[[str], Path]) -> None:
    """If this fails, a talk with the SDK's own OpenAI provider ends at its second turn, which names an answer."""
    done = run(server.url, "node", "kept.mjs", folder=installed("ai-sdk"))
    assert (done.returncode, done.stderr) == (0, "")
    turns = TURN.findall(done.stdout)
    assert len(turns) == 2, done.stdout
    talk: list[dict[str, Any]] = []
    for question, answer, usage in turns:
        talk.append({"role": "user", "content": question})
        body = {"input": talk, "max_output_tokens": 100, "store": False}
        ours = httpx2.post(f"{server.url}/v1/responses", json=body, timeout=60).json()
        assert answer == ours["output"][0]["content"][0]["text"]
        counted = json.loads(usage)
        assert counted["inputTokens"] == ours["usage"]["input_tokens"]
        assert counted["outputTokens"] == ours["usage"]["output_tokens"]
        talk.append({"role": "assistant", "content": answer})


def test_ai_sdk_without_a_key(start_server: Callable[..., Server], installed: Callable[[str], Path]) -> None:
    """If this fails, a refusal reaches the SDK in a shape that it cannot show, or the script calls it a success."""
    done = run(start_server(auth="on").url, "node", "chat.mjs", folder=installed("ai-sdk"))
    assert done.returncode == 1
    assert re.match(r"error: .*frontdesk keys create", done.stderr), done.stderr
    assert done.stderr.count("\n") == 1, "a stack trace is not a message"


def test_openai_python(server: Server) -> None:
    """If this fails, the openai package cannot take a broken stream of a conversation up again without a gap."""
    done = run(server.url, sys.executable, "openai-python/conversation.py")
    assert done.returncode == 0, done.stderr
    live, _, kept = done.stdout.partition("\n# What the server keeps\n")
    (first, second) = re.findall(r"^> (.*)\n(.*)$", live, re.MULTILINE)
    broken = re.compile(r" … broken after event \d+ … ")
    assert broken.search(second[1])
    said = [first[0], first[1], second[0], broken.sub("", second[1])]
    assert kept.splitlines() == [f"{role}: {text}" for role, text in zip(["user", "assistant"] * 2, said, strict=True)]


@pytest.mark.parametrize("command", [["node", "chat.mjs"], [sys.executable, "../openai-python/conversation.py"]])
def test_nobody_listens(command: list[str], installed: Callable[[str], Path]) -> None:
    """If this fails, who forgot to start the server is shown a stack trace."""
    done = run("http://127.0.0.1:9", *command, folder=installed("ai-sdk"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_curl(server: Server, tmp_path: Path) -> None:
    """If this fails, a command of examples/curl.md does not do what stands above it."""
    blocks = re.findall(r"```sh\n(.*?)```", (EXAMPLES / "curl.md").read_text("utf-8"), re.DOTALL)
    parted = "\necho; echo =====\n".join(blocks)
    done = run(server.url, "bash", "-euo", "pipefail", "-c", parted, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    _, whole, streamed, resumed, kept, window, token, gone = done.stdout.split("\n=====\n")
    assert json.loads(whole.strip())["status"] == "completed"
    assert numbers(streamed) == list(range(len(numbers(streamed))))
    assert numbers(resumed) == numbers(streamed)[6:]
    for question in ("When are you open?", "And on Sunday?"):
        assert f'"text":"{question}"' in kept
        assert f"> {question}" in kept
    assert json.loads(window)["object"] == "conversation.context"
    assert json.loads(token)["value"].startswith("ek_")
    assert json.loads(gone)["deleted"] is True


def numbers(stream: str) -> list[int]:
    return [int(number) for number in re.findall(r'"sequence_number":(\d+)', stream)]
