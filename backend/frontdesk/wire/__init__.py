"""Wire formats: request JSON to domain, events to frames. One file a format; none knows another, none does I/O."""

from frontdesk.wire._format import HttpFormat
from frontdesk.wire.openai_chat import OpenAIChat
from frontdesk.wire.openai_completions import OpenAICompletions
from frontdesk.wire.openai_responses import OpenAIResponses

HTTP_FORMATS: tuple[HttpFormat, ...] = (OpenAIChat(), OpenAICompletions(), OpenAIResponses())
