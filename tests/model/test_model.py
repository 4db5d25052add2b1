"""Random histories of batches against a simple model; HYPOTHESIS_PROFILE=long looks for longer, elsewhere each time."""

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Engine

from app.adapters.db.batch_store import SqlBatchStore
from app.adapters.db.engine import open_engine
from app.adapters.db.file_store import SqlFileStore
from app.adapters.db.key_store import SqlIdempotencyStore
from app.adapters.db.migrate import migrate
from app.adapters.db.result_store import SqlResultStore
from app.adapters.db.trial_store import SqlTrialStore
from tests.fakes.database import MemoryDatabase
from tests.fakes.keys import MemoryIdempotencyStore
from tests.fakes.results import MemoryResultStore
from tests.fakes.stores import MemoryBatchStore, MemoryFileStore
from tests.fakes.trials import MemoryTrialStore
from tests.model.machine import BatchMachine
from tests.model.world import Stores

_COMMON = settings(
    deadline=None,
    database=None,
    print_blob=False,
    # To explain a failure takes longer than to shrink it, and says less than its steps do.
    phases=[Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
PROFILES = {
    "ci": settings(_COMMON, max_examples=50, stateful_step_count=40, derandomize=True),
    "long": settings(_COMMON, max_examples=1_000, stateful_step_count=80),
}
_MEMORY = Path("/dev/shm")
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")

pytestmark = pytest.mark.timeout(300 if PROFILE == "ci" else 7_200)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Let the services log nothing: thousands of histories would."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


def test_every_batch_ends_with_each_line_once_on_fakes() -> None:
    class OnFakes(BatchMachine):
        def open_stores(self) -> Stores:
            database = MemoryDatabase()
            return Stores(
                MemoryFileStore(database),
                MemoryBatchStore(database),
                MemoryResultStore(database),
                MemoryTrialStore(database),
                MemoryIdempotencyStore(database),
            )

    # There a history takes a fifth of the time, so that more of them are looked at.
    many = 4 * PROFILES[PROFILE].max_examples
    run_state_machine_as_test(OnFakes, settings=settings(PROFILES[PROFILE], max_examples=many))


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, where the system has one: no power is cut here, and each commit would wait for the disk."""
    with TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        yield Path(folder)


def test_every_batch_ends_with_each_line_once_on_sqlite(memory: Path) -> None:
    empty, used = memory / "empty.db", memory / "used.db"
    migrated = _open(empty)
    migrate(migrated)
    # Closing the last connection folds the log into the file, which is then all there is to copy.
    migrated.dispose()

    class OnSqlite(BatchMachine):
        def open_stores(self) -> Stores:
            shutil.copyfile(empty, used)
            self.engine = _open(used)
            return Stores(
                SqlFileStore(self.engine),
                SqlBatchStore(self.engine),
                SqlResultStore(self.engine),
                SqlTrialStore(self.engine),
                SqlIdempotencyStore(self.engine),
            )

        def close_stores(self) -> None:
            self.engine.dispose()

    run_state_machine_as_test(OnSqlite, settings=PROFILES[PROFILE])


def _open(path: Path) -> Engine:
    return open_engine(f"sqlite:///{path}")
