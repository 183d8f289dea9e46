"""Ctrl-C before there is anything to clean up."""

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
    """A block in which Ctrl-C ends the process silently.

    A KeyboardInterrupt during an import would print a traceback or turn into another exception.
    """
    is_python_s = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # neither ignored nor replaced
    if not is_python_s or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
