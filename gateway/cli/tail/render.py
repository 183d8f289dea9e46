"""How `tail` shows a stream: from frames to text. Pure.

| view | for | shows |
|---|---|---|
| `Frames` | programs | each frame as received, one per line |
| `Text` | files and pipes | only the answer's text |
| `Screen` | a person | text, thinking dimmed, tool calls, usage, stop reasons, gaps, errors |
| `Rendered` (module `rendered`) | a person whose terminal can do it | as `Screen`, with the text rendered as Markdown |

No control character of a stream reaches a terminal: a producer could otherwise control it (move the cursor, set the
title, enter input for the user).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import click
from msgspec import Raw, UnsetType

from deltawire.gateway.cli.printable import escape_json, make_line, make_printable
from deltawire.gateway.client import Frame
from deltawire.protocol.codec import JSON
from deltawire.protocol.events import (
    ContentStart,
    Data,
    Error,
    Event,
    MessageStart,
    MessageStop,
    TextDelta,
    Thinking,
    ToolDelta,
    Usage,
)
from deltawire.protocol.messages import Gap, StreamEnd, Urgent


def describe_gap(gap: Gap) -> str:
    """A gap in words."""
    if gap.reason == "epoch_changed":
        began = "the stream has restarted"
        return began if gap.seq < gap.first else f"{began}: its events {gap.first}–{gap.seq} are gone"
    what = "are no longer held" if gap.reason == "evicted" else "were dropped: this reader is too slow"
    return f"events {gap.first}–{gap.seq} {what}"


def describe_error(error: Error) -> str:
    """An error event in one line."""
    code = f" ({error.code})" if error.code else ""
    return f"error: {error.error}{code}"


def describe_usage(usage: Usage) -> str:
    """Token counts in one line."""
    parts = f"{usage.prompt_tokens} prompt + {usage.completion_tokens} completion = {usage.total_tokens} tokens"
    details = [
        f"{count} {name}"
        for count, name in ((usage.cached_tokens, "cached"), (usage.reasoning_tokens, "reasoning"))
        if count
    ]
    return f"{parts} ({', '.join(details)})" if details else parts


def describe_urgent(copy: Raw) -> str:
    """An event that came ahead, in one line."""
    event = JSON.decode_to_consumer(bytes(copy))
    if not isinstance(event, Event):
        return "urgent: an event that this version does not know"
    match event.data:
        case Error() as error:
            what = describe_error(error)
        case MessageStop(stop_reason=reason):
            what = f"stop: {reason}"
        case Usage() as usage:
            what = describe_usage(usage)
        case data:
            what = data.type
    return f"urgent, event {event.seq}: {what}"


class View(Protocol):
    """One way to show a stream."""

    def show(self, frame: Frame) -> str:
        """The text that the next frame adds."""
        ...

    def interrupt(self) -> str:
        """The text to write before something else writes to the same terminal."""
        ...

    def end(self, end: StreamEnd | None) -> str:
        """The text that the end of the stream adds."""
        ...


class Frames:
    """Every frame as received, one per line.

    Args:
        on_terminal: whether to escape terminal control characters; the JSON stays equal.
    """

    def __init__(self, *, on_terminal: bool) -> None:
        self._on_terminal = on_terminal

    def show(self, frame: Frame) -> str:
        """The payload and a newline."""
        text = frame.payload.decode()
        return f"{escape_json(text) if self._on_terminal else text}\n"

    def interrupt(self) -> str:
        """Nothing: lines are always complete."""
        return ""

    def end(self, end: StreamEnd | None) -> str:
        """Nothing: the end is a frame."""
        del end
        return ""


class Text:
    """The answer's text, byte for byte.

    Args:
        warn: called with gaps and errors, which the text can't show.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn

    def show(self, frame: Frame) -> str:
        """The text of a `text_delta`."""
        match frame.message:
            case Event(data=TextDelta(text=text)):
                return text
            case Event(data=Error() as error):
                self._warn(describe_error(error))
            case Gap() as gap:
                self._warn(describe_gap(gap))
            case Urgent(event=copy):
                self._warn(describe_urgent(copy))
        return ""

    def interrupt(self) -> str:
        """Nothing: messages go to standard error."""
        return ""

    def end(self, end: StreamEnd | None) -> str:
        """Nothing: the text is complete."""
        del end
        return ""


