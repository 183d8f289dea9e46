"""Which view `tail` shows a stream in."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from deltawire.gateway.cli.ending import say
from deltawire.gateway.cli.tail.render import Frames, Screen, Text, View
from deltawire.gateway.cli.terminal.keyboard import is_foreground

if TYPE_CHECKING:
    from deltawire.gateway.cli.tail.rendered import Rendered


def make_rendered(*, is_asked_for: bool) -> Rendered | None:
    """The view that renders, None where that is not possible; why is said to a person who asked for it."""
    why = _find_obstacle()
    if why is None:
        try:
            from deltawire.gateway.cli.tail.rendered import Rendered  # noqa: PLC0415 - takes a while, and needs the extra
        except ImportError:
            why = "rendering needs the extra: pip install 'deltawire[tui]'"
        else:
            return Rendered(colour=_has_colour(), size=os.get_terminal_size(sys.stdout.fileno()))
    if is_asked_for:
        say(f"plain text: {why}")
    return None


def _find_obstacle() -> str | None:
    """Why nothing can be rendered on standard output; None if something can."""
    if not sys.stdout.isatty():
        return "standard output is not a terminal"
    if os.environ.get("TERM", "dumb") in {"dumb", "unknown", ""}:
        return "the terminal can't move its cursor (TERM)"
    if 0 in os.get_terminal_size(sys.stdout.fileno()):
        return "the terminal's size is not known"
    return None if is_foreground(sys.stdout.fileno()) else "the command runs in the background"


def choose_plain(*, as_json: bool) -> View:
    """The view that draws nothing again: of frames, of text on a terminal, or of text elsewhere."""
    on_terminal = sys.stdout.isatty()
    if as_json:
        return Frames(on_terminal=on_terminal)
    return Screen(colour=_has_colour()) if on_terminal else Text(say)


def _has_colour() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
