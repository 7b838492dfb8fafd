"""Everything that can go wrong, as one tree. It knows no HTTP and no terminal: `server/errors` maps each class to a
status, `cli/` maps `ConfigError` to exit code 2.

FrontdeskError
├── RequestRefused                the caller's fault, found before any work was done
│   ├── InvalidRequest            a field is missing, of the wrong type or out of range
│   ├── ContextLengthExceeded     prompt and answer do not fit the model's window
│   ├── NotFound                  no such object, or not the caller's
│   │   └── ModelNotFound
│   ├── Conflict                  the request contradicts what is there
│   ├── Unauthorized              no valid key or token
│   ├── Forbidden                 a valid one that may not do this
│   └── BodyTooLarge
├── Unavailable                   right request, wrong moment: try again after `retry_after` seconds
│   ├── Overloaded                the waiting line is full
│   ├── BudgetExceeded            a token budget or request rate is used up
│   ├── StorageFailed             the database does not take or give data now
│   └── EngineNotReady            the model is still loading, or the server is shutting down
├── EngineFailed                  our fault, after work was begun
│   ├── ModelLoadFailed
│   ├── TemplateFailed            the model's chat template broke or took too long
│   └── EngineDied                the engine died again and again on this request
└── ConfigError                   a setting is wrong; nothing was started
"""

from __future__ import annotations


class FrontdeskError(Exception):
    """Base of the tree.

    Attributes:
        code: stable machine-readable name, e.g. `context_length_exceeded`.
        message: one sentence for a person, naming the field and the limit.
        param: the request field at fault in dotted form (`messages.0.content`), if there is one.
        details: further facts for the error body, e.g. `{"n_ctx": 4096}`.
    """

    code = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or type(self).code
        self.details = details


class RequestRefused(FrontdeskError):
    code = "invalid_request"


class InvalidRequest(RequestRefused):
    code = "invalid_value"


class ContextLengthExceeded(RequestRefused):
    """`details` holds `n_prompt_tokens` and `n_ctx`, both in tokens, and `reserve` where tokens are kept for the
    answer: then the prompt is the smallest that the conversation's policy allows.

    Clients know a full window by words of the message: LangChain.js by "exceeds the context window", LiteLLM by
    llama.cpp's "exceeds the available context size", others by "prompt is too long".
    """

    code = "context_length_exceeded"

    def __init__(self, n_prompt_tokens: int, n_ctx: int, *, param: str | None = None, reserve: int = 0) -> None:
        kept = f" and {reserve} kept for the answer" if reserve else ""
        shorten = "the message, the instructions or what is pinned" if reserve else "the conversation"
        super().__init__(
            "the prompt is too long and exceeds the context window: "
            f"request ({n_prompt_tokens} tokens{kept}) exceeds the available context size ({n_ctx} tokens); "
            f"shorten {shorten}, or serve the model with a larger --ctx",
            param=param,
            n_prompt_tokens=n_prompt_tokens,
            n_ctx=n_ctx,
        )
        if reserve:
            self.details["reserve"] = reserve


class NotFound(RequestRefused):
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class Conflict(RequestRefused):
    code = "conflict"


class Unauthorized(RequestRefused):
    code = "invalid_api_key"


class Forbidden(RequestRefused):
    code = "insufficient_scope"


class BodyTooLarge(RequestRefused):
    code = "request_too_large"


class Unavailable(FrontdeskError):
    code = "unavailable"

    def __init__(self, message: str, *, retry_after: float = 1.0, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class Overloaded(Unavailable):
    code = "server_overloaded"


class BudgetExceeded(Unavailable):
    """`details` holds `budget` (its name), `limit`, `remaining` and `requested`; `retry_after` is infinite for a budget
    that never refills."""

    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after: float, **details: object) -> None:
        super().__init__(message, retry_after=retry_after)
        self.details = details


class StorageFailed(Unavailable):
    code = "storage_unavailable"


class EngineNotReady(Unavailable):
    code = "engine_not_ready"


class EngineFailed(FrontdeskError):
    code = "server_error"


class ModelLoadFailed(EngineFailed):
    code = "model_load_failed"


class TemplateFailed(EngineFailed):
    code = "template_failed"


class EngineDied(EngineFailed):
    code = "engine_died"


class ConfigError(FrontdeskError):
    code = "config_error"
