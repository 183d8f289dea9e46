"""Bodies that are no event stream, and objects that are no chunk of one: what failed upstream, in whatever form.

A proxy answers with a page, a server with its error as plain JSON: of what reaches a translator, only the form tells.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any, Final

from deltawire.protocol.providers.bounds import MAX_ERROR
from deltawire.protocol.providers.halves import mend

NOT_A_STREAM = "not_a_stream"
"""Code of the error for a body, or a part of one, that is no event stream of the provider."""

UNREADABLE = "unreadable"
"""Code of the error for an event whose JSON is torn, so that text may be lost."""

HTTP_RETRYABLE: Final = {
    **dict.fromkeys(("408", "429", "500", "502", "503", "504"), True),
    **dict.fromkeys(("400", "401", "402", "403", "404"), False),
}
"""Whether another try is worth it, by the HTTP status that an error has as its code."""

MAX_LINE = 200
"""Code points of a body that its error shows."""

_MESSAGES = ("message", "detail", "msg", "error_message", "error_msg", "errorMessage", "error_description", "Message")
_WORDS = (*_MESSAGES, "error", "errors", "fault", "faultstring", "reason", "title")
_TITLE = re.compile(r"<(title|h1)[^>]*>(.*?)</\1", re.DOTALL | re.IGNORECASE)
_NO_TEXT = re.compile(r"<(script|style|head)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>", re.DOTALL | re.IGNORECASE)
_LONGEST_PAGE = 10_000
"""Code points of a page in which its title is looked for."""


def describe(text: str) -> str:
    """One line of a body that is no event stream: a page's title, or the first line there is."""
    text = mend(text[:_LONGEST_PAGE])
    if text.lstrip().startswith("<"):
        titles = [match.group(2) for match in _TITLE.finditer(text)]
        text = html.unescape("\n".join([*titles, _NO_TEXT.sub("\n", text), text]))
    line = next((line for line in map(_squeeze, text.splitlines()) if any(map(str.isalnum, line))), _squeeze(text))
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 1]}…"


def is_noise(text: str) -> bool:
    """Whether what is no JSON is a single word, as servers send it to keep a connection alive."""
    return not text.lstrip().startswith(("<", "{", "[")) and len(text.split()) <= 1


def is_torn(text: str) -> bool:
    """Whether a text may have been JSON."""
    return text.lstrip().startswith(("{", "["))


def is_failure(payload: dict[str, Any]) -> bool:
    """Whether an object that is no chunk tells a failure: by an error of its own, or by nothing but a message."""
    if payload.get("error"):
        return True
    if "choices" in payload or "id" in payload:
        return payload.get("object") == "error"
    if "error" in (payload.get("object"), payload.get("type")) or payload.get("errors") or payload.get("fault"):
        return True
    return any(isinstance(payload.get(name), str) and payload[name] for name in _MESSAGES) or bool(
        isinstance(payload.get("detail"), list) and payload["detail"]
    )


def words_of(value: Any, depth: int = 4) -> str:
    """What an error says, wherever in it that stands; empty if it doesn't say it in words, or in too many."""
    if isinstance(value, str):
        return mend(value) if len(value) <= MAX_ERROR else ""
    inner: Sequence[Any] = ()
    if isinstance(value, dict):
        inner = [value[name] for name in _WORDS if name in value]
    elif isinstance(value, list):
        inner = value[:8]
    return next(filter(None, (words_of(item, depth - 1) for item in inner)), "") if depth else ""


def _squeeze(text: str) -> str:
    return " ".join(text.split())
