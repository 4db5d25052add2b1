"""Every query that is made again and again finds what it looks for by an index, however many batches have ended."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from app.adapters.db.batch_store import SqlBatchStore
from app.adapters.db.engine import open_engine
from app.adapters.db.file_store import SqlFileStore
from app.adapters.db.migrate import migrate
from app.adapters.db.result_store import SqlResultStore
from app.adapters.db.trial_store import SqlTrialStore
from app.domain.lifecycle import Event, Status
from bench.old_batches import add_ended
from tests.contracts.conftest import NOW, planned, result, stores_over

# So many that no database takes a scan of the table for the shorter way.
ENDED, RECORDED_SECTIONS = 10_000, 20_000


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A database of many batches that have ended, and one in each other state there is."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('stages') / 'wylon.db'}"
    else:
        server = request.getfixturevalue("_postgres_server")
        url = server.url(server.create_database())
    engine = open_engine(url)
    migrate(engine)
    add_ended(engine, ENDED)
    add_recorded_sections(engine, RECORDED_SECTIONS)
    arrange_each_status(engine)
    if request.param == "postgresql":
        with engine.connect() as connection:
            connection.execute(text("ANALYZE"))
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    is_sqlite = request.param == "sqlite"
    engine = open_engine(f"sqlite:///{tmp_path / 'wylon.db'}" if is_sqlite else request.getfixturevalue("postgres_url"))
    migrate(engine)
    yield engine
    engine.dispose()


def add_recorded_sections(engine: Engine, count: int) -> None:
    """Add sections that are recorded whole, of batches with other sections that wait for long."""
    statement = text(
        "INSERT INTO sections (batch_id, number, seq, tenant_id, expires_at, lines_per_task, batch_tasks, upstream,"
        " first_task, end_task, first_line, end_line, next_task, is_sending, is_open, completed, failed, recorded)"
        " VALUES (:id, 0, 1, 'tenant', 1, 1, 2, 'gpu', 0, 1, 0, 1, 1, :yes, :yes, 1, 0, :bits)"
    )
    with engine.begin() as connection:
        rows = [{"id": f"batch_half_{number}", "yes": True, "bits": b"\x01"} for number in range(count)]
        connection.execute(statement, rows)


def arrange_each_status(engine: Engine) -> None:
    """Add a batch in each status there is, so that no query ends before its last statement."""
    stores = stores_over(engine)
    for status in Status:
        stores.add_in(status, f"batch_{status}")
    stores.add_running("batch_new")
    stores.add_mixed("batch_mixed")
    assert stores.batches.move_cursor("batch_mixed", 0, 1)
    stores.trials.begin("batch_completed", 1)
    stores.add_file("file-gone")
    stores.files.mark_deleted("tenant", "file-gone", NOW)
    stores.add_file("file-expired", expires_at=NOW - 1)


def test_a_batch_that_has_ended_and_has_nothing_to_clear_has_no_stage(fresh: Engine) -> None:
    arrange_each_status(fresh)

    with fresh.connect() as connection:
        stages = dict(connection.execute(text("SELECT id, stage FROM batches WHERE stage IS NOT NULL")).all())

    assert stages == {
        "batch_validating": "validating",
        "batch_in_progress": "recorded",
        "batch_finalizing": "finalizing",
        "batch_cancelling": "cancelling",
        "batch_expiring": "expiring",
        "batch_completed": "uncleared",
        "batch_cancelled": "uncleared",
        "batch_expired": "uncleared",
        "batch_new": "in_progress",
        "batch_mixed": "in_progress",
    }


def test_only_a_section_with_lines_that_lack_a_result_and_may_be_sent_has_a_stage(fresh: Engine) -> None:
    arrange_each_status(fresh)

    with fresh.connect() as connection:
        query = text("SELECT batch_id, upstream, stage FROM sections WHERE stage IS NOT NULL ORDER BY 1, number")
        stages = [tuple(row) for row in connection.execute(query)]

    assert stages == [
        ("batch_mixed", "gpu", "sending"),
        ("batch_mixed", "cpu", "new"),
        ("batch_new", "default", "new"),
    ]


PERIODIC: dict[str, Callable[[Engine], object]] = {
    "expired": lambda engine: SqlBatchStore(engine).expired(NOW + 1e6, 500),
    "stalled": lambda engine: SqlBatchStore(engine).stalled(500),
    "undispatched": lambda engine: SqlBatchStore(engine).undispatched(200),
    "outstanding_totals": lambda engine: SqlBatchStore(engine).outstanding_totals(),
    "in_flight": lambda engine: SqlBatchStore(engine).in_flight(),
    "active_ids": lambda engine: SqlBatchStore(engine).active_ids(),
    "unrecorded": lambda engine: SqlResultStore(engine).unrecorded(["batch_mixed", "batch_new"]),
    "a record": lambda engine: SqlResultStore(engine).record([result(0, batch_id="batch_mixed")]),
    "a look-up": lambda engine: SqlBatchStore(engine).get("tenant", "batch_mixed"),
    "bound_elsewhere": lambda engine: SqlBatchStore(engine).bound_elsewhere({"gpu"}),
    "clear results": lambda engine: SqlResultStore(engine).clear(2),
    "clear trials": lambda engine: SqlTrialStore(engine).clear(),
    "removable files": lambda engine: SqlFileStore(engine).removable(NOW, 200),
    "a tenant's list": lambda engine: SqlBatchStore(engine).page("tenant", after="batch_new", limit=20),
    "a tenant's files": lambda engine: SqlFileStore(engine).page(
        "tenant", NOW, purpose=None, after=None, limit=20, newest_first=True
    ),
}


@pytest.mark.parametrize("name", PERIODIC)
def test_what_is_asked_again_and_again_scans_no_table(engine: Engine, name: str) -> None:
    plans = explained(engine, lambda: PERIODIC[name](engine))

    assert plans
    for statement, plan in plans:
        assert not [step for step in plan if is_scan(step)], (statement, plan)


def test_expired_files_are_found_by_when_they_expire(engine: Engine) -> None:
    plans = explained(engine, lambda: SqlFileStore(engine).removable(NOW, 200))

    (plan,) = [plan for statement, plan in plans if statement.startswith("SELECT") and "expires_at <=" in statement]
    assert any("ix_files_expires" in step for step in plan), plan


def test_a_list_of_one_purpose_reads_the_files_of_that_purpose_alone(engine: Engine) -> None:
    page = partial(SqlFileStore(engine).page, "tenant", NOW, purpose="batch_output", after=None, limit=20)

    (plan,) = [plan for statement, plan in explained(engine, lambda: page(newest_first=True)) if "purpose" in statement]

    assert any("ix_files_tenant_purpose_seq" in step for step in plan), plan


def explained(engine: Engine, act: Callable[[], object]) -> list[tuple[str, list[str]]]:
    """Return the statements that are run, each with the steps of its plan."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if statement.split(maxsplit=1)[0] in ("SELECT", "WITH", "UPDATE", "DELETE"):
            statements.append((statement, values))

    event.listen(engine, "before_cursor_execute", note)
    act()
    event.remove(engine, "before_cursor_execute", note)
    is_sqlite = engine.dialect.name == "sqlite"
    plans = []
    with engine.connect() as connection:
        for statement, values in statements:
            prefix = "EXPLAIN QUERY PLAN " if is_sqlite else "EXPLAIN "
            rows = connection.exec_driver_sql(prefix + statement, values).all()
            plans.append((statement, [str(row[-1]) for row in rows]))
    return plans


