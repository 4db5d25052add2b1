"""What the stores promise of the sections of a batch, whose lines may go to several upstreams."""

import pytest

from app.domain.batch import Batch, InFlight, RunningTotal, Section
from app.domain.lifecycle import Event, Status
from app.services.ports import Progress
from tests.contracts.conftest import NOW, Stores, planned, result

# Of 51 lines each at 50 lines a task.
GPU_FIRST, GPU_END, CPU_END = 0, 2, 4


def found(stores: Stores, batch_id: str = "batch_1") -> Batch:
    batch = stores.batches.find(batch_id)
    assert batch is not None
    return batch


def cursors(stores: Stores) -> list[int]:
    return [section.next_task for section in found(stores).sections]


def recorded(stores: Stores) -> list[int]:
    return [section.recorded for section in found(stores).sections]


def test_accepting_keeps_the_sections(stores: Stores) -> None:
    batch = stores.add_mixed()

    assert batch == found(stores)
    assert batch.sections == (Section("gpu", 0, 2, 0, 51, next_task=0), Section("cpu", 2, 4, 51, 102, next_task=2))
    assert (batch.total, batch.tasks) == (102, CPU_END)


def test_accepting_keeps_the_one_upstream(stores: Stores) -> None:
    stores.add_batch()

    batch = stores.batches.accept("batch_1", planned(50, "gpu", per_task=7), NOW)

    assert batch == found(stores)
    assert batch.sections == (Section("gpu", 0, 8, 0, 50, next_task=0),)


def test_each_sections_cursor_moves_only_from_where_it_stands(stores: Stores) -> None:
    stores.add_mixed()

    moves = [stores.batches.move_cursor("batch_1", *move) for move in ((1, 2), (2, 3), (2, 4), (0, 1), (0, 2), (3, 4))]

    assert moves == [False, True, False, True, False, True]
    assert cursors(stores) == [1, 4]
    assert found(stores).tasks_dispatched == 3
    assert found(stores).lines_outstanding == 50 + 51


def test_where_one_section_ends_the_next_ones_cursor_is_its_own(stores: Stores) -> None:
    stores.add_mixed()
    stores.batches.move_cursor("batch_1", GPU_FIRST, GPU_END)

    is_moved = stores.batches.move_cursor("batch_1", GPU_END, GPU_END + 1)

    assert is_moved
    assert cursors(stores) == [GPU_END, GPU_END + 1]


def test_a_cursor_that_moves_and_results_that_come_change_no_other_batch(stores: Stores) -> None:
    stores.add_mixed()
    other = stores.add_mixed("batch_2")

    stores.batches.move_cursor("batch_1", GPU_FIRST, GPU_END)
    stores.results.record([result(0), result(51)])

    assert recorded(stores) == [1, 1]
    assert stores.batches.find("batch_2") == other


@pytest.mark.parametrize(("from_task", "to_task"), [(GPU_FIRST, GPU_END + 1), (GPU_END, CPU_END + 1), (GPU_END, 1)])
def test_no_cursor_moves_past_the_end_of_its_section_or_back(stores: Stores, from_task: int, to_task: int) -> None:
    batch = stores.add_mixed()

    assert stores.batches.move_cursor("batch_1", from_task, to_task) is False
    assert found(stores) == batch


def test_no_cursor_moves_past_the_last_task_of_a_batch_for_one_upstream(stores: Stores) -> None:
    batch = stores.add_running(total=10)

    assert stores.batches.move_cursor("batch_1", 0, batch.tasks + 1) is False
    assert found(stores) == batch


@pytest.mark.parametrize("event", [Event.CANCEL_REQUESTED, Event.WINDOW_ELAPSED])
def test_no_section_is_sent_once_the_batch_ends(stores: Stores, event: Event) -> None:
    stores.add_mixed()
    batch = stores.batches.advance("batch_1", event, NOW)

    assert stores.batches.move_cursor("batch_1", GPU_END, CPU_END) is False
    assert found(stores) == batch


def test_a_batch_is_to_be_sent_until_the_last_short_task_of_each_section_is(stores: Stores) -> None:
    stores.add_mixed()
    stores.batches.move_cursor("batch_1", GPU_END, CPU_END)
    stores.batches.move_cursor("batch_1", GPU_FIRST, GPU_FIRST + 1)
    with_one_line_left = [batch.id for batch in stores.batches.undispatched(10)]

    stores.batches.move_cursor("batch_1", GPU_FIRST + 1, GPU_END)

    assert with_one_line_left == ["batch_1"]
    assert stores.batches.undispatched(10) == []


def test_a_batch_with_lines_outstanding_in_one_section_is_found(stores: Stores) -> None:
    stores.add_mixed()
    stores.batches.move_cursor("batch_1", GPU_END, CPU_END)
    stores.results.record([result(position) for position in range(51, 101)])

    assert [batch.id for batch in stores.batches.in_flight()] == ["batch_1"]
    assert found(stores).lines_outstanding == 1


