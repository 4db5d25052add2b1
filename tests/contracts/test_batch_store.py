"""What every store of batches promises, about rows and their status."""

from dataclasses import replace
from typing import Any

import pytest

from app.domain.batch import InFlight, LineError, RunningTotal, Section, Usage
from app.domain.errors import NotFound, StateConflict
from app.domain.file import File
from app.domain.lifecycle import TERMINAL, TRANSITIONS, Event, Status, stamps
from app.services.ports import Written
from tests.contracts.conftest import NOW, Stores, planned, result
from tests.fakes.stores import break_leases


def test_a_batch_reads_back_as_it_was_added(stores: Stores) -> None:
    batch = stores.add_batch(metadata={"team": "ümlaut"}, output_lifetime_s=3_600, api_key_id="key_1")

    assert stores.batches.find(batch.id) == batch
    assert stores.batches.get("tenant", batch.id) == batch


def test_the_bytes_of_an_input_are_known_also_once_its_file_is_deleted(stores: Stores) -> None:
    file = stores.add_file("file-in", blob="files/batch_1")
    stores.add_batch()
    assert stores.files.mark_deleted("tenant", "file-in", NOW)

    assert stores.batches.input_bytes("files/batch_1") == file.bytes
    assert stores.batches.input_bytes("files/unknown") is None


def test_another_tenant_sees_no_batch(stores: Stores) -> None:
    stores.add_batch()

    assert stores.batches.get("stranger", "batch_1") is None
    assert stores.batches.page("stranger", after=None, limit=10) == []
    with pytest.raises(NotFound):
        stores.batches.page("stranger", after="batch_1", limit=10)


def test_pages_are_newest_first_and_go_on_after_an_id(stores: Stores) -> None:
    for number in range(5):
        stores.add_batch(f"batch_{number}", created_at=NOW + number)
    stores.add_batch("batch_other", tenant_id="other", created_at=NOW + 9)

    first = stores.batches.page("tenant", after=None, limit=2)
    rest = stores.batches.page("tenant", after=first[-1].id, limit=10)

    assert [batch.id for batch in first] == ["batch_4", "batch_3"]
    assert [batch.id for batch in rest] == ["batch_2", "batch_1", "batch_0"]


def test_a_page_after_nothing_known_is_not_found(stores: Stores) -> None:
    with pytest.raises(NotFound):
        stores.batches.page("tenant", after="batch_unknown", limit=10)


@pytest.mark.parametrize("status", list(Status))
def test_an_event_moves_a_batch_as_the_table_says_or_not_at_all(stores: Stores, status: Status) -> None:
    # One database for all events of a status: making one for each would take most of the suite's time.
    for event in Event:
        batch_id = f"batch_{event}"
        stores.add_in(status, batch_id)
        before = stores.batches.find(batch_id)
        assert before is not None
        assert before.status is status

        if (status, event) in TRANSITIONS:
            moved = stores.batches.advance(batch_id, event, NOW + 5)
            expected: dict[str, Any] = dict.fromkeys(stamps(moved.status), NOW + 5) | {
                "status": TRANSITIONS[status, event]
            }
            if moved.status in TERMINAL:
                # An ended batch has nothing left to send.
                expected["sections"] = ()
            assert moved == replace(before, **expected)
        else:
            with pytest.raises(StateConflict):
                stores.batches.advance(batch_id, event, NOW + 5)
            moved = before
        assert stores.batches.find(batch_id) == moved


def test_an_event_for_no_batch_is_a_conflict(stores: Stores) -> None:
    with pytest.raises(StateConflict):
        stores.batches.advance("batch_unknown", Event.ACCEPTED, NOW)


def test_accepting_keeps_the_plan(stores: Stores) -> None:
    stores.add_batch()

    batch = stores.batches.accept("batch_1", planned(50, per_task=7, plan_blob="plans/x"), NOW + 3)

    assert batch == stores.batches.find("batch_1")
    assert (batch.status, batch.in_progress_at) == (Status.IN_PROGRESS, NOW + 3)
    assert (batch.plan_blob, batch.lines_per_task, batch.total, batch.model) == ("plans/x", 7, 50, "small")


def test_rejecting_keeps_the_reasons_in_order(stores: Stores) -> None:
    errors = (LineError("a", "first", 1, "body"), LineError("b", "second, with “marks”"))
    stores.add_batch()

    batch = stores.batches.reject("batch_1", errors, NOW + 3)

    assert batch == stores.batches.find("batch_1")
    assert (batch.status, batch.failed_at, batch.errors) == (Status.FAILED, NOW + 3, errors)


