import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from workers.intake import let_others_go_first

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the policies are Linux's")


def policy_after(*steps: Callable[[], object]) -> int:
    """Return the policy that a thread of its own has after these; it begins with the usual one."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(os.sched_setscheduler, 0, os.SCHED_OTHER, os.sched_param(0)).result()
        for step in steps:
            thread.submit(step).result()
        return thread.submit(os.sched_getscheduler, 0).result()


def test_a_worker_waits_for_the_turns_of_others_to_end() -> None:
    assert policy_after(let_others_go_first) == os.SCHED_BATCH


def test_a_worker_keeps_the_policy_that_its_operator_gave_it() -> None:
    def ask_for_idle() -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

    assert policy_after(ask_for_idle, let_others_go_first) == os.SCHED_IDLE


@pytest.mark.parametrize("name", ["sched_getscheduler", "sched_setscheduler"])
def test_a_worker_starts_where_policies_are_forbidden(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def forbid(*_: object) -> None:
        raise PermissionError

    before = os.sched_getscheduler(0)

    with monkeypatch.context() as forbidding:
        forbidding.setattr(os, name, forbid)
        let_others_go_first()

    assert os.sched_getscheduler(0) == before
