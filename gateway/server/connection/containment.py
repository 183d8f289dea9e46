"""A guard around methods that the event loop and channels call: an exception ends one connection, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar


class Fallible(Protocol):
    """A connection, or its peer object."""

    def fail(self) -> None:
        """Record the unexpected exception being handled, and end the connection."""


Owner = TypeVar("Owner", bound=Fallible)
Arguments = ParamSpec("Arguments")


def contained(
    method: Callable[Concatenate[Owner, Arguments], None],
) -> Callable[Concatenate[Owner, Arguments], None]:
    """Call `fail` on a method's owner when the method raises, as the caller serves others too."""

    @wraps(method)
    def call(owner: Owner, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            method(owner, *args, **kwargs)
        except Exception:  # noqa: BLE001 - whatever it is, it is this owner's alone
            owner.fail()

    return call


def forget_frames(failure: BaseException | None) -> None:
    """Drop the traceback of an exception, and those of its causes: frames refer to their connection."""
    if failure is not None:
        failure.__traceback__ = None
        forget_frames(failure.__cause__ or failure.__context__)
