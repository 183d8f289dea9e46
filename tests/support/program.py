"""A program that says what it finds as it begins, or ends in some way: `python -m tests.support.program HOW`."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
from io import TextIOWrapper
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """What a program finds when it begins."""
    return {
        "arguments": sys.argv,
        "folder": str(Path.cwd()),
        "searched first": sys.path[0],
        "environment": dict(os.environ),
        "descriptors": sorted(int(it.name) for it in Path("/proc/self/fd").iterdir()),
        "leads": os.getpid() == os.getsid(0),
        "signals": {it: str(signal.getsignal(it)).partition(" at ")[0] for it in range(1, 32)},
        "streams": [
            (it.fileno(), it.mode, it.encoding, it.errors, it.line_buffering, it.write_through)
            for it in (sys.stdin, sys.stdout, sys.stderr)
            if isinstance(it, TextIOWrapper)
        ],
        "threads": threading.active_count(),
        "thresholds": gc.get_threshold(),
        "read": sys.stdin.read(),
    }


def _end(how: str) -> None:
    sys.stdout.write("the end\n")
    match how:
        case "exit":
            sys.exit(3)
        case "message":
            sys.exit("it says why")
        case "fault":
            sys.stdout.write(str(1 / 0))
        case "kill":
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        case "interrupt":
            os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    if sys.argv[1] == "describe":
        sys.stdout.write(json.dumps(describe()))
    elif sys.argv[1] == "wait":
        sys.stdout.write(f"{os.getppid()}\n")
        sys.stdout.flush()
        signal.pause()
    else:
        _end(sys.argv[1])
