"""The database away, slow, locked or full."""

import contextlib
import signal
import sqlite3
import time
from collections.abc import Iterator

import psycopg

from tests.chaos import processes
from tests.chaos.faults.registry import fault
from tests.chaos.house import POSTGRESQL, SQLITE
from tests.chaos.scene import Scene
from tests.chaos.wires import Wire

_ON_SQLITE, _ON_POSTGRESQL = frozenset({SQLITE}), frozenset({POSTGRESQL})
# A writer that found the database away pauses up to 5 s, and its commit may wait for others.
_RECORDED_AFTER_S = 7.0
# A file of a running SQLite is larger, and so is a log.
_TINY_BYTES = 512


@contextlib.contextmanager
def _unrecorded(scene: Scene, only: str | None = None) -> Iterator[None]:
    since = time.monotonic()
    before = scene.house.workers()
    yield
    until = time.monotonic() + _RECORDED_AFTER_S
    for name, pid in {*before.items(), *scene.house.workers().items()}:
        if only in (None, name):
            scene.hit(pid, since, until)


@fault("sqlite-busy", databases=_ON_SQLITE)
def sqlite_busy(scene: Scene) -> None:
    # A plan whose batch could not be accepted stays for the sweep of a day later.
    scene.has_crumbs = True
    with _unrecorded(scene), contextlib.closing(_sqlite(scene)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        scene.wait(scene.rng.uniform(5.0, 10.0))
        connection.execute("ROLLBACK")


@fault("sqlite-unwritable-for-worker", databases=_ON_SQLITE)
def sqlite_unwritable_for_worker(scene: Scene) -> None:
    name, pid = scene.pick_worker()
    with _unrecorded(scene, name), processes.file_size_limit(pid, _TINY_BYTES):
        scene.wait(scene.rng.uniform(3.0, 8.0))


@fault("sqlite-unwritable-for-control", databases=_ON_SQLITE)
def sqlite_unwritable_for_control(scene: Scene) -> None:
    with processes.file_size_limit(scene.pid_of("control"), _TINY_BYTES):
        scene.wait(scene.rng.uniform(3.0, 8.0))


@fault("sqlite-unwritable-for-files", databases=_ON_SQLITE)
def sqlite_unwritable_for_files(scene: Scene) -> None:
    scene.has_crumbs = True
    with processes.file_size_limit(scene.pid_of("files"), _TINY_BYTES):
        scene.wait(scene.rng.uniform(3.0, 8.0))


@fault("postgres-restarted", databases=_ON_POSTGRESQL)
def postgres_restarted(scene: Scene) -> None:
    _restart(scene, signal.SIGINT)


@fault("postgres-crashed", databases=_ON_POSTGRESQL)
def postgres_crashed(scene: Scene) -> None:
    _restart(scene, signal.SIGQUIT)


@fault("backends-terminated", databases=_ON_POSTGRESQL)
def backends_terminated(scene: Scene) -> None:
    scene.has_crumbs = True
    with _unrecorded(scene), _postgres(scene) as connection:
        for _ in range(5):
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.6"
            )
            scene.wait(scene.rng.uniform(0.1, 0.6))


@fault("batch-rows-locked", databases=_ON_POSTGRESQL)
def batch_rows_locked(scene: Scene) -> None:
    with _unrecorded(scene), _postgres(scene) as connection, connection.transaction():
        # In the product's order: out of it the harness itself may be the one that is told of a deadlock.
        batch_ids = [batch.id for batch in scene.batches]
        of_batches = "SELECT 1 FROM sections WHERE batch_id = ANY(%s) ORDER BY batch_id, number FOR UPDATE"
        connection.execute(of_batches, [batch_ids])
        connection.execute("SELECT 1 FROM batches WHERE id = ANY(%s) ORDER BY id FOR UPDATE", [batch_ids])
        scene.wait(scene.rng.uniform(3.0, 8.0))


@fault("results-locked", databases=_ON_POSTGRESQL)
def results_locked(scene: Scene) -> None:
    with _unrecorded(scene), _postgres(scene) as connection, connection.transaction():
        connection.execute("LOCK TABLE segments IN EXCLUSIVE MODE")
        scene.wait(scene.rng.uniform(3.0, 8.0))


@fault("locks-crossed", databases=_ON_POSTGRESQL)
def locks_crossed(scene: Scene) -> None:
    """Locks taken in the order that the product does not use: whoever meets them may be told of a deadlock."""
    with _unrecorded(scene):
        until = time.monotonic() + scene.rng.uniform(3.0, 6.0)
        while time.monotonic() < until:
            with contextlib.suppress(psycopg.Error), _postgres(scene) as connection, connection.transaction():
                connection.execute("LOCK TABLE segments IN SHARE ROW EXCLUSIVE MODE")
                scene.wait(0.1)
                for batch in sorted(scene.batches, key=lambda batch: batch.id, reverse=True):
                    connection.execute("SELECT 1 FROM batches WHERE id = %s FOR UPDATE", [batch.id])
                    connection.execute("SELECT 1 FROM sections WHERE batch_id = %s FOR UPDATE", [batch.id])
            scene.wait(0.2)


@fault("cut-database-from-worker", databases=_ON_POSTGRESQL)
def cut_database_from_worker(scene: Scene) -> None:
    with _unrecorded(scene, scene.extra_worker):
        _cut(scene, scene.house.worker_database, is_reset=True)


@fault("silence-database-from-worker", databases=_ON_POSTGRESQL)
def silence_database_from_worker(scene: Scene) -> None:
    with _unrecorded(scene, scene.extra_worker):
        _cut(scene, scene.house.worker_database, is_reset=False)


@fault("cut-database-from-all", databases=_ON_POSTGRESQL)
def cut_database_from_all(scene: Scene) -> None:
    scene.has_crumbs = True
    with _unrecorded(scene):
        _cut(scene, scene.house.house_database, is_reset=True)


@fault("kill-worker-without-database", databases=_ON_POSTGRESQL)
def kill_worker_without_database(scene: Scene) -> None:
    """What it had answered since the cut is lost with it."""
    with _unrecorded(scene, scene.extra_worker):
        scene.house.worker_database.cut()
        try:
            scene.wait(2.0)
            scene.kill(scene.extra_worker)
        finally:
            scene.house.worker_database.heal()


def _restart(scene: Scene, number: signal.Signals) -> None:
    postgres = scene.house.postgres
    assert postgres is not None
    scene.has_crumbs = True
    with _unrecorded(scene):
        postgres.stop(number)
        scene.wait(scene.rng.uniform(0.0, 4.0))
        postgres.start()


def _cut(scene: Scene, wire: Wire, *, is_reset: bool) -> None:
    if is_reset:
        wire.cut()
    else:
        wire.hold()
    try:
        scene.wait(scene.cut_s)
    finally:
        wire.heal()


def _sqlite(scene: Scene) -> sqlite3.Connection:
    return sqlite3.connect(scene.house.data / "wylon.db", timeout=20, isolation_level=None)


def _postgres(scene: Scene) -> psycopg.Connection:
    assert scene.house.postgres is not None
    return scene.house.postgres.connect()