def is_scan(step: str) -> bool:
    """Return whether a step of a plan reads a table of ours from its beginning; PostgreSQL reads small ones so."""
    if "Seq Scan on" in step:
        return any(f"Seq Scan on {name}" in step for name in ("batches", "files", "sections"))
    return any(step.startswith(f"SCAN {name}") for name in ("batches", "files", "results")) and "INDEX" not in step


def test_a_batch_and_its_section_go_through_the_stages_as_lines_are_handed_out_and_recorded(fresh: Engine) -> None:
    stores = stores_over(fresh)
    batches, results = stores.batches, stores.results

    def stage() -> list[str | None]:
        with fresh.connect() as connection:
            of_batch = connection.scalar(text("SELECT stage FROM batches WHERE id = 'batch_1'"))
            of_section = connection.scalar(text("SELECT stage FROM sections WHERE batch_id = 'batch_1'"))
            return [of_batch, of_section]

    stores.add_batch()
    seen = [stage()]
    for act in (
        lambda: batches.accept("batch_1", planned(3), NOW),
        lambda: batches.move_cursor("batch_1", 0, 1),
        lambda: results.record([result(0)]),
        lambda: results.record([result(1)]),
        lambda: batches.move_cursor("batch_1", 1, 2),
        lambda: results.record([result(2)]),
        lambda: batches.advance("batch_1", Event.ALL_RECORDED, NOW),
    ):
        act()
        seen.append(stage())

    assert seen == [
        ["validating", None],
        ["in_progress", "new"],
        ["in_progress", "sending"],
        ["in_progress", "sending"],
        ["in_progress", "idle"],
        ["in_progress", "sent"],
        ["recorded", None],
        ["finalizing", None],
    ]
