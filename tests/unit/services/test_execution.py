import asyncio
import json

import pytest

from app.domain.batch import Usage
from app.domain.result import REQUEST_TIMEOUT, Result
from app.domain.retry import NO_TRIES, RetryPolicy, Tries, Trouble
from app.services.execution import ExecutionService, LineAttempt, OutOfTime, Retry
from app.services.ports import ANYBODY, Answer, Caller
from tests.fakes.outside import FakeClock, ScriptedUpstream, good_answer

CHAT = "/v1/chat/completions"
LINE = b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m",  "n": 1.50}}'
TIMED_OUT = Answer(Trouble.FLAKY, error=REQUEST_TIMEOUT)
BROKEN = Answer(Trouble.FLAKY, error=("connection_failed", "The connection to the upstream broke."))
UNREACHABLE = Answer(Trouble.AWAY, error=("connection_failed", "The model server can't be reached."))


def attempt(
    service: ExecutionService, deadline: float, before: Tries, met: Answer | None = None
) -> Result | Retry | OutOfTime:
    line = LineAttempt("batch_1", CHAT, deadline, 7, LINE, Caller(before), met)
    return asyncio.run(service.attempt(line))


class House:
    """An execution service over a scripted upstream."""

    def __init__(self, *script: Answer, call_timeout_s: float = 60.0) -> None:
        self.clock = FakeClock()
        self.upstream = ScriptedUpstream(script)
        policy = RetryPolicy(max_tries=3, base_s=1.0, cap_s=8.0)
        self.service = ExecutionService(self.upstream, self.clock, policy, call_timeout_s=call_timeout_s)

    def attempt(self, *, calls: int = 0, faults: int = 0, left_s: float = 1_000.0) -> Result | Retry | OutOfTime:
        return attempt(self.service, self.clock.now() + left_s, Tries(calls, faults))

    def recorded(self, **asked: float) -> tuple[bool, dict[str, object]]:
        outcome = self.attempt(**asked)
        assert isinstance(outcome, Result)
        return outcome.ok, json.loads(outcome.payload)


def status(code: int, trouble: Trouble, **fields: object) -> Answer:
    return Answer(trouble, code, "upstream-1", b'{"error":{"message":"no"}}', **fields)


def test_a_good_answer_is_recorded_as_it_came() -> None:
    house = House(good_answer(b'{"x": 1.50}')._replace(usage=Usage(5, 1, 3, 2)))

    outcome = house.attempt()

    assert isinstance(outcome, Result)
    assert (outcome.batch_id, outcome.position, outcome.ok, outcome.usage) == ("batch_1", 7, True, Usage(5, 1, 3, 2))
    assert b'"custom_id":"a"' in outcome.payload
    assert b'"status_code":200,"request_id":"upstream-1","body":{"x": 1.50}' in outcome.payload
    assert json.loads(outcome.payload)["error"] is None


def test_the_body_is_forwarded_byte_by_byte() -> None:
    house = House()

    house.attempt()

    (endpoint, body, _timeout_s) = house.upstream.calls[0]
    assert (endpoint, bytes(body)) == (CHAT, b'{"model": "m",  "n": 1.50}')


def test_a_final_refusal_is_recorded_with_its_answer() -> None:
    ok, line = House(status(400, Trouble.FINAL)).recorded()

    assert not ok
    assert line["response"]["status_code"] == 400
    assert line["response"]["body"] == {"error": {"message": "no"}}
    assert line["error"] is None


def test_a_final_failure_without_an_answer_is_recorded_as_an_error() -> None:
    ok, line = House(Answer(Trouble.FINAL, error=("response_too_large", "Too large."))).recorded()

    assert not ok
    assert line["response"] is None
    assert line["error"] == {"code": "response_too_large", "message": "Too large."}


@pytest.mark.parametrize("faults", [0, 1])
@pytest.mark.parametrize("answer", [status(500, Trouble.FLAKY), BROKEN], ids=["500", "broken"])
def test_a_flaky_call_is_made_again(answer: Answer, faults: int) -> None:
    outcome = House(answer).attempt(calls=faults, faults=faults)

    assert isinstance(outcome, Retry)
    assert 0 <= outcome.delay_s <= 2.0 ** (faults + 1)
    assert (outcome.tries.calls, outcome.tries.faults) == (faults + 1, faults + 1)


def test_after_the_last_try_its_trouble_is_the_result() -> None:
    ok, line = House(status(500, Trouble.FLAKY)).recorded(calls=2, faults=2)
    broken_ok, broken = House(BROKEN).recorded(calls=2, faults=2)

    assert not ok
    assert not broken_ok
    assert line["response"]["status_code"] == 500
    assert broken["error"]["code"] == "connection_failed"


def test_a_call_that_met_a_time_limit_is_not_made_again() -> None:
    ok, line = House(TIMED_OUT).recorded()

    assert not ok
    assert line["error"]["code"] == "request_timeout"


