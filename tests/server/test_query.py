"""The stretch of a list that an address asks for, whatever the address says."""

from __future__ import annotations

from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from frontdesk.errors import InvalidRequest
from frontdesk.server.query import choice, page_query
from frontdesk.wire._ids import is_conversation_id, is_item_id

NAMES = st.sampled_from(["limit", "after", "order", "include", "format"])
VALUES = st.text(max_size=6) | st.integers(-10, 110).map(str) | st.sampled_from(["asc", "desc", "msg_" + "0" * 32])


@given(query=st.dictionaries(NAMES, VALUES))
def test_any_query(query: dict[str, str]) -> None:
    """If this fails, some address ends in a 500 or reaches the database with a text that it cannot take."""
    request = Request({"type": "http", "headers": [], "query_string": urlencode(query).encode()})
    wrong: list[str | None] = []
    for is_entry in (is_item_id, is_conversation_id):
        try:
            page = page_query(request, is_entry)
        except InvalidRequest as refusal:
            wrong.append(refusal.param)
        else:
            assert 1 <= page.limit <= 100
            assert (page.limit, page.after) == (int(query.get("limit", "20")), query.get("after"))
            assert page.after is None or is_entry(page.after)
            assert page.descending == (query.get("order") != "asc")
    try:
        assert choice(request, "format", "json", "markdown") == query.get("format")
    except InvalidRequest as refusal:
        wrong.append(refusal.param)
    assert set(wrong) <= set(query)
