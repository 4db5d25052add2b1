import pytest

from app.domain.batch import Batch
from app.domain.errors import StateConflict
from app.domain.lifecycle import ACTIVE, RECORDING, TERMINAL, TRANSITIONS, Event, Status, next_status, shown, stamps

V, P, F, C, X = Status.VALIDATING, Status.IN_PROGRESS, Status.FINALIZING, Status.CANCELLING, Status.EXPIRING
# Written out once more, and by hand: a slip in the table would agree with itself.
EXPECTED = {
    (V, Event.ACCEPTED): P,
    (V, Event.REJECTED): Status.FAILED,
    (V, Event.CANCEL_REQUESTED): C,
    (V, Event.WINDOW_ELAPSED): X,
    (P, Event.ALL_RECORDED): F,
    (P, Event.CANCEL_REQUESTED): C,
    (P, Event.WINDOW_ELAPSED): X,
    (P, Event.GAVE_UP): Status.FAILED,
    (F, Event.CANCEL_REQUESTED): C,
    (F, Event.FILES_WRITTEN): Status.COMPLETED,
    (F, Event.GAVE_UP): Status.FAILED,
    (C, Event.FILES_WRITTEN): Status.CANCELLED,
    (C, Event.GAVE_UP): Status.FAILED,
    (X, Event.FILES_WRITTEN): Status.EXPIRED,
    (X, Event.GAVE_UP): Status.FAILED,
}


@pytest.mark.parametrize("event", list(Event))
@pytest.mark.parametrize("status", list(Status))
def test_every_event_in_every_status_leads_where_it_should_or_is_refused(status: Status, event: Event) -> None:
    expected = EXPECTED.get((status, event))

    if expected is None:
        with pytest.raises(StateConflict, match=str(event)):
            next_status(status, event)
    else:
        assert next_status(status, event) is expected


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_nothing_leaves_an_ending(status: Status) -> None:
    assert [event for source, event in TRANSITIONS if source is status] == []


@pytest.mark.parametrize("status", sorted(ACTIVE))
def test_every_other_status_reaches_an_ending(status: Status) -> None:
    reached, found = set(), {status}
    while found - reached:
        reached |= found
        found = {target for (source, _), target in TRANSITIONS.items() if source in reached}

    assert reached & TERMINAL


@pytest.mark.parametrize("status", list(Status))
def test_callers_never_see_expiring(status: Status) -> None:
    assert shown(status) is (Status.FINALIZING if status is Status.EXPIRING else status)


def test_a_refusal_speaks_of_the_status_that_callers_know() -> None:
    with pytest.raises(StateConflict, match="that is finalizing"):
        next_status(Status.EXPIRING, Event.ACCEPTED)


@pytest.mark.parametrize("status", list(Status))
def test_the_instants_that_a_status_stamps_are_fields_of_the_batch(status: Status) -> None:
    assert set(stamps(status)) <= set(Batch.__dataclass_fields__)


def test_expiring_stamps_what_finalizing_stamps() -> None:
    assert stamps(Status.EXPIRING) == stamps(Status.FINALIZING) == ("finalizing_at",)
    assert stamps(Status.VALIDATING) == ()
    assert stamps(Status.CANCELLED) == ("cancelled_at",)


def test_results_are_taken_in_no_ending() -> None:
    assert RECORDING < ACTIVE