class Screen:
    """A stream on a terminal: text as it is, thinking and tool calls dimmed, everything else in brackets.

    Args:
        colour: whether the terminal shows styles.
    """

    def __init__(self, *, colour: bool) -> None:
        self._style = click.style if colour else _plain
        self._flow: tuple[Any, ...] = ()
        self._held = ""  # a CR at the end of the flow: what comes next says whether it ends a line
        self._is_line_open = False
        self._is_message_open = True  # until a stop is seen: the reader may have missed the start
        self._usage: Usage | None = None

    def show(self, frame: Frame) -> str:
        """The text that the next event or gap adds to the screen."""
        return "".join(self.show_apart(frame))

    def show_apart(self, frame: Frame) -> tuple[str, str]:
        """As `show`, with what is the answer's own text apart, in second place."""
        match frame.message:
            case Gap() as gap:
                return self._note(describe_gap(gap), fg="yellow"), ""
            case Urgent(event=copy):
                return self._note(describe_urgent(copy), fg="red"), ""
            case Event(data=TextDelta() as delta):
                return self._run(("text", delta.index, delta.choice), delta.text)
            case Event(data=data):
                return self._show(data), ""
            case _:
                return "", ""

    def interrupt(self) -> str:
        """The end of the line, if one is open."""
        return self._break()

    def end(self, end: StreamEnd | None) -> str:
        """Token counts that no stop followed, and the reason for the end of the stream."""
        rest = self._take_usage()
        return rest + (self._note(f"stream ended: {end.reason}", dim=True) if end else self._break())

    def _show(self, data: Data) -> str:  # noqa: PLR0911 - one for each event type
        match data:
            case Thinking() as delta:
                return "".join(self._run(("thinking", delta.index, delta.choice), delta.thinking, dim=True))
            case ToolDelta() as delta:
                return "".join(self._run(("tool", delta.index, delta.choice), delta.partial_json, dim=True))
            case ContentStart(name=str(name)) as block:
                begins = f"[{block.kind or 'block'} {name}] "
                return "".join(self._run(("tool", block.index, block.choice), begins, fg="cyan"))
            case MessageStart() as start:
                self._is_message_open = True
                return self._note(start.model, dim=True) if start.model else self._break()
            case MessageStop() as stop:
                self._is_message_open = False
                return self._note(f"stop: {stop.stop_reason}", dim=True) + self._take_usage()
            case Usage() as usage:
                self._usage = usage
                return "" if self._is_message_open else self._take_usage()
            case Error() as error:
                return self._note(describe_error(error), fg="red")
            case _:
                return ""

    def _run(self, flow: tuple[str, int | UnsetType, int | UnsetType], text: str, **style: Any) -> tuple[str, str]:
        """What begins a piece of running text, and the piece; a different block or choice starts a new line."""
        start = ""
        if flow != self._flow:
            start = self._break()
            self._flow = flow
            if choice := flow[2]:
                start += self._style(f"[choice {choice}] ", dim=True)
        if text:
            self._is_line_open = not text.endswith("\n")
            text = self._held + text
            self._held = "\r" if text.endswith("\r") else ""
        printable = make_printable(text.removesuffix("\r"))
        return start, self._style(printable, **style) if style else printable

    def _note(self, text: str, **style: Any) -> str:
        """A line about the stream."""
        line = self._style(f"[{make_line(text)}]", **style)
        return f"{self._break()}{line}\n"

    def _break(self) -> str:
        """End the open line, if there is one, with a CR that was held."""
        self._flow = ()
        self._held = ""
        newline = "\n" if self._is_line_open else ""
        self._is_line_open = False
        return newline

    def _take_usage(self) -> str:
        usage, self._usage = self._usage, None
        return self._note(describe_usage(usage), dim=True) if usage else ""


def _plain(text: str, **_style: Any) -> str:
    return text
