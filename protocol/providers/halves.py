r"""Characters that come in halves: mend what can be mended, and U+FFFD for the rest.

In a Python string, half a character is a lone surrogate, of one of two kinds:

- an escape of half a pair (`\ud83d`), as from a server that cuts its text by UTF-16 units;
- a byte that was no UTF-8 (U+DC80 to U+DCFF, PEP 383), as from a server that cuts its text by bytes.

Where two texts that follow each other have the halves of one character, the second kind may join up with its own, and
so may the first. Bytes may also be surrogates in UTF-8 (CESU-8): these are joined too.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

_SURROGATE = re.compile("[\ud800-\udfff]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_BYTES = re.compile("[\udc80-\udcff]+")
_HALF_AT_END = re.compile(
    "(?:[\ud800-\udbff]|(?<![\ud800-\udbff])(?:"  # half a pair; or bytes: up to three of a character, five of a pair
    "[\udcc2-\udcdf]|[\udce0-\udcef][\udc80-\udcbf]?|[\udcf0-\udcf4][\udc80-\udcbf]{0,2}"
    "|\udced[\udca0-\udcaf][\udc80-\udcbf](?:\udced[\udcb0-\udcbf]?)?"
    "))$"
)


def has_halves(text: str) -> bool:
    """Whether there is half a character in a text."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def join(text: str) -> tuple[str, str]:
    """A text whose halves are joined, and the half at its end, which the next text may complete."""
    rest = _HALF_AT_END.search(text)
    if rest is None:
        return mend(text), ""
    return mend(text[: rest.start()]), rest.group()


def mend(text: str) -> str:
    """A valid text: halves beside each other are joined, U+FFFD stands for the others."""
    if text.isascii() or _SURROGATE.search(text) is None:
        return text
    text = _PAIR.sub(_join_pair, text)
    text = _BYTES.sub(_decode, text)
    text = _PAIR.sub(_join_pair, text)
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def mend_all(value: Any) -> Any:
    """A JSON value in which all text is valid, names too."""
    if isinstance(value, str):
        return mend(value)
    if isinstance(value, list):
        return [mend_all(item) for item in value]
    return {mend(name): mend_all(item) for name, item in value.items()} if isinstance(value, dict) else value


def encode_json(value: Any) -> str:
    """The JSON of a value, in which all text is valid."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return msgspec.json.encode(mend_all(value)).decode()


def _join_pair(pair: re.Match[str]) -> str:
    return pair.group().encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def _decode(run: re.Match[str]) -> str:
    raw = run.group().encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace")