@pytest.mark.parametrize("status", [Status.IN_PROGRESS, Status.FINALIZING, Status.CANCELLING, Status.EXPIRING])
def test_a_batch_that_is_given_up_says_why_and_keeps_its_results(stores: Stores, status: Status) -> None:
    stores.add_in(status)
    reasons = [LineError("input_missing", "The bytes are gone.", param="file_id")]

    batch = stores.batches.give_up("batch_1", reasons, NOW + 5)

    assert (batch.status, batch.errors, batch.failed_at) == (Status.FAILED, tuple(reasons), NOW + 5)
    assert stores.results.clear(10) == 0
    assert [position for position, *_ in stores.results.read("batch_1")] == [0, 1, 2]
    with pytest.raises(StateConflict):
        stores.batches.give_up("batch_1", reasons, NOW + 6)


def test_a_cancelled_batch_is_neither_accepted_nor_rejected(stores: Stores) -> None:
    stores.add_in(Status.VALIDATING)
    stores.batches.advance("batch_1", Event.CANCEL_REQUESTED, NOW)

    with pytest.raises(StateConflict):
        stores.batches.accept("batch_1", planned(1), NOW)
    with pytest.raises(StateConflict):
        stores.batches.reject("batch_1", [], NOW)
    batch = stores.batches.find("batch_1")
    assert batch is not None
    assert (batch.status, batch.plan_blob, batch.total) == (Status.CANCELLING, None, 0)


def test_the_cursor_moves_only_from_where_it_is(stores: Stores) -> None:
    stores.add_running(total=10)

    assert stores.batches.move_cursor("batch_1", 0, 2) is True
    assert stores.batches.move_cursor("batch_1", 0, 3) is False
    assert stores.batches.move_cursor("batch_1", 2, 5) is True
    batch = stores.batches.find("batch_1")
    assert batch is not None
    assert batch.tasks_dispatched == 5


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.IN_PROGRESS}))
def test_nothing_is_sent_unless_in_progress(stores: Stores, status: Status) -> None:
    stores.add_in(status)

    assert stores.batches.move_cursor("batch_1", 0, 1) is False
    assert stores.batches.move_cursor("batch_unknown", 0, 1) is False


def test_active_batches_are_all_that_have_not_ended(stores: Stores) -> None:
    for status in Status:
        stores.add_in(status, f"batch_{status}")
    stores.add_running("batch_unsent")

    assert stores.batches.active_ids() == {
        f"batch_{name}" for name in ("validating", "in_progress", "finalizing", "cancelling", "expiring", "unsent")
    }


def test_expired_are_those_past_their_window_that_it_ends_by_deadline(stores: Stores) -> None:
    for number, status in enumerate(Status):
        stores.add_in(status, f"batch_{status}")
        stores.add_running(f"batch_over_{number}", expires_at=NOW + 20 - number)
    stores.add_batch("batch_waits", expires_at=NOW + 21)
    stores.add_batch("batch_over", expires_at=NOW + 20.5)
    add_sent(stores, "batch_sent", 2, expires_at=NOW + 1)
    add_sent(stores, "batch_recorded", 2, recorded=3, expires_at=NOW + 2)

    found = [batch.id for batch in stores.batches.expired(NOW + 20.5, 100)]

    running = [f"batch_over_{number}" for number in reversed(range(len(Status)))]
    assert found == ["batch_sent", "batch_recorded", *running, "batch_over"]
    assert [batch.id for batch in stores.batches.expired(NOW + 20.5, 2)] == found[:2]
    assert stores.batches.expired(NOW, 2) == []


def add_sent(stores: Stores, batch_id: str, tasks: int, recorded: int = 0, **fields: object) -> None:
    """Add a running batch of three lines in two tasks, some of them sent."""
    stores.add_running(batch_id, **fields)
    stores.batches.move_cursor(batch_id, 0, tasks)
    stores.results.record([result(position, batch_id=batch_id) for position in range(recorded)])


def test_batches_with_lines_to_send_come_by_deadline_without_those_sent_whole(stores: Stores) -> None:
    add_sent(stores, "batch_late", 1, expires_at=NOW + 30)
    add_sent(stores, "batch_whole", 2, expires_at=NOW + 10)
    add_sent(stores, "batch_unsent", 0, expires_at=NOW + 20)
    stores.add_batch("batch_validating")
    stores.add_in(Status.CANCELLING, "batch_cancelling")

    found = stores.batches.undispatched(10)

    assert [batch.id for batch in found] == ["batch_unsent", "batch_late"]
    assert [batch.id for batch in stores.batches.undispatched(1)] == ["batch_unsent"]


