import pytest

from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.ports import LaneState, WorkerState
from app.services.sharing import window_lines
from bench.scaling_fleet import Commits, Fleet, window_of
from bench.scaling_simulation import Simulation


def test_a_fleet_with_room_for_it_runs_as_fast_as_its_calls_allow() -> None:
    outcome = Simulation(Fleet(workers=10, concurrency=8, call_s=1.0, lines_per_task=5)).run(6.0, 10.0)

    assert outcome.faults == []
    assert outcome.lines_run_twice == 0
    assert outcome.slots_used > 0.95
    assert outcome.lines_per_s == pytest.approx(80, rel=0.05)


def test_each_line_of_a_batch_is_run_once_from_its_first_to_its_last() -> None:
    fleet = Fleet(workers=5, concurrency=8, call_s=0.2, lines_per_task=3, batches=3, lines_per_batch=200)

    outcome = Simulation(fleet).run(2.0, 10.0)

    assert outcome.batches_ended > 5
    assert (outcome.lines_run_twice, outcome.faults) == (0, [])


def test_the_window_stays_bounded_and_no_batch_starves() -> None:
    fleet = Fleet(workers=4, concurrency=8, call_s=0.5, lines_per_task=10, batches=12)

    outcome = Simulation(fleet).run(5.0, 10.0)

    # Half a share for each batch beside the window, and up to a task of each over it.
    assert outcome.most_outstanding <= 1.5 * outcome.window + 12 * 10
    assert outcome.longest_wait_of_a_batch_s < 10 * fleet.call_s


def test_few_tasks_are_spread_over_all_workers() -> None:
    fleet = Fleet(workers=40, concurrency=20, call_s=1.0, lines_per_task=20, max_window=200)

    outcome = Simulation(fleet).run(5.0, 10.0)

    assert outcome.workers_idle < 0.05


def test_what_vanished_workers_held_runs_again() -> None:
    fleet = Fleet(workers=10, concurrency=8, call_s=0.5, lines_per_task=4, batches=2, lines_per_batch=400)
    simulation = Simulation(fleet)
    simulation.kill(0.3, 5.0)

    outcome = simulation.run(5.0, 40.0)

    assert outcome.lines_run_twice > 0
    assert outcome.batches_ended > 5
    assert outcome.faults == []


def test_transactions_of_one_batch_wait_for_each_other_and_others_do_not() -> None:
    commits = Commits(Fleet(workers=1, concurrency=1, call_s=1.0, commit_s=0.01, row_s=0.0))

    ends = [commits.end_of(0.0, {batch}, 1) for batch in ("a", "a", "b")]

    assert ends == pytest.approx([0.01, 0.02, 0.01])


def test_another_bound_of_the_window_holds_only_meanwhile() -> None:
    workers = [WorkerState("worker-1", (), {DEFAULT_UPSTREAM: LaneState(1_000)})]
    before = window_lines(workers)

    with window_of(7):
        assert window_lines(workers) == 7

    assert window_lines(workers) == before > 7
