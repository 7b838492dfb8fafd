"""What went wrong lately: kept in order, each once, and without what users wrote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.errors import EngineDied, InvalidRequest
from frontdesk.telemetry.problems import LONGEST, Asked, Problems, without_words


def problems(most: int = 200) -> Problems:
    return Problems(lambda: 1.5, lambda error: 503 if isinstance(error, EngineDied) else 400, most)


def test_the_newest_come_first_and_the_oldest_go() -> None:
    """An operator would look for what just happened at the end of a list that grows for ever."""
    kept = problems(most=3)
    for number in range(5):
        kept.answered(Asked(f"req_{number}", "GET", "/x"), 404, "not_found", "no")
    assert [problem.asked.request_id for problem in kept.newest() if problem.asked] == ["req_4", "req_3", "req_2"]
    assert len(kept.newest(1)) == 1


def test_a_failed_reply_and_its_answer_are_one_problem() -> None:
    """One failure would be counted twice; or the failures of others would be hidden behind it."""
    kept = problems()
    one, other = Asked("req_1", "POST", "/v1/responses"), Asked("req_1", "POST", "/v1/responses")
    kept.failed(one, EngineDied("gone"), "ab")
    kept.answered(one, 503, "engine_died", "gone")
    kept.answered(other, 404, "not_found", "no")
    assert [(problem.status, problem.reply) for problem in kept.newest()] == [(404, None), (503, "ab")]


def test_a_reply_without_a_request_is_kept_too() -> None:
    """What fails after a restart would leave no trace, as nobody asked for it in this life of the server."""
    kept = problems()
    kept.failed(None, EngineDied("gone"), "ab")
    kept.refused(Asked("req_2", "WS", "/v1/responses"), InvalidRequest("no"))
    assert [(problem.status, problem.asked is None) for problem in kept.newest()] == [(400, False), (503, True)]


@given(said=st.text(min_size=1), repr_of=st.booleans())
def test_what_a_message_quotes_is_taken_out(said: str, repr_of: bool) -> None:
    """What a customer typed into the wrong field would stand on the operator's page."""
    secret = f"my word is {said}"
    quoted = repr(secret) if repr_of else f"'{secret.replace(chr(39), '’')}'"
    message = f"there is no model {quoted} here; see 'model'"
    cleaned = without_words(message)
    assert cleaned.startswith("there is no model '…'")
    assert "my word is" not in cleaned
    # A backslash before the closing quote reads as an escape of it: then too much goes, which is the safe side.
    assert cleaned.endswith(" here; see 'model'") or (said.endswith("\\") and not repr_of)


@pytest.mark.parametrize(
    "word",
    [
        "fd_0123456789ab_" + "x" * 43,
        "fd_0123456789ab_xxxxxxxxxxxxxxxxxxxxxxxx",  # as messages cut it
        "messages.0.fd_0123456789ab",
        "ek_eyJhbGciOi.eyJzdWIi.c2ln",
        "er_eyJhbGciOi.eyJzdWIi.c2ln",
        "4111111111111111",
        "4111-1111-1111-1111",
        "555-0147",
        "0151.12345678",
        "tel:015112345678",
    ],
)
def test_a_key_or_a_number_is_no_name(word: str) -> None:
    """A key in the wrong field, or a customer's card, would stand on the operator's page because it is one word."""
    assert without_words(f"model '{word}' is not served here") == "model '…' is not served here"
    assert without_words(f"there is no prompt {word!r}") == "there is no prompt '…'"


def test_what_a_template_says_is_taken_out() -> None:
    """A template that quotes the conversation when it fails would put it on the operator's page."""
    for begin in (
        "messages: the model's chat template refuses this conversation",
        "the model's chat template failed",
        "prompt 'shop': the variables cannot be filled in",
    ):
        assert without_words(f"{begin}: UndefinedError: the customer's word\nand more") == begin


def test_our_own_words_stay() -> None:
    """A message would not say any more which field is wrong, or how much a budget has left."""
    for message in (
        "'limit' should be a whole number from 1 to 100",
        "the key's budget of 2,000 tokens a day has 12 left, this request needs up to 200; it refills in 8 h 27 min",
        "item 'msg_0123456789abcdef0123456789abcdef' was not found in this conversation",
        "'messages.0.content' should be a valid string",
        "this key has not the scope 'admin', which this address needs",
        "the visitors' and the model's",
        "model 'gpt-4o-2024-08-06' is not served here; known: frontdesk-small",
        "response 'resp_01234567890123456789012345678901' was not found",
        "'starting_after' should be less than or equal to 9007199254740992",
    ):
        assert without_words(message) == message
    assert len(without_words("x" * 1000)) == LONGEST
