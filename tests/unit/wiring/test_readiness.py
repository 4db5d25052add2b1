import threading

import pytest

from app.domain.errors import Unavailable
from app.wiring.readiness import HeldCheck


def test_a_check_is_made_once_for_all_who_ask_within_a_second() -> None:
    calls: list[int] = []
    check = HeldCheck(lambda: calls.append(1))

    for _ in range(5):
        check()

    assert len(calls) == 1


def test_a_fault_is_told_to_each_who_asks() -> None:
    def fail() -> None:
        raise OSError("gone")

    check = HeldCheck(fail)

    for _ in range(2):
        with pytest.raises(Unavailable, match="gone"):
            check()


def test_a_check_that_hangs_keeps_one_thread_alone() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        go_on.wait(60)

    check = HeldCheck(hang, patience_s=0.05)
    first = threading.Thread(target=check)
    first.start()
    assert begun.wait(60)

    with pytest.raises(Unavailable, match="no outcome yet"):
        check()

    go_on.set()
    first.join(60)
    check()
