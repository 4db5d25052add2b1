"""Checks of readiness that hang, fail, or are asked for by many."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.wiring.readiness import Readiness

WITHIN_S = 0.2


@pytest.fixture
def freed() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def fail() -> None:
    raise OSError("it is gone")


def test_checks_that_fail_are_named_with_their_reasons() -> None:
    assert Readiness().failing({"one": lambda: None, "other": fail}) == {"other": "it is gone"}


def test_a_check_that_hangs_is_named_in_time_and_not_run_a_second_time(freed: threading.Event) -> None:
    runs = []

    def hang() -> None:
        runs.append(1)
        freed.wait(30)

    readiness = Readiness(WITHIN_S)

    found = [readiness.failing({"hanging": hang, "working": lambda: None}) for _ in range(3)]

    assert found == [{"hanging": "no answer within 0.2 s"}] * 3
    assert len(runs) == 1


def test_a_check_that_hung_works_again_once_it_ends(freed: threading.Event) -> None:
    readiness = Readiness(WITHIN_S)
    checks = {"hanging": lambda: freed.wait(30) and None}
    assert readiness.failing(checks)

    freed.set()

    assert Readiness(30).failing(checks) == {}
    assert readiness.failing(checks) == {}


def test_many_at_once_share_one_look(freed: threading.Event) -> None:
    runs = []

    def look() -> None:
        runs.append(1)
        freed.wait(30)

    readiness = Readiness(30)
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(readiness.failing, {"one": look}) for _ in range(20)]
        freed.set()
        assert [one.result() for one in asked] == [{}] * 20

    assert len(runs) == 1
