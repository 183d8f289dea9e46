"""Token counts, wherever a provider puts them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from msgspec import UNSET, structs

from deltawire.protocol.events import MAX_SEQ, Usage
from deltawire.protocol.providers.fields import Fields

Path: TypeAlias = tuple[str, ...]
"""Names of objects within each other, and of the count in the last of them."""


class CountNames(NamedTuple):
    """Where the counts of an object are.

    Attributes:
        prompt: fields whose sum is the tokens of the prompt.
        completion: likewise, of the answer.
        total: the field with the sum of both; empty if the provider has none.
        cached: places of the part of the prompt that came from a cache; the first that has it counts.
        reasoning: likewise, of the part of the answer that is thinking.
    """

    prompt: tuple[str, ...]
    completion: tuple[str, ...]
    total: str = ""
    cached: tuple[Path, ...] = ()
    reasoning: tuple[Path, ...] = ()


def read_usage(counts: Fields, names: CountNames) -> Usage | None:
    """Take the counts of an object; None if it has none."""
    prompt, completion = _add(counts, names.prompt), _add(counts, names.completion)
    total = counts.amount(names.total) if names.total else None
    if prompt is completion is total is None:
        return None
    cached, reasoning = _find(counts, names.cached), _find(counts, names.reasoning)
    return Usage(
        prompt_tokens=prompt or 0,
        completion_tokens=completion or 0,
        total_tokens=(prompt or 0) + (completion or 0) if total is None else total,
        cached_tokens=UNSET if cached is None else cached,
        reasoning_tokens=UNSET if reasoning is None else reasoning,
    )


def add_usage(usages: Iterable[Usage]) -> Usage | None:
    """The sum of the counts of several calls; None if there are none."""
    total: Usage | None = None
    for usage in usages:
        if total is None:
            total = usage
        else:
            sums = {
                name: min(getattr(total, name) + getattr(usage, name), MAX_SEQ)
                for name in usage.__struct_fields__
                if UNSET not in (getattr(total, name), getattr(usage, name))
            }
            total = structs.replace(total, **sums)
    return total


def _add(counts: Fields, names: tuple[str, ...]) -> int | None:
    found = [count for name in names if (count := counts.amount(name)) is not None]
    return sum(found) if found else None


def _find(counts: Fields, paths: tuple[Path, ...]) -> int | None:
    for *outer, name in paths:
        holder = counts
        for part in outer:
            holder = holder.object(part)
        if (count := holder.amount(name)) is not None:
            return count
    return None
