"""The settings of a stream."""

from __future__ import annotations

from msgspec import Struct

from deltawire.gateway.streams.log import Retention
from deltawire.protocol.addresses import DEFAULT_BUFFER
from deltawire.protocol.codes import ProblemCode
from deltawire.protocol.errors import WireError
from deltawire.protocol.messages import Policy


class StreamSettings(Struct, frozen=True, kw_only=True):
    """The settings of a stream.

    Attributes:
        retention: how much its log holds.
        policy: of consumers that don't choose one.
        buffer: lag limit, in events, of consumers that don't choose one.
        buffer_bytes: lag limit, in bytes, of every consumer.
        allow_block: whether a consumer may choose `block`.
        max_consumers: subscriptions at a time.
        max_producers: publishing connections at a time.
    """

    retention: Retention = Retention()
    policy: Policy = Policy.COALESCE
    buffer: int = DEFAULT_BUFFER
    buffer_bytes: int = 1024 * 1024
    allow_block: bool = True
    max_consumers: int = 10_000
    max_producers: int = 1_000

    def check_policy(self, policy: Policy, interval: int = 0) -> None:
        """Refuse a policy that is not allowed, or an interval with one that folds nothing.

        Args:
            policy: of a consumer.
            interval: milliseconds between its frames; 0 for none.

        Raises:
            WireError: `forbidden`, the policy; `bad_request`, the interval.
        """
        if policy is Policy.BLOCK and not self.allow_block:
            raise WireError(ProblemCode.FORBIDDEN, "policy 'block' is not allowed here (setting allow_block)")
        if interval and policy is not Policy.COALESCE:
            raise WireError(
                ProblemCode.BAD_REQUEST, f"parameter 'interval': this stream's policy, {policy}, folds nothing"
            )
