from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from app.adapters.db.batch_store import SqlBatchStore
from app.adapters.db.engine import open_engine
from app.adapters.db.migrate import migrate
from app.domain.batch import RunningTotal, cut_into_sections
from app.domain.lifecycle import Status
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.ports import Planned
from tests.unit.services.pipeline_house import NOW, new_batch


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'wylon.db'}")
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> SqlBatchStore:
    return SqlBatchStore(engine)


def add(store: SqlBatchStore, tenant: str, count: int, expires_at: float, *upstreams: str) -> None:
    for number in range(count):
        name = "_".join([tenant, *upstreams, str(number)])
        batch = new_batch(f"batch_{name}", tenant_id=tenant, expires_at=expires_at + number)
        store.add(batch)
        first = upstreams[0] if upstreams else DEFAULT_UPSTREAM
        mixed = cut_into_sections([(upstream, 1) for upstream in upstreams], 1) if len(upstreams) > 1 else ()
        store.accept(batch.id, Planned("plans/p", 1, max(len(mixed), 1), None, first, mixed), NOW)


def test_a_tenant_with_more_batches_than_are_looked_at_leaves_room_for_others(store: SqlBatchStore) -> None:
    add(store, "many", 12, expires_at=NOW + 10)
    add(store, "few", 2, expires_at=NOW + 10_000)

    found = store.undispatched(6)

    assert found == store.active(6, {Status.IN_PROGRESS})
    assert [batch.id for batch in found] == [
        *(f"batch_many_{number}" for number in range(4)),
        "batch_few_0",
        "batch_few_1",
    ]


def test_a_tenant_alone_has_all_the_places(store: SqlBatchStore) -> None:
    add(store, "many", 12, expires_at=NOW + 10)

    assert [batch.id for batch in store.active(6, {Status.IN_PROGRESS})] == [f"batch_many_{n}" for n in range(6)]


def test_places_count_among_the_statuses_asked_for(store: SqlBatchStore) -> None:
    add(store, "many", 4, expires_at=NOW + 10)
    store.add(new_batch("batch_validating", tenant_id="few"))
    add(store, "few", 1, expires_at=NOW + 10_000)

    found = store.active(2, {Status.IN_PROGRESS})

    assert [batch.id for batch in found] == ["batch_many_0", "batch_few_0"]


def test_batches_that_wait_for_one_upstream_leave_room_for_the_tenants_others(store: SqlBatchStore) -> None:
    add(store, "tenant", 12, NOW + 10, "slow")
    add(store, "tenant", 2, NOW + 10_000, "fast")
    # Most of these wait for the first of the two only.
    add(store, "tenant", 12, NOW + 20, "fast", "slow")

    found = [batch.id for batch in store.undispatched(8)]

    assert found == [
        *(f"batch_tenant_slow_{number}" for number in range(3)),
        *(f"batch_tenant_fast_slow_{number}" for number in range(3)),
        *(f"batch_tenant_fast_{number}" for number in range(2)),
    ]


def test_a_tenant_with_many_upstreams_has_no_more_places_than_others(store: SqlBatchStore) -> None:
    for upstream in ("a", "b", "c", "d"):
        add(store, "many", 4, NOW + 10, upstream)
    add(store, "few", 4, NOW + 10_000, "a")

    found = [batch.tenant_id for batch in store.undispatched(6)]

    assert found == ["many"] * 3 + ["few"] * 3


def test_totals_read_no_more_of_a_mixed_batch_than_they_are_made_of(engine: Engine, store: SqlBatchStore) -> None:
    add(store, "tenant", 2, NOW + 10, "gpu", "cpu")
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *call: statements.append(call[2]))

    totals = store.running_totals()

    assert totals == {("gpu", "tenant"): RunningTotal(2, 0), ("cpu", "tenant"): RunningTotal(2, 0)}
    # Errors and metadata are parsed for each row, and may be large.
    assert not [statement for statement in statements if "errors" in statement or "metadata" in statement]
