"""A model that was never taught ChatML, and gets it: its answer ends where it writes the end of its turn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.chat.test_reply import ScriptedEngine, SlowKeeper, order
from tests.fleet.conftest import write_spm

from frontdesk.chat.reply import Reply
from frontdesk.fleet.tokenizer import open_tokenizer
from frontdesk.generation import Finished, GenerationRequest


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("assumed", [True, False])
def test_an_assumed_template_ends_in_text(tmp_path: Path, raw: bool, assumed: bool) -> None:
    """A base model would answer the customer's next question too, up to the limit; or a raw completion be cut."""
    engine, keeper, tokenizer = ScriptedEngine(), SlowKeeper(), open_tokenizer(write_spm(tmp_path / "b.gguf", "base"))
    plain = order(engine)
    backend = replace(plain.backend, tokenizer=tokenizer, template_assumed=assumed)
    call = replace(plain.call, generation=GenerationRequest(None, text="x" if raw else None))
    reply = Reply(replace(plain, backend=backend, call=call), keeper)
    reply.begin()
    engine.say(*tokenizer.encode("Hello<|im_end|>Hello"))
    keeper.commit()
    ends = assumed and not raw
    assert reply.log.text().strip() == ("Hello" if ends else "Hello<|im_end|>Hello")
    assert isinstance(reply.log.events[-1], Finished) == ends