def test_totals_are_of_each_upstream_by_itself(stores: Stores) -> None:
    stores.add_mixed()
    stores.batches.move_cursor("batch_1", GPU_FIRST, GPU_END)
    stores.batches.move_cursor("batch_1", GPU_END, GPU_END + 1)
    stores.results.record([result(0), result(51), result(52, ok=False)])
    stores.add_mixed("batch_2", {"cpu": 10, "tpu": 10}, per_task=5, tenant_id="other")
    stores.batches.move_cursor("batch_2", 0, 1)
    stores.add_batch("batch_3")
    stores.batches.accept("batch_3", planned(10, "gpu"), NOW)
    stores.batches.move_cursor("batch_3", 0, 3)
    stores.add_mixed("batch_4")
    stores.batches.move_cursor("batch_4", GPU_FIRST, GPU_END)
    stores.batches.advance("batch_4", Event.CANCEL_REQUESTED, NOW)

    totals = stores.batches.outstanding_totals()

    assert totals == {
        ("gpu", "tenant"): RunningTotal(2, 50 + 6),
        ("cpu", "tenant"): RunningTotal(1, 48),
        ("cpu", "other"): RunningTotal(1, 5),
    }


def test_results_are_counted_for_their_section(stores: Stores) -> None:
    stores.add_mixed()

    stores.results.record([result(50), result(51, ok=False), result(101)])
    stores.results.record([result(0)])

    assert recorded(stores) == [2, 2]
    assert (found(stores).completed, found(stores).failed) == (3, 1)


def test_a_line_of_a_section_counts_once(stores: Stores) -> None:
    stores.add_mixed()
    stores.results.record([result(0), result(60)])

    stores.results.record([result(0, ok=False), result(60), result(61), result(61)])

    assert recorded(stores) == [1, 2]
    assert (found(stores).completed, found(stores).failed) == (3, 0)


def test_counting_results_leaves_the_cursors_where_they_are(stores: Stores) -> None:
    stores.add_mixed()
    stores.batches.move_cursor("batch_1", GPU_FIRST, GPU_FIRST + 1)

    stores.results.record([result(0)])
    stores.batches.move_cursor("batch_1", GPU_END, CPU_END)

    assert cursors(stores) == [GPU_FIRST + 1, CPU_END]
    assert recorded(stores) == [1, 0]


def test_progress_is_told_of_each_section_that_got_results(stores: Stores) -> None:
    stores.add_mixed()
    stores.batches.move_cursor("batch_1", GPU_FIRST, GPU_END)
    stores.batches.move_cursor("batch_1", GPU_END, GPU_END + 1)

    of_one = stores.results.record([result(0)])
    of_both = stores.results.record([result(51), result(1)])

    assert of_one == [Progress("batch_1", True, False, 50, "gpu")]
    assert sorted(of_both) == [
        Progress("batch_1", False, False, 49, "cpu"),
        Progress("batch_1", True, False, 49, "gpu"),
    ]


def test_a_section_is_recorded_whole_only_with_its_batch(stores: Stores) -> None:
    stores.add_mixed(lines={"gpu": 1, "cpu": 1})
    stores.batches.move_cursor("batch_1", 0, 1)
    stores.batches.move_cursor("batch_1", 1, 2)

    first = stores.results.record([result(0)])
    last = stores.results.record([result(1)])

    assert first == [Progress("batch_1", True, False, 0, "gpu")]
    assert last == [Progress("batch_1", True, True, 0, "cpu")]
    stores.batches.lease("batch_1", "mine")
    assert stores.batches.seal("batch_1", "mine", NOW).status is Status.FINALIZING


def test_a_sealed_mixed_batch_takes_no_result(stores: Stores) -> None:
    stores.add_mixed()
    stores.batches.advance("batch_1", Event.CANCEL_REQUESTED, NOW)
    stores.batches.lease("batch_1", "mine")
    stores.batches.seal("batch_1", "mine", NOW)

    assert stores.results.record([result(0), result(60)]) == []
    assert recorded(stores) == [0, 0]


def test_a_batch_whose_sections_end_in_short_tasks_is_out_of_flight_once_these_are_recorded(stores: Stores) -> None:
    stores.add_mixed(lines={"gpu": 51, "cpu": 1_000})
    stores.batches.move_cursor("batch_1", 0, 2)
    stores.results.record([result(position) for position in range(51)])

    assert stores.batches.in_flight() == []
    assert stores.batches.outstanding_totals() == {}
    assert [batch.id for batch in stores.batches.undispatched(10)] == ["batch_1"]


def test_what_is_in_flight_of_a_mixed_batch_is_told_by_section(stores: Stores) -> None:
    stores.add_mixed()
    stores.batches.move_cursor("batch_1", GPU_FIRST, GPU_END)
    stores.results.record([result(0)])

    (in_flight,) = stores.batches.in_flight()

    gpu, _ = found(stores).sections
    assert in_flight == InFlight("batch_1", 50, CPU_END, (gpu,))


def test_batches_with_lines_left_for_another_upstream_are_bound_elsewhere(stores: Stores) -> None:
    stores.add_mixed()
    stores.add_mixed("batch_partly", {"gpu": 2, "gone": 1})
    stores.add_mixed("batch_recorded", {"gpu": 2, "gone": 1})
    stores.results.record([result(2, batch_id="batch_recorded")])
    stores.add_batch("batch_gpu")
    stores.batches.accept("batch_gpu", planned(10, "gpu"), NOW)
    stores.add_batch("batch_gone")
    stores.batches.accept("batch_gone", planned(10, "gone"), NOW)

    assert stores.batches.bound_elsewhere({"gpu", "cpu"}) == [("gone", "batch_partly", 1), ("gone", "batch_gone", 10)]
