"""The boundary round what the event loop and channels call: what fails inside ends one connection, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar


class Fallible(Protocol):
    """A connection, or what one serves."""

    def fail(self) -> None:
        """Something was raised that nobody expected: put it on record, and end the connection."""


Owner = TypeVar("Owner", bound=Fallible)
Arguments = ParamSpec("Arguments")


def contained(
    method: Callable[Concatenate[Owner, Arguments], None],
) -> Callable[Concatenate[Owner, Arguments], None]:
    """Have a method's owner fail where the method would raise: its caller serves others as well."""

    @wraps(method)
    def call(owner: Owner, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            method(owner, *args, **kwargs)
        except Exception:  # noqa: BLE001 - whatever it is, it is this owner's alone
            owner.fail()

    return call
