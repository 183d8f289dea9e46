"""What a delta of an OpenAI chat completion says, or a whole message in its place: texts of each kind, and calls."""

from __future__ import annotations

from typing import Any, NamedTuple

from deltawire.protocol.providers.fields import Fields
from deltawire.protocol.providers.parts import Pieces, read_parts

_THINKING = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
_PLAIN = {"content": "text", **dict.fromkeys(_THINKING, "thinking")}


class Plain(NamedTuple):
    """A chunk with one choice that goes on with one text.

    Attributes:
        kind: of the text, `text` or `thinking`.
        text: not empty.
        rest: what else the chunk says, by which others like it are known.
    """

    kind: str
    text: str
    rest: tuple[Any, ...]


def read_plain(chunk: dict[str, Any]) -> Plain | None:
    """A chunk as such; None for every other one, also if it gives a reason to end, or a message in place of a delta."""
    match chunk:
        case {"choices": [{"delta": dict(delta), **choice}], **rest}:
            said = [name for name in delta if name in _PLAIN and delta[name]]
            if len(said) == 1 and choice.get("finish_reason") is None and "message" not in choice:
                name = said[0]
                text = delta[name]
                rest.pop("obfuscation", None)  # differs, and says nothing
                if isinstance(text, str):
                    return Plain(_PLAIN[name], text, ({**delta, name: ""}, choice, rest))
    return None


def read_texts(said: Fields) -> Pieces:
    """The texts in the order in which they are told; of thinking under several names, the first one that has any."""
    texts = _read_thinking(said)
    texts += said.parts("content", "text")
    texts += said.parts("refusal", "refusal")
    return texts


def _read_thinking(said: Fields) -> Pieces:
    texts: Pieces = []
    for name in _THINKING:
        if texts:
            _drop_repeat(said, name, texts)
        elif said.source.get(name):
            texts = said.parts(name, "thinking")
    if texts:
        _drop_repeat(said, "reasoning_details", texts)
    elif said.source.get("reasoning_details"):
        texts = said.parts("reasoning_details", "thinking")
    return texts


def _drop_repeat(said: Fields, name: str, texts: Pieces) -> None:
    """Take the text of a field where it has been told under another name."""
    value = said.source.get(name)
    if value and _join(read_parts(value, "thinking")[0]) == _join(texts):
        said.parts(name, "thinking")


def _join(texts: Pieces) -> str:
    return "".join(text for _, text in texts)


def read_calls(said: Fields) -> tuple[list[Fields], Fields | None]:
    """The tool calls, and the function call of the format before them."""
    function = said.object("function_call")
    value = said.source.get("tool_calls")
    if isinstance(value, dict):
        said.drop("tool_calls")
        calls = [Fields(value)]
    else:
        calls = said.objects("tool_calls")
    return calls, function if function.source else None


def without_repeats(choice: Fields) -> Fields:
    """A choice whose `message` has nothing that its `delta` has too."""
    match choice.source:
        case {"delta": dict(delta), "message": dict(message)}:
            rest = {name: value for name, value in message.items() if name not in delta or delta[name] != value}
            return Fields({**choice.source, "message": rest})
        case _:
            return choice
