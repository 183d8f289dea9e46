"""What readers of an answer get of an error that an SDK raised."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from deltawire.gateway.client import SourceStalled
from deltawire.gateway.client.upstream import end_as, with_error
from deltawire.protocol.events import Data, Error
from deltawire.protocol.providers import Translator


def events_of(error: Exception, translator: Translator) -> Iterable[Data]:
    """The end of an answer whose stream raised.

    Args:
        error: what it raised.
        translator: of the answer; it is finished.
    """
    if isinstance(error, SourceStalled):
        return error.end(translator.finish())
    body = _body_of(error)
    if body is not None:
        return [*translator.feed_object(body), *end_as("error", translator.finish())]
    told = getattr(error, "error", None)
    if not isinstance(told, Error):  # as errors of the proxy have it
        told = Error(f"the provider's stream failed: {type(error).__name__}", "stream_failed")
    return with_error(told, end_as("error", translator.finish()))


def _body_of(error: Exception) -> dict[str, Any] | None:
    """What the provider said of an error, as SDKs keep it; its text may tell more than is the readers' business.

    OpenAI and Anthropic have it as `body`, Google as `details`, Ollama as the text `error`.
    """
    for name in ("body", "details", "error"):
        match getattr(error, name, None):
            case {"error": _} as body:
                return body
            case dict(body) if body:
                return {"error": body}
            case str(text) if text and name == "error":
                return {"error": text}
    return None
