"""What a worker makes of what the others of an upstream said of themselves."""

import pytest

from app.domain.fellows import Fellows, Report

OWN = 40


def hear(fellows: Fellows, *others: Report, at: float) -> float | None:
    """Hear at this instant what others say beside this worker; return since when that was not known."""
    fellows.hear(0, [Report(OWN, 0, at=at), *others], OWN, at, is_starting=False)
    return fellows.wrong_since


@pytest.fixture
def fellows() -> Fellows:
    """One that has heard of two others, 2.0 being now."""
    fellows = Fellows()
    hear(fellows, Report(20, 0, at=1.3), Report(20, 0, at=1.8), at=2.0)
    return fellows


def test_others_that_stay_about_as_they_were_are_what_they_were_taken_for(fellows: Fellows) -> None:
    assert hear(fellows, Report(25, 0, at=2.3), Report(22, 0, at=2.8), at=3.0) is None


def test_one_that_moved_may_have_done_so_ever_since_its_report_before(fellows: Fellows) -> None:
    assert hear(fellows, Report(60, 0, at=2.3), Report(20, 0, at=2.8), at=3.0) == 1.3


def test_one_that_moved_by_little_does_not_make_it_wrong_for_longer_than_the_one_that_moved(fellows: Fellows) -> None:
    assert hear(fellows, Report(23, 0, at=2.3), Report(60, 0, at=2.8), at=3.0) == 1.8


def test_what_one_leaves_and_another_takes_is_no_move(fellows: Fellows) -> None:
    assert hear(fellows, Report(0, 0, at=2.3), Report(40, 0, at=2.8), at=3.0) is None


@pytest.mark.parametrize(("clock_is_off_s", "wrong_since"), [(-3600.0, 2.0 - 1.1), (3600.0, 2.0)])
def test_a_clock_that_is_off_changes_that_by_no_more_than_a_report(clock_is_off_s: float, wrong_since: float) -> None:
    fellows = Fellows()
    hear(fellows, Report(20, 0, at=1.5 + clock_is_off_s), at=2.0)

    assert hear(fellows, Report(60, 0, at=2.5 + clock_is_off_s), at=3.0) == pytest.approx(wrong_since)


def test_one_that_came_is_reckoned_with_from_when_the_others_were_heard(fellows: Fellows) -> None:
    newcomers = (Report(20, 0, at=2.3), Report(20, 0, at=2.8), Report(60, 0, at=2.9))

    assert hear(fellows, *newcomers, at=3.0) == 2.0
