"""Execution: from the bytes of a line to the result, with the retries that are worth the cost."""

import random
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

import structlog

from app.domain import result
from app.domain.line import RequestLine, read_request
from app.domain.line_model import read_model
from app.domain.result import Met, Result
from app.domain.retry import TOO_MANY_REQUESTS, RetryPolicy, Tries, Trouble
from app.domain.verdict import Verdict, mark_failure
from app.services.check_call import has_check
from app.services.ports import ANYBODY, Answer, Caller, Clock, Upstream

log = structlog.get_logger()

# A timer may fire milliseconds early. The rest of the time must not go to a further call, and the end of the call must
# not be taken for the upstream's silence.
_EARLY_S = 0.05
# Lines that wait for a server return spread over this long, or over half of the wait, not together.
_SPREAD_S = 2.0
_LEAST_WAIT_S = 0.1
# An answer is kept in case it was the line's last; a larger answer is asked for once more.
_MAX_KEPT_BYTES = 16 * 1024
_FIRST_REFUSAL = 300
# Notes on a line are for its error line, where the start of a message is enough.
_MAX_NOTED_CHARS = 500


class Retry(NamedTuple):
    """A call to make again after a delay, with the count of tries; `met` is the answer to the last call."""

    delay_s: float
    tries: Tries
    met: Answer | None = None


class OutOfTime(NamedTuple):
    """The deadline has passed: the line stays without a result."""


class LineAttempt(NamedTuple):
    """A line that needs another call.

    Args:
        batch_id: the line's batch.
        endpoint: the endpoint to call.
        deadline: no call goes on past this instant.
        position: the line's place in the batch's plan.
        data: the line's bytes.
        caller: the facts about the line that the upstream needs, with the line's tries.
        met: the answer to the line's last call, if any.
        model: the model that all lines of the batch share; None to read the model in the line.
    """

    batch_id: str
    endpoint: str
    deadline: float
    position: int
    data: bytes
    caller: Caller = ANYBODY
    met: Answer | None = None
    model: str | None = None


