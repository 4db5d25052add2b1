"""Which of several workers looks for what their upstream has room for."""

from app.domain.concurrency import ConcurrencyLimit, Outcome, Report

IDLE = Report(0, 0)


def calling(limit: ConcurrencyLimit, at: float) -> ConcurrencyLimit:
    """Have a worker begin a call."""
    limit.begin(at)
    return limit


def leads(limit: ConcurrencyLimit) -> bool:
    return limit.report(1.0).leads_since > 0


def test_a_worker_that_begins_where_nobody_calls_leads_from_its_first_call_on() -> None:
    limit = ConcurrencyLimit(64)
    limit.set_workers(0, [IDLE, IDLE], 64, 1.0)

    limit.begin(1.5)

    assert limit.report(1.0).leads_since == 1.5


def test_who_began_first_goes_on_leading_beside_one_that_comes_before_it_by_name() -> None:
    limit = calling(ConcurrencyLimit(64), 1.0)

    limit.set_workers(1, [Report(64, 0, leads_since=1.2), limit.report(1.0)], 64, 2.0)

    assert leads(limit)


def test_who_began_later_leaves_the_lead_to_the_other() -> None:
    limit = calling(ConcurrencyLimit(64), 1.2)

    limit.set_workers(0, [limit.report(1.0), Report(64, 40, leads_since=1.0)], 64, 2.0)

    assert not leads(limit)
    assert (limit.limit, limit.reason) == (20, "others")


def test_a_worker_that_finds_another_leading_does_not_lead_when_it_begins() -> None:
    limit = ConcurrencyLimit(64)
    limit.set_workers(0, [IDLE, Report(16, 0, leads_since=0.5)], 64, 1.0)

    limit.begin(1.5)

    assert not leads(limit)


def test_of_those_that_call_and_do_not_lead_the_first_by_name_takes_the_lead_over() -> None:
    limit = calling(ConcurrencyLimit(64), 2.0)
    limit.set_workers(0, [limit.report(1.0), IDLE, Report(40, 60, leads_since=1.0)], 64, 3.0)

    limit.set_workers(0, [limit.report(1.0), Report(20, 0)], 64, 4.0)

    assert limit.report(1.0).leads_since == 4.0


def test_a_leader_that_has_had_no_calls_for_some_reports_leads_no_more() -> None:
    limit = ConcurrencyLimit(64)
    limit.set_workers(0, [IDLE, IDLE], 64, 0.0)
    limit.end(limit.begin(1.0), 1.5, Outcome.ANSWERED)
    assert leads(limit)

    for second in range(2, 6):
        limit.set_workers(0, [limit.report(1.0), IDLE], 64, second)

    assert not leads(limit)


def test_a_leader_without_a_call_for_a_moment_does_not_wait_for_itself() -> None:
    limit = ConcurrencyLimit(64)
    limit.set_workers(0, [IDLE, IDLE], 64, 0.5)
    call = limit.begin(1.0)
    limit.set_workers(0, [limit.report(1.0), IDLE], 64, 1.5)
    limit.end(call, 1.8, Outcome.ANSWERED)
    limit.set_workers(0, [limit.report(1.0), IDLE], 64, 2.5)

    limit.begin(2.6)
    limit.tick(2.6)
    limit.tick(2.65)

    assert limit.limit > 16
