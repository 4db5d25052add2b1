"""A batch is cancelled, expires, is given up or sealed in the midst of its acceptance, when it gets its sections."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from app.domain.batch import Batch
from app.domain.errors import StateConflict
from app.domain.lifecycle import Event, Status
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.ports import Planned
from tests.races.conftest import OpenSide
from tests.races.interleaving import COMMIT, WAIT_S, Stop, at_once, is_sqlite, meanwhile
from tests.races.sides import CHAT, LINES, NOW, TENANT, Side, result

ROUNDS = 20
LOCK_OF_SECTIONS = "SELECT sections.completed"
# SQLite has one lock for all rows.
with_locks_of_rows = pytest.mark.parametrize("open_side", ["postgresql"], indirect=True)
ENDS = {Event.CANCEL_REQUESTED: Status.CANCELLING, Event.WINDOW_ELAPSED: Status.EXPIRING}


def add_validating(side: Side, batch_id: str = "batch_1") -> None:
    values: dict[str, Any] = {"created_at": NOW, "expires_at": NOW + 86_400, "input_blob": f"files/{batch_id}"}
    side.batches.add(Batch(batch_id, TENANT, CHAT, "file-in", "24h", Status.VALIDATING, **values))


def accept(side: Side, batch_id: str = "batch_1") -> Batch:
    return side.batches.accept(batch_id, Planned("plans/p", 1, [(DEFAULT_UPSTREAM, LINES)], None), NOW)


@contextmanager
def standing_at_second(engine: Engine, statement: str, stop: Stop) -> Iterator[None]:
    """Have the engine's second statement that begins so wait at the stop."""
    seen: list[str] = []

    def look(_connection: object, _cursor: object, text_of: str, *_: object) -> None:
        if text_of.startswith(statement):
            seen.append(text_of)
            if len(seen) == 2:
                stop.stand()

    event.listen(engine, "before_cursor_execute", look)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", look)


@pytest.mark.parametrize("of", ENDS)
@pytest.mark.parametrize("at", ["INSERT INTO sections", COMMIT])
def test_an_end_amid_the_acceptance_waits_and_finds_the_sections(one: Side, other: Side, at: str, of: Event) -> None:
    add_validating(one)

    accepted, ended, has_waited = meanwhile(
        one, partial(accept, one), at, other, lambda: other.batches.advance("batch_1", of, NOW)
    )

    assert has_waited
    assert accepted.status is Status.IN_PROGRESS
    assert ended.status is ENDS[of]
    assert [section.end_line for section in ended.sections] == [LINES]


@with_locks_of_rows
@pytest.mark.parametrize("of", ENDS)
def test_an_end_that_the_acceptance_outran_holds_no_row_while_it_waits_for_the_sections(
    open_side: OpenSide, of: Event
) -> None:
    one, other, third = (open_side() for _ in range(3))
    add_validating(one)
    stop = Stop()
    end = partial(other.batches.advance, "batch_1", of, NOW)

    with ThreadPoolExecutor(1) as pool, standing_at_second(other.engine, LOCK_OF_SECTIONS, stop):
        try:
            both = pool.submit(meanwhile, one, partial(accept, one), COMMIT, other, end)
            assert stop.reached.wait(WAIT_S)
            # Locks in the order of everybody else, such as of a commit that records the last results.
            with third.engine.connect() as connection:
                connection.execute(text("SELECT 1 FROM sections WHERE batch_id = 'batch_1' FOR UPDATE"))
                connection.execute(text("SELECT 1 FROM batches WHERE id = 'batch_1' FOR UPDATE NOWAIT"))
        finally:
            stop.let_go()
        _, ended, has_waited = both.result(WAIT_S)

    assert has_waited
    assert ended == one.batch()
    assert ended.status is ENDS[of]


@with_locks_of_rows
@pytest.mark.parametrize(("of", "at"), [*((of, "SELECT batches.status") for of in ENDS), ("a seal", "SELECT batches.")])
def test_who_finds_a_batch_accepted_behind_the_search_for_its_sections_locks_these_before_the_batch(
    open_side: OpenSide, of: Any, at: str
) -> None:
    one, other, third = (open_side() for _ in range(3))
    add_validating(one)
    stop = Stop()

    def accept_and_cancel() -> None:
        accept(other)
        if of == "a seal":
            other.cancel()

    act = one.seal if of == "a seal" else partial(one.batches.advance, "batch_1", of, NOW)
    with ThreadPoolExecutor(1) as pool, standing_at_second(one.engine, LOCK_OF_SECTIONS, stop):
        try:
            both = pool.submit(meanwhile, one, act, at, other, accept_and_cancel)
            assert stop.reached.wait(WAIT_S)
            with third.engine.connect() as connection:
                connection.execute(text("SELECT 1 FROM batches WHERE id = 'batch_1' FOR UPDATE NOWAIT"))
        finally:
            stop.let_go()
        ended, _, _ = both.result(WAIT_S)

    assert ended.status is ENDS.get(of, Status.CANCELLING)
    assert len(ended.sections) == 1


def test_a_seal_amid_which_a_batch_is_accepted_and_cancelled_closes_the_sections(one: Side, other: Side) -> None:
    add_validating(one)

    def accept_and_cancel() -> Batch:
        accept(other)
        other.record(result(0))
        return other.cancel()

    # The seal has found no section, and is about to read the batch.
    sealed, cancelled, has_waited = meanwhile(one, one.seal, "SELECT batches.", other, accept_and_cancel)

    assert has_waited == is_sqlite(one)
    assert cancelled.status is Status.CANCELLING
    if is_sqlite(one):
        # The seal came before the acceptance.
        assert isinstance(sealed, StateConflict)
        return
    assert [section.recorded for section in sealed.sections] == [1]
    assert sealed.completed == 1
    assert other.record(result(1)) == []


def test_whoever_comes_first_none_waits_for_a_transaction_that_waits_for_it(open_side: OpenSide) -> None:
    sides = [open_side() for _ in range(6)]
    for number in range(ROUNDS):
        batch_id = f"batch_{number}"
        add_validating(sides[0], batch_id)
        advance = [
            partial(sides[2 + place].batches.advance, batch_id, event_of, NOW)
            for place, event_of in enumerate((*ENDS, Event.CANCEL_REQUESTED, Event.GAVE_UP))
        ]

        # A deadlock would be an error of one of them.
        outcomes = at_once(
            [partial(accept, sides[0], batch_id), partial(sides[1].record, result(0, batch_id)), *advance]
        )

        assert [type(outcome) for outcome in outcomes[:2]] in ([Batch, list], [StateConflict, list])
        assert {type(outcome) for outcome in outcomes[2:]} <= {Batch, StateConflict}
        assert sides[0].batch(batch_id).status in (*ENDS.values(), Status.FAILED)
