"""Conversations against a plain model: any order of any calls leaves what a dict would hold."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test
from tests.store import making
from tests.store.making import conversation, ending, response, said, summary

from frontdesk.errors import Conflict, NotFound
from frontdesk.messages import Item
from frontdesk.store.records import ConversationRecord
from frontdesk.store.store import open_store

owners = st.sampled_from(["", "key_1", "key_2"])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


class Talks(RuleBasedStateMachine):
    """`model` maps (owner, id) to the record and its items, the summary apart."""

    ids = Bundle("ids")
    item_ids = Bundle("item_ids")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = self.runner.run(open_store("memory"))
        self.model: dict[tuple[str, str], tuple[ConversationRecord, list[Item]]] = {}
        self.summaries: dict[tuple[str, str], Item] = {}

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()

    def run(self, call: Any) -> Any:
        return self.runner.run(call)

    @rule(target=ids, owner=owners, texts=st.lists(texts, max_size=3))
    def create(self, owner: str, texts: list[str]) -> str:
        record, items = conversation(owner), [said(text) for text in texts]
        self.run(self.store.conversations.create(record, items))
        self.model[owner, record.id] = (record, items)
        return record.id

    @rule(target=item_ids, owner=owners, id=ids, texts=st.lists(texts, max_size=3))
    def add(self, owner: str, id: str, texts: list[str]) -> Any:
        items = [said(text) for text in texts]
        call = self.store.conversations.add_items(owner, id, items)
        if (owner, id) not in self.model:
            with pytest.raises(NotFound):
                self.run(call)
            return multiple()
        self.run(call)
        self.model[owner, id][1].extend(items)
        return multiple(*(item.id for item in items))

    @rule(owner=owners, id=ids, item_id=item_ids)
    def add_again(self, owner: str, id: str, item_id: str) -> None:
        if (owner, id) in self.model and any(item.id == item_id for item in self.model[owner, id][1]):
            with pytest.raises(Conflict):
                self.run(self.store.conversations.add_items(owner, id, [said("new"), replace(said("x"), id=item_id)]))

    @rule(owner=owners, id=ids, text=texts)
    def summarise(self, owner: str, id: str, text: str) -> None:
        if (owner, id) in self.model:
            item = summary(text)
            former = self.summaries.get((owner, id))
            assert self.run(self.store.conversations.replace_summary(owner, id, former, item))
            self.summaries[owner, id] = item

    @rule(owner=owners, id=ids, texts=st.lists(texts, min_size=1, max_size=2), twice=st.booleans())
    def reply(self, owner: str, id: str, texts: list[str], twice: bool) -> None:
        record = response(owner, conversation=id, input=tuple(map(said, texts)))
        if (owner, id) not in self.model:
            with pytest.raises(NotFound):
                self.run(self.store.responses.begin(record))
            return
        self.run(self.store.responses.begin(record))
        output = said("answer", "assistant")
        for _ in range(1 + twice):
            self.run(making.end(self.store, ending(record, output)))
        self.model[owner, id][1].extend([*record.input, output])

    @rule(owner=owners, id=ids, item_id=item_ids)
    def delete_item(self, owner: str, id: str, item_id: str) -> None:
        _, items = self.model.get((owner, id), (None, []))
        there = [item for item in items if item.id == item_id]
        assert self.run(self.store.conversations.delete_item(owner, id, item_id)) == bool(there)
        for item in there:
            items.remove(item)

    @rule(owner=owners, id=ids, metadata=st.dictionaries(texts, texts, max_size=2))
    def update(self, owner: str, id: str, metadata: dict[str, str]) -> None:
        changed = self.run(self.store.conversations.update(owner, id, metadata=metadata))
        assert (changed is None) == ((owner, id) not in self.model)
        if changed:
            self.model[owner, id] = (changed, self.model[owner, id][1])
            assert changed.metadata == metadata

    @rule(owner=owners, id=ids)
    def delete(self, owner: str, id: str) -> None:
        there = self.model.pop((owner, id), None) is not None
        self.summaries.pop((owner, id), None)
        assert self.run(self.store.conversations.delete(owner, id)) == there

    @invariant()
    def everything_is_as_in_the_model(self) -> None:
        for owner in ("", "key_1", "key_2"):
            page = self.run(self.store.conversations.list(owner, limit=100, descending=False))
            mine = [(id, *kept) for (of, id), kept in self.model.items() if of == owner]
            assert [record.id for record in page.items] == [id for id, _, _ in mine]
            for id, record, items in mine:
                summaries = [self.summaries[owner, id]] if (owner, id) in self.summaries else []
                assert self.run(self.store.conversations.all_items(owner, id)) == [*summaries, *items]
                kept = self.run(self.store.conversations.get(owner, id))
                assert replace(kept, updated=0) == replace(record, updated=0)


def test_any_calls_in_any_order() -> None:
    """Some sequence of calls would lose, mix up or reorder what was said."""
    few = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    run_state_machine_as_test(Talks, settings=few)