@pytest.mark.parametrize("answer", [status(429, Trouble.AWAY), UNREACHABLE], ids=["429", "unreachable"])
def test_an_upstream_that_is_away_costs_none_of_the_few_tries(answer: Answer) -> None:
    outcome = House(answer).attempt(calls=50, faults=2)

    assert isinstance(outcome, Retry)
    assert (outcome.tries.calls, outcome.tries.faults) == (51, 2)


def test_a_retry_after_is_the_least_that_is_waited() -> None:
    outcome = House(status(429, Trouble.AWAY, retry_after_s=20.0)).attempt()

    assert isinstance(outcome, Retry)
    assert 20.0 <= outcome.delay_s <= 22.0


def test_a_wait_that_would_pass_the_deadline_ends_just_behind_it() -> None:
    outcome = House(status(429, Trouble.AWAY, retry_after_s=20.0)).attempt(left_s=19.0)

    assert isinstance(outcome, Retry)
    # A timer that fires a little early finds no time for a call.
    assert 19.01 < outcome.delay_s < 19.5


def test_past_the_deadline_no_call_is_made() -> None:
    house = House()

    assert isinstance(house.attempt(left_s=0.0), OutOfTime)
    assert house.upstream.calls == []


@pytest.mark.parametrize(("left_s", "timeout_s"), [(1_000.0, 60.0), (5.0, 5.0)])
def test_a_call_ends_by_its_timeout_or_the_deadline(left_s: float, timeout_s: float) -> None:
    house = House()

    house.attempt(left_s=left_s)

    assert house.upstream.calls[0][2] == pytest.approx(timeout_s)


@pytest.mark.parametrize("faults", [0, 2])
def test_a_call_that_the_deadline_broke_off_did_not_fail(faults: int) -> None:
    house = House()

    class SlowUpstream:
        async def call(self, endpoint: str, body: bytes, timeout_s: float, caller: Caller = ANYBODY) -> Answer:
            house.clock.advance(timeout_s)
            return TIMED_OUT

    service = ExecutionService(SlowUpstream(), house.clock, RetryPolicy(max_tries=3), call_timeout_s=60)
    outcome = attempt(service, house.clock.now() + 5, Tries(faults, faults))

    assert isinstance(outcome, OutOfTime)


@pytest.mark.parametrize(("after_s", "kind"), [(4.99, OutOfTime), (4.0, Result)])
def test_a_timer_that_the_deadline_set_may_fire_a_little_early(after_s: float, kind: type) -> None:
    house = House()

    class SlowUpstream:
        async def call(self, endpoint: str, body: bytes, timeout_s: float, caller: Caller = ANYBODY) -> Answer:
            house.clock.advance(after_s)
            return TIMED_OUT

    service = ExecutionService(SlowUpstream(), house.clock, RetryPolicy(max_tries=3), call_timeout_s=60)
    outcome = attempt(service, house.clock.now() + 5, Tries(2, 2))

    assert isinstance(outcome, kind)


def test_a_call_that_the_deadline_broke_off_did_not_fail_though_the_clock_was_set_back_meanwhile() -> None:
    house, steady = House(), FakeClock(0.0)

    class SlowUpstream:
        async def call(self, endpoint: str, body: bytes, timeout_s: float, caller: Caller = ANYBODY) -> Answer:
            house.clock.advance(timeout_s - 1.0)
            steady.advance(timeout_s)
            return TIMED_OUT

    policy = RetryPolicy(max_tries=3)
    service = ExecutionService(SlowUpstream(), house.clock, policy, call_timeout_s=60, steady=steady.now)
    outcome = attempt(service, house.clock.now() + 5, NO_TRIES)

    assert isinstance(outcome, OutOfTime)


def test_an_answer_that_comes_at_the_deadline_counts() -> None:
    house = House()

    class LateUpstream:
        async def call(self, endpoint: str, body: bytes, timeout_s: float, caller: Caller = ANYBODY) -> Answer:
            house.clock.advance(timeout_s)
            return good_answer()

    service = ExecutionService(LateUpstream(), house.clock, RetryPolicy(), call_timeout_s=60)
    outcome = attempt(service, house.clock.now() + 5, NO_TRIES)

    assert isinstance(outcome, Result)
    assert outcome.ok


def test_a_line_whose_tries_are_used_up_by_now_ends_as_what_it_met_last_without_a_call() -> None:
    house = House()

    outcome = attempt(house.service, house.clock.now() + 1_000, Tries(3, 3, last=Trouble.FLAKY, is_proven=True), BROKEN)

    assert isinstance(outcome, Result)
    assert b"connection_failed" in outcome.payload


def test_a_call_that_was_withheld_is_no_end_of_its_line() -> None:
    house = House(good_answer())

    outcome = attempt(
        house.service, house.clock.now() + 1_000, Tries(3, 3, last=Trouble.FLAKY), Answer(Trouble.WITHHELD)
    )

    assert isinstance(outcome, Result)
    assert outcome.ok
