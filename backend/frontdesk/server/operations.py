"""Every route that is not a wire format's own, in words: what the API's description says of it. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from frontdesk.server.feedback import FeedbackRequest
from frontdesk.server.visitors import VisitorRequest
from frontdesk.server.widget import SessionRequest
from frontdesk.wire._responses_body import ResponsesRequest
from frontdesk.wire.conversations import CreateConversation, CreateItems, UpdateConversation
from frontdesk.wire.handoffs import HandoffChange, HandoffRequest

Failure = Literal["400", "401", "403", "404", "409", "413", "429", "503"]

FAILURES: dict[Failure, str] = {
    "400": "The request is wrong; the message says where.",
    "401": "No key, or not a good one.",
    "403": "The key or token may not do this.",
    "404": "There is no such thing, or it is somebody else's.",
    "409": "It contradicts what is there: a turn of this conversation is being answered, or the Idempotency-Key was "
    "used for another request.",
    "413": "The body is too large.",
    "429": "The waiting line is full or a budget is used up; see Retry-After.",
    "503": "The model is loading, the server is stopping or the database does not answer; see Retry-After.",
}
ALWAYS: tuple[Failure, ...] = ("401", "403", "503")


@dataclass(frozen=True, slots=True)
class Operation:
    """One verb of one path. `query` names parameters with what they mean; `failures` come beside `ALWAYS`."""

    verb: Literal["get", "post", "delete"]
    path: str
    summary: str
    description: str
    body: type[BaseModel] | None = None
    query: tuple[tuple[str, str], ...] = ()
    failures: tuple[Failure, ...] = ()
    open: bool = False  # to everybody, without a key
    kinds: tuple[str, ...] = ("application/json",)  # media types of the answer


PAGE = (
    ("limit", "Entries of a page, 1 to 100; 20 if absent."),
    ("after", "Id of the entry behind which the page begins."),
    ("order", "`desc` (newest first, if absent) or `asc`."),
)
BODY: tuple[Failure, ...] = ("400", "413")
NAMED: tuple[Failure, ...] = ("404",)
LISTED: tuple[Failure, ...] = ("400", "404")

INFO = (
    Operation("get", "/v1/models", "List the models", "Every model of this server with its context window."),
    Operation("get", "/v1/models/{model}", "One model", "404 when it is not served here.", failures=NAMED),
    Operation("get", "/livez", "Is the process alive?", "200 as soon as the server listens.", open=True),
    Operation(
        "get",
        "/readyz",
        "Does it take requests?",
        "200 when the model is loaded, else 503; counts of running and waiting.",
        open=True,
    ),
    Operation(
        "get", "/health", "Health in llama-server's words", '`{"status": "ok"}`, or 503 while loading.', open=True
    ),
    Operation("get", "/openapi.json", "This description", "OpenAPI 3.1.", open=True),
)

RESPONSES = (
    Operation(
        "get",
        "/v1/responses/{id}",
        "Read a kept response",
        "The Response object, with the text so far while it runs. With `stream=true` its events, live or again; "
        "`starting_after` leaves out those up to a `sequence_number`, so a reader that was cut off misses nothing.",
        query=(("stream", "`true`: answer as server-sent events."), ("starting_after", "A `sequence_number`.")),
        failures=LISTED,
        kinds=("application/json", "text/event-stream"),
    ),
    Operation(
        "delete",
        "/v1/responses/{id}",
        "Delete a kept response",
        "Stops it first. What it said in a conversation stays there.",
        failures=NAMED,
    ),
    Operation(
        "post",
        "/v1/responses/{id}/cancel",
        "Stop a response",
        "What was written stays: status `cancelled`. One that has ended is answered as it is.",
        failures=NAMED,
    ),
    Operation(
        "get",
        "/v1/responses/{id}/input_items",
        "What a response answered",
        "The items of its request, as a page.",
        query=PAGE,
        failures=LISTED,
    ),
    Operation(
        "get",
        "/v1/responses/{id}/events",
        "Events of a response for EventSource",
        "The same events with `id:` lines. A browser that connects again goes on behind the last one by itself; 204 "
        "tells it that there is nothing left.",
        query=(("last_event_id", "Like the header Last-Event-ID."),),
        failures=LISTED,
        kinds=("text/event-stream",),
    ),
    Operation(
        "post",
        "/v1/responses/input_tokens",
        "Count the tokens of a request",
        "Exactly what the same `POST /v1/responses` would send to the model, history and template included.",
        body=ResponsesRequest,
        failures=(*BODY, "404"),
    ),
    Operation(
        "post",
        "/v1/responses/compact",
        "Summarise a conversation",
        "Answers with a list of items to go on with in place of the long conversation.",
        body=ResponsesRequest,
        failures=(*BODY, "404", "429"),
    ),
)

CONVERSATIONS = (
    Operation(
        "post",
        "/v1/conversations",
        "Begin a conversation",
        "Its id goes into `conversation` of `POST /v1/responses`, which then adds what is said to it.",
        body=CreateConversation,
        failures=BODY,
    ),
    Operation(
        "get",
        "/v1/conversations",
        "List one's conversations",
        "Those of the caller alone. Extension.",
        query=PAGE,
        failures=LISTED,
    ),
    Operation("get", "/v1/conversations/{id}", "One conversation", "Without its items.", failures=NAMED),
    Operation(
        "post",
        "/v1/conversations/{id}",
        "Change a conversation",
        "Fields that are left out stay as they are; null empties.",
        body=UpdateConversation,
        failures=(*BODY, "404"),
    ),
    Operation(
        "delete",
        "/v1/conversations/{id}",
        "Delete a conversation",
        "With its items and responses, for good; what is being said in it is stopped.",
        failures=NAMED,
    ),
    Operation(
        "get",
        "/v1/conversations/{id}/export",
        "Take a conversation along",
        "Everything that is kept of it, as a file. Extension.",
        query=(("format", "`json` (if absent) or `markdown`."),),
        failures=LISTED,
        kinds=("application/json", "text/markdown"),
    ),
    Operation(
        "get",
        "/v1/conversations/{id}/context",
        "What the next turn would send",
        "Window, reserve and tokens by part; which items are kept, dropped or summarised, and what those would take. "
        "The x-ratelimit headers say what the budgets have left now. Extension.",
        failures=NAMED,
    ),
    Operation(
        "post",
        "/v1/conversations/{id}/items",
        "Add items",
        "At the end, without an answer to them. Not with a widget's token.",
        body=CreateItems,
        failures=(*BODY, "404"),
    ),
    Operation("get", "/v1/conversations/{id}/items", "What was said", "A page of items.", query=PAGE, failures=LISTED),
    Operation("get", "/v1/conversations/{id}/items/{item}", "One item", "By its id.", failures=NAMED),
    Operation(
        "delete",
        "/v1/conversations/{id}/items/{item}",
        "Take an item out",
        "Answers with the conversation.",
        failures=NAMED,
    ),
)

OPERATORS = (
    Operation(
        "post",
        "/v1/visitors",
        "A visitor's token",
        "For a page that must not hold a key: short-lived, may only chat, carries budgets of its own. Needs the scope "
        "`visitors`.",
        body=VisitorRequest,
        failures=(*BODY, "404"),
    ),
    Operation(
        "get",
        "/v1/usage",
        "What was used",
        "Tokens and requests of the caller's key, visitors included; of everybody with the scope `admin`. A page of "
        "rows, one for each group that `by` makes, in the order of its words and upwards (days from the oldest on, "
        "what has no key, visitor or conversation first); each is the sum of its whole group. Needs the scope `usage`.",
        query=(
            ("by", "What to sum by: key, visitor, model, day, conversation; several with commas."),
            ("since", "From then on."),
            ("until", "Before then."),
            ("limit", "Rows of a page, 1 to 10,000; 1,000 if absent."),
            ("after", "Id of the row behind which the page begins; `by` is to be the same."),
        ),
        failures=("400",),
    ),
)

FEEDBACK = (
    Operation(
        "post",
        "/v1/conversations/{id}/items/{item}/feedback",
        "Rate an answer",
        "Up or down, with a comment if one likes. Again: replaces what was said before. Extension.",
        body=FeedbackRequest,
        failures=(*BODY, "404"),
    ),
    Operation(
        "delete",
        "/v1/conversations/{id}/items/{item}/feedback",
        "Take a rating back",
        "404 when there is none. Extension.",
        failures=NAMED,
    ),
    Operation(
        "get",
        "/v1/conversations/{id}/feedback",
        "Ratings of a conversation",
        "All of them, oldest first. Extension.",
        failures=NAMED,
    ),
    Operation(
        "get",
        "/v1/feedback",
        "What people think of the answers",
        "Of all owners, newest first, each with question, answer and model. Needs the scope `admin`.",
        query=(("rating", "`up` or `down`; both if absent."), *PAGE[:2]),
        failures=LISTED,
    ),
)

WATCHING = (
    Operation(
        "get",
        "/v1/metrics/recent",
        "The last hour in numbers",
        "In slots of ten seconds: replies, tokens, times to the first and between tokens (median and 95th percentile), "
        "the engine's load, memory. Needs the scope `admin`.",
        query=(("since", "Seconds since 1970: only slots that end after it."),),
        failures=("400",),
    ),
    Operation(
        "get",
        "/v1/replies/live",
        "Replies that run or wait",
        "Place in the line, tokens so far, who pays; no text. Needs the scope `admin`.",
        failures=("400",),
    ),
    Operation(
        "get",
        "/v1/errors/recent",
        "What went wrong lately",
        "Answers with an error and replies that failed, newest first; no text of a user. Needs the scope `admin`.",
        query=(("limit", "1 to 200; 200 if absent."),),
        failures=("400",),
    ),
    Operation(
        "get",
        "/v1/keys",
        "List the keys",
        "State, scopes, limits and tokens used; never the key. Needs the scope `admin`.",
        failures=("400",),
    ),
)

WIDGETS = (
    Operation(
        "post",
        "/v1/widget/sessions",
        "A widget's visitor comes",
        "Answers with a short-lived token for one conversation, bound to the page's origin and the widget's persona, "
        "and with a refresh token for 30 days. Only from a page of the widget's origins. 401 with the code "
        "`expired_token`, `invalid_refresh` or `invalid_identity`; 403 with `origin_required`, `origin_not_allowed` or "
        "`identity_required`; 404 for a widget that is unknown or revoked.",
        body=SessionRequest,
        failures=(*BODY, "401", "403", "404", "429", "503"),
        open=True,
    ),
    Operation("get", "/v1/widgets", "List the widgets", "Name, origins, persona and state. Needs the scope `admin`."),
    Operation(
        "post",
        "/v1/conversations/{id}/handoff",
        "Ask for a person",
        "How to reach the visitor, and why. While it is open, asking again changes what it says. Extension.",
        body=HandoffRequest,
        failures=(*BODY, "404"),
    ),
    Operation(
        "get",
        "/v1/conversations/{id}/handoff",
        "The wish for a person",
        "The newest of the conversation; 404 when there was none. Extension.",
        failures=NAMED,
    ),
    Operation(
        "get",
        "/v1/handoffs",
        "Who wants a person",
        "Of all owners, newest first. Needs the scope `admin`.",
        query=(("state", "`open` or `done`; both if absent."), *PAGE[:2]),
        failures=LISTED,
    ),
    Operation(
        "post",
        "/v1/handoffs/{id}",
        "Close a hand-off",
        "`done`, or `open` to open it again; 409 when another one of its conversation is open. Needs the scope "
        "`admin`.",
        body=HandoffChange,
        failures=(*BODY, "404", "409"),
    ),
)

OPERATIONS = (*RESPONSES, *CONVERSATIONS, *FEEDBACK, *OPERATORS, *WIDGETS, *WATCHING, *INFO)
