from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from app.adapters.db.batch_store import SqlBatchStore
from app.adapters.db.engine import open_engine
from app.adapters.db.migrate import migrate
from app.domain.lifecycle import Status
from app.services.ports import Planned
from tests.unit.services.pipeline_house import NOW, new_batch


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlBatchStore]:
    engine: Engine = open_engine(f"sqlite:///{tmp_path / 'wylon.db'}")
    migrate(engine)
    yield SqlBatchStore(engine)
    engine.dispose()


def add(store: SqlBatchStore, tenant: str, count: int, expires_at: float) -> None:
    for number in range(count):
        batch = new_batch(f"batch_{tenant}_{number}", tenant_id=tenant, expires_at=expires_at + number)
        store.add(batch)
        store.accept(batch.id, Planned("plans/p", 1, 1, None), NOW)


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
