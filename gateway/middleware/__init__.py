"""Middleware: what becomes of events before they are appended (SPEC §7.8).

    event ──► stage ──► stage ──► … ──► numbered ──► log

It runs once for each event, before that has a number, so all readers see the same, live and late. It is pure: it reads
no clock and owns no task; `gateway.hub.screening` calls it.

- `stage` — what a stage is: a function, or something that may hold events back
- `screen` — the stages of one stream, and the events that wait in them
- `holding` — the queue of a stage that holds events back
- `redacting` — the stage `redact`: `scanning` redacts one text, `finder` finds matches by RE2, `syntax` derives from a
  pattern what a match begins with, `patterns` are the built-in sets
- `thinking` — the stage `split_thinking`
- `selecting` — the stages `drop`, `keep`, `sample`
- `changing` — the stages `set`, `limit`
- `configuring` — which streams have which stages: a TOML file, entry points, programs
"""

from deltawire.gateway.middleware.changing import limit, set_fields
from deltawire.gateway.middleware.configuring import Middleware, make_middleware, read_middleware
from deltawire.gateway.middleware.finder import Pattern
from deltawire.gateway.middleware.patterns import PERSONAL, SECRETS
from deltawire.gateway.middleware.redacting import redact
from deltawire.gateway.middleware.selecting import drop, keep, sample
from deltawire.gateway.middleware.stage import Context, Function, Plan
from deltawire.gateway.middleware.thinking import split_thinking

__all__ = [
    "PERSONAL",
    "SECRETS",
    "Context",
    "Function",
    "Middleware",
    "Pattern",
    "Plan",
    "drop",
    "keep",
    "limit",
    "make_middleware",
    "read_middleware",
    "redact",
    "sample",
    "set_fields",
    "split_thinking",
]
