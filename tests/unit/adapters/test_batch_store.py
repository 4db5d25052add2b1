from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from app.adapters.db.batch_store import SqlBatchStore
from app.adapters.db.engine import open_engine
from app.adapters.db.migrate import migrate
from app.domain.batch import RunningTotal
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


def test_totals_read_no_more_of_a_mixed_batch_than_they_are_made_of(engine: Engine, store: SqlBatchStore) -> None:
    for batch_id in ("batch_1", "batch_2"):
        store.add(new_batch(batch_id, tenant_id="tenant"))
        store.accept(batch_id, Planned("plans/p", 1, [("gpu", 1), ("cpu", 1)], None), NOW)
        assert store.move_cursor(batch_id, 0, 1)
        assert store.move_cursor(batch_id, 1, 2)
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *call: statements.append(call[2]))

    totals = store.outstanding_totals()

    assert totals == {("gpu", "tenant"): RunningTotal(2, 2), ("cpu", "tenant"): RunningTotal(2, 2)}
    # Errors and metadata are parsed for each row, and may be large.
    assert not [statement for statement in statements if "errors" in statement or "metadata" in statement]
