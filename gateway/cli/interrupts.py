"""Ctrl-C while nothing has begun that would have to be ended."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

INTERRUPTED: Final = 128 + signal.SIGINT


@contextmanager
def ending_at_once() -> Iterator[None]:
    """A block in which Ctrl-C ends the process without a word.

    An exception in the middle of an import is printed with its traceback, or becomes another one on its way out.
    """
    is_python_s = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # neither ignored nor somebody else's
    if not is_python_s or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
