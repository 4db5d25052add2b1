"""Execution: from the bytes of one line to its result, with the calls made again that are worth it."""

import random
from typing import NamedTuple

import structlog

from app.domain import result
from app.domain.batch import Usage
from app.domain.line import read_request
from app.domain.result import Result
from app.domain.retry import RetryPolicy, Tries, Trouble
from app.services.ports import Answer, Clock, Upstream

log = structlog.get_logger()

# A timer may fire some milliseconds early, which must not leave the time for one more call, nor be taken for the
# upstream's own silence.
_EARLY_S = 0.05


class Retry(NamedTuple):
    """The call is to be made again after this long, with this count of tries."""

    delay_s: float
    tries: Tries


class OutOfTime(NamedTuple):
    """The deadline has passed: the line stays without a result."""


class ExecutionService:
    """Makes one call for a line and says what it means."""

    def __init__(self, upstream: Upstream, clock: Clock, policy: RetryPolicy, *, call_timeout_s: float) -> None:
        self._upstream = upstream
        self._clock = clock
        self._policy = policy
        self._call_timeout_s = call_timeout_s

    async def attempt(
        self, batch_id: str, endpoint: str, deadline: float, position: int, line: bytes, before: Tries
    ) -> Result | Retry | OutOfTime:
        """Call the upstream for a line once more; never past `deadline`."""
        left_s = deadline - self._clock.now()
        if left_s <= 0:
            return OutOfTime()
        request = read_request(line)
        answer = await self._upstream.call(endpoint, request.body, min(self._call_timeout_s, left_s))
        if answer.error is not None:
            left_s = deadline - self._clock.now()
            if left_s <= 0 or (left_s <= _EARLY_S and answer.error == result.REQUEST_TIMEOUT):
                # The deadline broke the call off: the line did not fail, its batch expired.
                return OutOfTime()
        tries = before.after(answer.trouble)
        is_worth_it = answer.trouble is Trouble.FLAKY and tries.faults < self._policy.max_tries
        if is_worth_it or answer.trouble is Trouble.AWAY:
            return self._again(batch_id, deadline, position, tries, answer)
        return self._record(batch_id, position, request.custom_id, answer)

    def _again(self, batch_id: str, deadline: float, position: int, tries: Tries, answer: Answer) -> Retry:
        delay_s = self._policy.delay_s(tries.calls, answer.retry_after_s, random.random())
        log.warning(
            "line.retried",
            batch_id=batch_id,
            position=position,
            tries=tries.calls,
            delay_s=round(delay_s, 3),
            status=answer.status or None,
            error=answer.error[1] if answer.error else None,
        )
        # A wait past the deadline ends just behind it, where the line is not called again.
        left_s = max(deadline - self._clock.now(), 0.0)
        return Retry(min(delay_s, left_s + _EARLY_S), tries)

    def _record(self, batch_id: str, position: int, custom_id: str, answer: Answer) -> Result:
        if answer.error is not None:
            payload = result.unanswered(batch_id, position, custom_id, *answer.error)
            return Result(batch_id, position, False, payload, Usage())
        payload = result.answered(batch_id, position, custom_id, answer.status, answer.request_id, answer.body)
        return Result(batch_id, position, answer.trouble is Trouble.NONE, payload, answer.usage)
