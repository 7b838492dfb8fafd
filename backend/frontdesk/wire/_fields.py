"""Field types and limits that request bodies share, so that no two formats draw a line at different places.

Every number has both bounds: nothing that a JSON number can be reaches the engine unseen. Knows no format and no event.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from frontdesk.errors import InvalidRequest
from frontdesk.generation import Sampling
from frontdesk.wire._validation import unsupported

MAX_MESSAGES = 2000
MAX_TOKEN_ID = 2**31 - 1

Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
RepeatPenalty = Annotated[float, Field(ge=0.01, le=100, allow_inf_nan=False)]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
TopK = Annotated[int, Field(ge=0, le=1_000_000)]
LastN = Annotated[int, Field(ge=0, le=4096)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
TokenCount = Annotated[int, Field(ge=1, le=2**31 - 1)]
TokenId = Annotated[int, Field(ge=0, le=MAX_TOKEN_ID)]
TopLogprobs = Annotated[int, Field(ge=0, le=20)]
Choices = Annotated[int, Field(ge=1, le=16)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
TokenKey = Annotated[str, Field(pattern="^(0|[1-9][0-9]{0,9})$")]


def _or_none(value: str | None) -> str | None:
    """Clients that fill in every field send "" for what they do not say."""
    return value or None


OptionalName = Annotated[Annotated[str, Field(max_length=256)] | None, AfterValidator(_or_none)]


def at_most(limit: int) -> BeforeValidator:
    """Refuse a large object before its entries are looked at: pydantic collects an error for every one of them."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > limit:
            raise PydanticCustomError("too_long", "Input should have at most {limit} entries", {"limit": limit})
        return value

    return BeforeValidator(check)


LogitBias = Annotated[dict[TokenKey, Bias], Field(max_length=1024), at_most(1024)]
MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16), at_most(16)]


def string_or_list(value: Any) -> str | None:
    """Which branch of a `string or list` field is meant. Tags in angle brackets never reach the user."""
    return "<string>" if isinstance(value, str) else "<list>" if isinstance(value, list) else None


StringOrList = Discriminator(
    string_or_list, custom_error_type="string_or_list_type", custom_error_message="Input should be a string or a list"
)
StopString = Annotated[str, Field(max_length=256)]
Stop = Annotated[
    Annotated[StopString, Tag("<string>")]
    | Annotated[list[StopString], Field(max_length=8, fail_fast=True), Tag("<list>")],
    StringOrList,
]


class StrictModel(BaseModel):
    """No bool or string is taken for a number; unknown fields are ignored, as clients of every age send them."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class TextPart(StrictModel):
    """One part of a message's content."""

    type: Annotated[str, Field(max_length=64)] = Field(description="Only text parts are supported.")
    text: str | None = Field(None, description="The text of the part.")
    refusal: str | None = Field(
        None, description="The text of a `refusal` part, which an assistant message may hold."
    )


def text_of_part(param: str, part: TextPart, kinds: tuple[str, ...], why: str, said: bool) -> str:
    """The text of a part of one of these `kinds`, else `why` it is refused; `said` by the assistant, who may have
    refused with another provider. Raises `InvalidRequest`."""
    field = "refusal" if said and part.type == "refusal" else "text"
    if field == "text" and part.type not in kinds:
        raise unsupported(f"{param}.type", why)
    text: str | None = getattr(part, field)
    if text is None:
        where = f"{param}.{field}"
        raise InvalidRequest(f"'{where}' is required", param=where, code="missing_required_parameter")
    return text


Content = Annotated[
    Annotated[str, Tag("<string>")]
    | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True), Tag("<list>")],
    StringOrList,
]


class StreamOptions(StrictModel):
    """Options of a streamed answer."""

    include_usage: bool | None = Field(None, description="Send one more chunk with the token counts before the end.")


class SamplingFields(StrictModel):
    """What every generating request may say about sampling: OpenAI's fields and llama.cpp's extensions."""

    model: OptionalName = Field(None, description="Name of a served model; absent or empty: the default model.")
    stream: bool | None = Field(None, description="Answer as server-sent events.")
    temperature: Temperature | None = Field(None, description="0 takes the most likely token.")
    top_p: Probability | None = Field(None, description="Nucleus sampling: keep tokens up to this total probability.")
    top_k: TopK | None = Field(None, description="Keep the k most likely tokens; 0 = off. Extension.")
    min_p: Probability | None = Field(None, description="Drop tokens below this share of the best. Extension.")
    typical_p: Probability | None = Field(None, description="Locally typical sampling; 1 = off. Extension.")
    presence_penalty: Penalty | None = Field(None, description="Penalty for tokens already in the reply.")
    frequency_penalty: Penalty | None = Field(None, description="Penalty for each time a token is in the reply.")
    repeat_penalty: RepeatPenalty | None = Field(None, description="llama.cpp's penalty; 1 = off. Extension.")
    repeat_last_n: LastN | None = Field(None, description="Tokens the repeat penalty looks back at. Extension.")
    logit_bias: LogitBias | None = Field(None, description="Token id to a value added to its logit.")
    seed: Seed | None = Field(None, description="The same seed and request give the same text.")
    ignore_eos: bool | None = Field(None, description="Go on to the limit: no end-of-turn token is drawn. Extension.")
    stop: Stop | None = Field(None, description="Up to 8 strings that end the reply, not part of it; empty: none.")

    def sampling(self) -> Sampling:
        return Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            typical_p=self.typical_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repeat_penalty=self.repeat_penalty,
            repeat_last_n=self.repeat_last_n,
            logit_bias=tuple((int(token), bias) for token, bias in (self.logit_bias or {}).items()),
            seed=None if self.seed is None else self.seed % 2**63,
            ignore_eos=bool(self.ignore_eos),
        )

    def stop_strings(self) -> tuple[str, ...]:
        given = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return tuple(filter(None, given))  # an empty one would end every reply
