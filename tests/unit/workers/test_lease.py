import shutil
import subprocess
import sys

import pytest

from app.services.ports import REPORT_LIFETIME_S
from tests.fakes.outside import FakeClock
from workers.lease import Lease


def test_nothing_is_held_before_the_first_report() -> None:
    lease = Lease(FakeClock().now)

    assert not lease.is_held()
    assert not lease.covers(lease.term)


def test_a_report_holds_for_as_long_as_the_roster_believes_it() -> None:
    clock = FakeClock()
    lease = Lease(clock.now)
    lease.extend(lease.now())

    clock.advance(REPORT_LIFETIME_S - 0.01)
    in_time = lease.covers(lease.term)
    clock.advance(0.01)

    assert in_time
    assert not lease.covers(lease.term)


def test_reports_without_a_gap_keep_the_term() -> None:
    clock = FakeClock()
    lease = Lease(clock.now)
    lease.extend(lease.now())
    term = lease.term

    for _ in range(10):
        clock.advance(1)
        assert lease.extend(lease.now()) is False

    assert lease.covers(term)


def test_what_was_taken_up_before_a_lapse_is_not_held_after_it() -> None:
    clock = FakeClock()
    lease = Lease(clock.now)
    lease.extend(lease.now())
    before = lease.term

    clock.advance(60)

    assert lease.extend(lease.now()) is True
    assert not lease.covers(before)
    assert lease.covers(lease.term)


def test_a_report_that_took_long_to_arrive_counts_from_when_it_left() -> None:
    clock = FakeClock()
    lease = Lease(clock.now)
    left_at = lease.now()
    clock.advance(REPORT_LIFETIME_S)

    lease.extend(left_at)

    assert not lease.is_held()


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no program unshare to make a time namespace with")
def test_a_lease_lapses_while_its_machine_is_suspended() -> None:
    # In a time namespace, as if the machine had slept for an hour.
    look = "import time; from workers.lease import Lease; print(Lease().now() - time.monotonic())"
    slept = subprocess.run(
        ["unshare", "--time", "--boottime", "3600", "--fork", sys.executable, "-c", look],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if slept.returncode and "unshare" in slept.stderr:
        pytest.skip(f"No time namespace can be made here: {slept.stderr.strip()}")

    assert slept.returncode == 0, slept.stderr
    assert float(slept.stdout) >= 3_599