def test_in_flight_are_the_batches_with_lines_outstanding_by_deadline(stores: Stores) -> None:
    add_sent(stores, "batch_b", 1, expires_at=NOW + 20)
    add_sent(stores, "batch_a", 2, recorded=2, expires_at=NOW + 20)
    add_sent(stores, "batch_soon", 2, expires_at=NOW + 10.1)
    add_sent(stores, "batch_recorded", 1, recorded=2, expires_at=NOW + 5)
    add_sent(stores, "batch_unsent", 0, expires_at=NOW + 5)
    add_sent(stores, "batch_whole", 2, recorded=3, expires_at=NOW + 5)
    stores.add_in(Status.CANCELLING, "batch_cancelling")

    assert stores.batches.in_flight() == [
        InFlight("batch_soon", 2, 2, (Section("default", 0, 2, 0, 3, 2, 0),)),
        InFlight("batch_b", 2, 2, (Section("default", 0, 2, 0, 3, 1, 0),)),
        InFlight("batch_a", 2, 2, (Section("default", 0, 2, 0, 3, 2, 2),)),
    ]


def test_totals_are_of_all_that_is_outstanding_by_tenant(stores: Stores) -> None:
    add_sent(stores, "batch_1", 1, recorded=1)
    add_sent(stores, "batch_2", 2)
    add_sent(stores, "batch_3", 1, tenant_id="other")
    add_sent(stores, "batch_unsent", 0)
    add_sent(stores, "batch_idle", 1, recorded=2)
    stores.add_in(Status.CANCELLING, "batch_cancelling")

    totals = stores.batches.outstanding_totals()

    assert totals == {("default", "tenant"): RunningTotal(2, 1 + 3), ("default", "other"): RunningTotal(1, 2)}


def test_statuses_leave_out_what_is_not_there(stores: Stores) -> None:
    stores.add_batch("batch_1")
    stores.add_in(Status.CANCELLED, "batch_2")

    found = stores.batches.statuses(["batch_1", "batch_2", "batch_unknown"])

    assert found == {"batch_1": Status.VALIDATING, "batch_2": Status.CANCELLED}
    assert stores.batches.statuses([]) == {}


def test_finishing_adds_the_files_and_the_usage(stores: Stores) -> None:
    stores.add_running(total=2)
    stores.results.record([result(0)._replace(usage=Usage(1, 2, 3, 4)), result(1)._replace(usage=Usage(10, 0, 0, 0))])
    stores.batches.lease("batch_1", "mine")
    stores.batches.seal("batch_1", "mine", NOW)
    output = File("file-out", "tenant", "batch_output", "out.jsonl", 5, "files/out", NOW, NOW + 9)

    batch = stores.batches.finish("batch_1", Written(output, None), "mine", NOW + 3)

    assert batch == stores.batches.find("batch_1")
    assert (batch.status, batch.completed_at) == (Status.COMPLETED, NOW + 3)
    assert (batch.output_file_id, batch.error_file_id) == ("file-out", None)
    assert (batch.completed, batch.usage) == (2, Usage(11, 2, 3, 4))
    assert stores.files.get("tenant", "file-out", NOW) == output


def test_finishing_a_batch_that_was_never_validated_sets_its_total(stores: Stores) -> None:
    stores.add_batch("batch_1")
    stores.batches.advance("batch_1", Event.CANCEL_REQUESTED, NOW)
    stores.batches.lease("batch_1", "mine")
    stores.batches.seal("batch_1", "mine", NOW)

    batch = stores.batches.finish("batch_1", Written(None, None, 7), "mine", NOW + 3)

    assert (batch.status, batch.total, batch.completed, batch.failed) == (Status.CANCELLED, 7, 0, 0)


def test_finishing_with_a_lost_lease_changes_nothing(stores: Stores) -> None:
    stores.add_recorded()
    stores.batches.lease("batch_1", "mine")
    stores.batches.seal("batch_1", "mine", NOW)
    break_leases(stores.batches)
    stores.batches.lease("batch_1", "other")
    output = File("file-out", "tenant", "batch_output", "out.jsonl", 5, "files/out", NOW)

    with pytest.raises(StateConflict):
        stores.batches.finish("batch_1", Written(output, None), "mine", NOW + 62)

    batch = stores.batches.find("batch_1")
    assert batch is not None
    assert (batch.status, batch.output_file_id) == (Status.FINALIZING, None)
    assert stores.files.get("tenant", "file-out", NOW) is None


def test_batches_that_have_not_ended_are_counted_by_status(stores: Stores) -> None:
    assert stores.batches.count_active() == {}
    for number, status in enumerate([Status.VALIDATING, Status.IN_PROGRESS, Status.IN_PROGRESS, Status.COMPLETED]):
        stores.add_in(status, f"batch_{number}")

    assert stores.batches.count_active() == {Status.VALIDATING: 1, Status.IN_PROGRESS: 2}
