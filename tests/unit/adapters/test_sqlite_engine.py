"""How SQLite is opened."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, text

from app.adapters.db.engine import check_writes, open_engine, reading, writing
from app.adapters.db.migrate import migrate
from app.config import database_path, load_settings
from app.domain.errors import Unavailable

_SYNCS_NOT, _SYNCS_EACH_COMMIT = 1, 2
ODD_NAMES = ["100% #1 ?x=y", "a%2Fb", "é @:;'\" ü", "back\\slash", "[brackets]{}", "?", "#", "%"]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'wylon.db'}")
    migrate(engine)
    yield engine
    engine.dispose()


def test_each_connection_syncs_each_commit(engine: Engine) -> None:
    with reading(engine) as one, reading(engine) as other, writing(engine) as third:
        found = [each.execute(text("PRAGMA synchronous")).scalar_one() for each in (one, other, third)]

    assert found == [_SYNCS_EACH_COMMIT] * 3


def test_a_commit_is_synced_also_after_commits_that_need_no_sync(engine: Engine) -> None:
    found = []
    for is_synced in (False, True, False, True):
        with writing(engine, is_synced=is_synced) as connection:
            found.append(connection.execute(text("PRAGMA synchronous")).scalar_one())

    assert found == [_SYNCS_NOT, _SYNCS_EACH_COMMIT] * 2


def test_a_database_that_takes_a_write_is_ready(engine: Engine) -> None:
    check_writes(engine)

    with reading(engine) as connection:
        assert connection.execute(text("SELECT written_at FROM probes")).scalar_one() > 0


def test_a_database_that_can_only_be_read_is_not_ready(engine: Engine) -> None:
    engine.dispose()
    event.listen(engine, "connect", lambda driver, _: driver.execute("PRAGMA query_only=ON"))

    with pytest.raises(Unavailable, match="readonly"):
        check_writes(engine)


def test_a_database_whose_disk_takes_nothing_more_is_not_ready(engine: Engine, tmp_path: Path) -> None:
    engine.dispose()
    for name in ("wylon.db-wal", "wylon.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    # A folder in its place: the log can be neither opened nor written.
    (tmp_path / "wylon.db-wal").mkdir()

    with pytest.raises(Unavailable):
        check_writes(engine)


def test_a_database_that_another_holds_is_unavailable_in_seconds(engine: Engine, tmp_path: Path) -> None:
    holder = sqlite3.connect(tmp_path / "wylon.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    with pytest.raises(Unavailable, match="locked"), writing(engine):
        pass
    holder.close()


def test_a_writer_that_has_waited_long_looks_for_the_lock_as_often_as_a_newcomer(
    engine: Engine, tmp_path: Path
) -> None:
    """SQLite's own waiters look less and less often: newcomers overtake the waiter that came first."""
    looks: list[float] = []

    def note(statement: str) -> None:
        if statement == "BEGIN IMMEDIATE":
            looks.append(time.monotonic())

    engine.dispose()
    event.listen(engine, "connect", lambda driver, _: driver.set_trace_callback(note))
    holder = sqlite3.connect(tmp_path / "wylon.db", isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    release = threading.Timer(1.0, holder.execute, ["COMMIT"])
    release.start()
    with writing(engine):
        pass
    release.join()
    holder.close()

    middle = (looks[0] + looks[-1]) / 2
    late = sum(at > middle for at in looks)
    assert late > len(looks) / 4
    assert late > 20


def test_threads_of_a_process_that_write_at_once_all_get_their_turn(engine: Engine) -> None:
    def add(_: int) -> None:
        with writing(engine) as connection:
            connection.execute(text("UPDATE probes SET written_at = written_at + 1"))

    with writing(engine) as connection:
        connection.execute(text("UPDATE probes SET written_at = 0"))
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(add, range(200)))

    with reading(engine) as connection:
        assert connection.execute(text("SELECT written_at FROM probes")).scalar_one() == 200


def test_a_database_that_was_never_prepared_is_not_ready(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(text("DELETE FROM probes"))

    with pytest.raises(Unavailable, match="wylon migrate"):
        check_writes(engine)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_the_data_folder_may_have_any_name(name: str, tmp_path: Path) -> None:
    data = tmp_path / name
    data.mkdir()
    settings = load_settings({"WYLON_DATA": str(data)})

    engine = open_engine(settings.database_url)
    migrate(engine)
    check_writes(engine)
    engine.dispose()

    assert (data / "wylon.db").stat().st_size > 0
    assert database_path(settings.database_url) == data / "wylon.db"
    assert settings.storage_folder == data / "blobs"