class ExecutionService:
    """Makes one call for a line and interprets the answer; `draw` returns a number in [0, 1), for jitter."""

    def __init__(
        self,
        upstream: Upstream,
        clock: Clock,
        policy: RetryPolicy,
        *,
        call_timeout_s: float,
        name: str = "",
        steady: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._draw = draw
        self._upstream = upstream
        self._clock = clock
        self._policy = policy
        self._call_timeout_s = call_timeout_s
        self._name = name
        self._steady = steady
        self._told = _Told()

    async def attempt(self, line: LineAttempt) -> Result | Retry | OutOfTime:
        """Call the upstream for a line, unless the last failure is the line's result; never past the deadline."""
        left_s = line.deadline - self._clock.now()
        if left_s <= 0:
            return OutOfTime()
        before = line.caller.before.judged(self._steady(), has_check=has_check(line.endpoint))
        if not line.caller.may_send():
            return Retry(0.0, before, line.met)
        request = read_request(line.data)
        met = line.met if line.met is not None and line.met.trouble is not Trouble.WITHHELD else None
        if met is not None and self._is_over(line, before):
            return _record(line, request, met)
        wants_check = self._wants_check(line, before)
        is_same = before is line.caller.before and not wants_check
        caller = line.caller if is_same else line.caller._replace(before=before, wants_check=wants_check)
        timeout_s = min(self._call_timeout_s, left_s)
        began_at = self._steady()
        answer = await self._upstream.call(line.endpoint, request.body, timeout_s, caller)
        if answer.error is not None:
            # The clock of windows may have been set back during the call.
            is_whole = timeout_s == left_s and self._steady() - began_at >= timeout_s - _EARLY_S
            left_s = line.deadline - self._clock.now()
            is_timeout = answer.error[0] == result.REQUEST_TIMEOUT[0]
            if left_s <= 0 or (is_timeout and (is_whole or left_s <= _EARLY_S)):
                # The deadline broke the call off: the line did not fail, its batch expired.
                return OutOfTime()
        if answer.trouble is Trouble.NONE or answer.trouble is Trouble.FINAL or _met_a_limit(answer):
            return _record(line, request, answer)
        if answer.trouble is Trouble.WITHHELD:
            return self._withheld(line, before, answer, is_check=wants_check)
        tries = self._after(before, answer)
        if self._is_over(line, tries):
            return _record(line, request, answer)
        return self._again(line, request.custom_id, tries, answer)

    def _is_used_up(self, line: LineAttempt, tries: Tries) -> bool:
        return self._policy.is_used_up(tries, self._steady(), has_check=has_check(line.endpoint))

    def _is_over(self, line: LineAttempt, tries: Tries) -> bool:
        return self._is_used_up(line, tries) and (tries.is_proven or not has_check(line.endpoint))

    def _wants_check(self, line: LineAttempt, before: Tries) -> bool:
        """Return whether a check call is to come before the line's next call.

        An outage must neither use a try nor end the line, and perhaps no other line shows the outage.
        """
        if before.failed is None or not has_check(line.endpoint):
            # The line has not failed yet, or no circuit breaker counts the calls of other lines.
            return False
        return before.is_unknown or self._is_used_up(line, before.with_verdict(Verdict.LINE, self._steady()))

    def _after(self, before: Tries, answer: Answer) -> Tries:
        # A server that says when to come again limits its callers, and an unreachable server is the fault of no line.
        is_limited = answer.status == TOO_MANY_REQUESTS and answer.retry_after_s is not None
        is_excused = is_limited or (answer.trouble is Trouble.AWAY and answer.error is not None)
        failed = mark_failure(answer.circuit, self._steady()) if answer.circuit is not None else None
        tries = before.after(answer.trouble, failed, is_excused=is_excused)
        if is_excused:
            return tries
        if answer.was_well_before:
            return tries.checked(self._steady())
        if answer.circuit is None:
            # Without a circuit breaker, no calls of other lines are compared.
            return tries.with_verdict(Verdict.LINE, self._steady())
        return tries.suspected() if answer.was_well_after else tries

    def _again(self, line: LineAttempt, custom_id: str, tries: Tries, answer: Answer) -> Retry:
        circuit = answer.circuit
        if circuit is not None and circuit.is_open:
            return self._wait(line, tries, answer, answer)
        delay_s = self._policy.delay_s(tries.calls, answer.retry_after_s, self._draw())
        # Only once: while the server may be at fault, the line waits as long as other lines.
        is_news = tries.calls == 1 or tries.faults > line.caller.before.faults
        would_be = tries.with_verdict(Verdict.LINE, self._steady())
        if is_news and answer.retry_after_s is None and self._is_used_up(line, would_be):
            delay_s = min(delay_s, self._policy.last_look_s)
        elif (
            answer.retry_after_s is None
            and tries.last is not Trouble.AWAY
            and (tries.is_suspect or has_check(line.endpoint))
        ):
            is_alone = tries.is_unknown and not tries.others_failed
            look_s = self._policy.checked_look_s if is_alone else self._policy.doubt_look_s
            delay_s = min(delay_s, self._draw() * look_s)
        if self._told.may_tell(self._steady()):
            log.warning(
                "line.retried",
                upstream=self._name,
                batch_id=line.batch_id,
                custom_id=custom_id,
                position=line.position,
                tries=tries.calls,
                delay_s=round(delay_s, 3),
                status=answer.status or None,
                error=answer.error[1] if answer.error else None,
            )
        return self._retry(line, delay_s, tries, answer)

    def _withheld(self, line: LineAttempt, before: Tries, answer: Answer, *, is_check: bool) -> Retry:
        """Wait after a call that was not made: a circuit breaker is open, or the server did not answer a check call."""
        met = line.met or answer
        if not is_check:
            return self._wait(line, before, answer, met)
        tries = before.forgotten()
        if answer.circuit is None or answer.circuit.is_open:
            return self._wait(line, tries, answer, met)
        delay_s = self._policy.delay_s(tries.calls + tries.unanswered_checks, answer.retry_after_s, self._draw())
        return self._retry(line, delay_s, tries, met)

    def _wait(self, line: LineAttempt, tries: Tries, answer: Answer, met: Answer) -> Retry:
        """Wait until the server that gave `answer` may be called again; `met` is the answer to the line's last call."""
        asked_s = answer.retry_after_s or 0.0
        if answer.circuit is not None and answer.circuit.is_open:
            asked_s = max(asked_s, answer.circuit.wait_s(self._steady()))
        wait_s = max(asked_s, _LEAST_WAIT_S)
        delay_s = wait_s + self._draw() * min(_SPREAD_S, max(wait_s / 2, _LEAST_WAIT_S))
        return self._retry(line, delay_s, tries, met)

    def _retry(self, line: LineAttempt, delay_s: float, tries: Tries, met: Answer | None) -> Retry:
        if met is not None and len(met.body) > _MAX_KEPT_BYTES:
            met = None
        # A wait past the deadline ends just after the deadline, and the line is not called again.
        left_s = max(line.deadline - self._clock.now(), 0.0)
        return Retry(min(delay_s, left_s + _EARLY_S), tries, met)


class _Told:
    """Bounds a log: a hundred lines at once, then one line a second."""

    _MOST = 100.0

    def __init__(self) -> None:
        self._left = self._MOST
        self._at = 0.0

    def may_tell(self, now: float) -> bool:
        self._left = min(self._left + max(now - self._at, 0.0), self._MOST)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def met_by(tries: Tries, answer: Answer) -> Met:
    """Return the tries and the last trouble of a line, given the answer to the last call."""
    if answer.trouble is Trouble.WITHHELD and answer.circuit is not None and answer.circuit.last_error is not None:
        return Met(tries.calls, f"the model server is away. {answer.circuit.last_error}"[:_MAX_NOTED_CHARS])
    return Met(tries.calls, _describe(answer)[:_MAX_NOTED_CHARS])


def _describe(answer: Answer) -> str:
    if answer.error is not None:
        return f"{answer.error[0]}: {answer.error[1]}"
    phrase = next((status.phrase for status in HTTPStatus if status == answer.status), "")
    # Some servers answer 200 with an error in place of the result.
    hidden = " with an error in its body" if answer.status < _FIRST_REFUSAL else ""
    return f"{answer.status} {phrase}".strip() + hidden


def _met_a_limit(answer: Answer) -> bool:
    # Under the same limit the next call would be lost as well.
    return answer.error is not None and answer.error[0] == result.REQUEST_TIMEOUT[0]


def _record(line: LineAttempt, request: RequestLine, answer: Answer) -> Result:
    at, model = (line.batch_id, line.position), line.model or read_model(request.body)
    if answer.error is not None:
        return Result(*at, False, result.unanswered(*at, request.custom_id, *answer.error), result.NO_USAGE, model)
    payload = result.answered(*at, request.custom_id, answer.status, answer.request_id, answer.body)
    return Result(*at, answer.trouble is Trouble.NONE, payload, answer.usage, model)
